"""The gain of a nonlinearity: what keeps a signal's second moment when it passes through.

If torch.nn.init.calculate_gain has a value, this is torch's (even if it differs from the computed one: tanh 5/3
against 1.5925, sigmoid 1 against 1.8462, selu 3/4 against 1). Everywhere else it is E[f(z)²]^-½ with z ~ N(0, 1).
"""

from __future__ import annotations

import math

_TORCH = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4,
}

# E[f(z)²]^-½ in float64; tests/initializers/test_gains.py integrates them again.
_COMPUTED = {
    "identity": 1.0,
    "celu": 1.2451983007007066,
    "elu": 1.2451983007007066,
    "gelu": 1.533530441195535,
    "gelu_tanh": 1.5335805216661467,
    "hardsigmoid": 1.8978404247295588,
    "hardswish": 1.7366572127665414,
    "mish": 1.486847581273208,
    "relu2": math.sqrt(2 / 3),
    "relu6": 1.4142135650950736,
    "silu": 1.676532470331091,
    "sin": math.sqrt(2 / (1 - math.exp(-2))),
    "softplus": 1.0418668355353016,
    "swish": 1.676532470331091,
}


class LeakyReLU(float):
    """leaky_relu's gain √(2/(1+a²)): a number at torch's slope 0.01, and a function of any other slope.

    >>> GAINS["leaky_relu"](0.0) == GAINS["relu"]
    True
    """

    def __new__(cls) -> LeakyReLU:
        """The number is the gain at slope 0.01."""
        return super().__new__(cls, leaky_relu(0.01))

    def __call__(self, a: float) -> float:
        """The gain at slope ``a``."""
        return leaky_relu(a)


def leaky_relu(a: float) -> float:
    """√(2/(1+a²)), the gain of max(x, a·x) (He et al. 2015; torch/nn/init.py).

    >>> leaky_relu(1.0)
    1.0
    """
    return math.sqrt(2.0 / (1 + a**2))


GAINS: dict[str, float] = {**_TORCH, **_COMPUTED, "leaky_relu": LeakyReLU()}
