"""Variance scaling: one kernel behind xavier, kaiming and lecun."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from initframe.errors import closest
from initframe.fills import Fill, Normal, TruncatedNormal, Uniform
from initframe.initializers.demands import demand_fans, demand_not_negative, refuse
from initframe.initializers.gains import GAINS, leaky_relu
from initframe.initializers.table import initializer
from initframe.model.slot import Slot

Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
Distribution = Literal["uniform", "normal", "truncated_normal"]

# The std by mode. The order of operations is torch.nn.init's own, so that generator="torch" gives its bits.
_STD: dict[str, Callable[[float, float, float], float]] = {
    "fan_in": lambda gain, fan_in, fan_out: gain / math.sqrt(fan_in),
    "fan_out": lambda gain, fan_in, fan_out: gain / math.sqrt(fan_out),
    "fan_avg": lambda gain, fan_in, fan_out: gain * math.sqrt(2.0 / float(fan_in + fan_out)),
    "fan_geo_avg": lambda gain, fan_in, fan_out: gain / math.sqrt(math.sqrt(fan_in * fan_out)),
}

TRUNCATED_STD = 0.87962566103423978
"""The std of N(0, 1) cut to ±2; JAX and Keras divide by it so that the truncated normal has the requested std."""


def scaled(slot: Slot, gain: float, mode: str, distribution: str) -> Fill:
    """Return a fill of std ``gain / √n``; ``mode`` says which fan n is.

    Args:
        slot: a tensor of at least two dimensions.
        gain: multiplies the std; the gain² of JAX's ``scale``.
        mode: ``fan_in``, ``fan_out``, their mean ``fan_avg`` or their geometric mean ``fan_geo_avg``.
        distribution: ``uniform`` (±√3·std), ``normal``, or ``truncated_normal`` (cut at ±2σ, σ corrected as in JAX).

    Returns:
        The fill.

    Raises:
        ResolveError: the tensor has no fans, or gain is negative.

    >>> scaled(Slot("w", (4, 12), fan_in=12, fan_out=4), 1.0, "fan_avg", "normal").std
    0.3535533905932738
    """
    fan_in, fan_out = demand_fans(slot)
    if not gain >= 0:
        demand_not_negative(gain=gain)
    std = _STD[mode](gain, fan_in, fan_out)
    if distribution == "uniform":
        bound = math.sqrt(3.0) * std
        return Uniform(-bound, bound)
    if distribution == "normal":
        return Normal(0.0, std)
    sigma = std / TRUNCATED_STD
    return TruncatedNormal(0.0, sigma, -2 * sigma, 2 * sigma)


@initializer("variance_scaling")
def variance_scaling(
    slot: Slot, *, scale: float = 1.0, mode: Mode = "fan_in", distribution: Distribution = "truncated_normal"
) -> Fill:
    """Variance ``scale / n``, as JAX and Keras have it (jax/_src/nn/initializers.py, variance_scaling).

    Use it to write what JAX, Flax or Keras call variance scaling, under their names.

    Args:
        slot: a tensor of at least two dimensions.
        scale: multiplies the variance (a gain squared), ≥ 0.
        mode: what n is: ``fan_in``, ``fan_out``, ``fan_avg`` or ``fan_geo_avg``.
        distribution: ``truncated_normal`` (±2σ, σ = √(scale/n)/0.8796), ``normal`` (untruncated) or ``uniform``.

    Returns:
        A fill whose population std is √(scale/n).

    Raises:
        ResolveError: fewer than two dimensions, or a negative scale.

    >>> variance_scaling(Slot("w", (4, 16), fan_in=16, fan_out=4)).std
    0.25
    """
    demand_not_negative(scale=scale)
    return scaled(slot, math.sqrt(scale), mode, distribution)


@initializer("xavier_uniform")
def xavier_uniform(slot: Slot, *, gain: float = 1.0) -> Fill:
    """U(±gain·√(6/(fan_in+fan_out))) (Glorot & Bengio 2010; torch/nn/init.py).

    Use it for tanh and linear layers, and with a gain for ReLUs; transformers take it for projections.

    Args:
        slot: a tensor of at least two dimensions.
        gain: multiplies the std, ≥ 0; by name (``relu``) in a recipe.

    Returns:
        A uniform fill of std gain·√(2/(fan_in+fan_out)).

    Raises:
        ResolveError: fewer than two dimensions, or a negative gain.

    >>> str(xavier_uniform(Slot("w", (3, 3), fan_in=3, fan_out=3)))
    'uniform(±1)'
    """
    return scaled(slot, gain, "fan_avg", "uniform")


@initializer("xavier_normal")
def xavier_normal(slot: Slot, *, gain: float = 1.0) -> Fill:
    """N(0, gain²·2/(fan_in+fan_out)) (Glorot & Bengio 2010; torch/nn/init.py).

    Use it as ``xavier_uniform``, with normal weights.

    Args:
        slot: a tensor of at least two dimensions.
        gain: multiplies the std, ≥ 0; by name (``relu``) in a recipe.

    Returns:
        A normal fill of std gain·√(2/(fan_in+fan_out)), untruncated.

    Raises:
        ResolveError: fewer than two dimensions, or a negative gain.

    >>> xavier_normal(Slot("w", (4, 4), fan_in=4, fan_out=4)).std
    0.5
    """
    return scaled(slot, gain, "fan_avg", "normal")


@initializer("kaiming_uniform")
def kaiming_uniform(slot: Slot, *, a: float = 0.0, mode: Mode = "fan_in", nonlinearity: str = "leaky_relu") -> Fill:
    """U(±√3·gain/√fan) with the gain of ``nonlinearity`` (He et al. 2015; torch/nn/init.py).

    Use it for ReLU networks with uniform weights.

    Args:
        slot: a tensor of at least two dimensions.
        a: the negative slope of ``leaky_relu``; ignored for others.
        mode: ``fan_in`` keeps the forward signal's variance, ``fan_out`` the gradient's.
        nonlinearity: the name of the nonlinearity that follows; torch's default, leaky_relu with a = 0, is relu.

    Returns:
        A uniform fill of std gain/√fan.

    Raises:
        ResolveError: fewer than two dimensions, or an unknown nonlinearity.

    >>> kaiming_uniform(Slot("w", (2, 6), fan_in=6, fan_out=2)).high
    1.0
    """
    return scaled(slot, nonlinearity_gain(nonlinearity, a), mode, "uniform")


@initializer("kaiming_normal")
def kaiming_normal(slot: Slot, *, a: float = 0.0, mode: Mode = "fan_in", nonlinearity: str = "leaky_relu") -> Fill:
    """N(0, gain²/fan) with the gain of ``nonlinearity`` (He et al. 2015; torch/nn/init.py).

    Use it for ReLU networks: ``fan_in`` keeps the signal's size, ``fan_out`` the gradient's, as ResNets have it.

    Args:
        slot: a tensor of at least two dimensions.
        a: the negative slope of ``leaky_relu``; ignored for others.
        mode: ``fan_in`` keeps the forward signal's variance, ``fan_out`` the gradient's.
        nonlinearity: the name of the nonlinearity that follows; torch's default, leaky_relu with a = 0, is relu.

    Returns:
        A normal fill of std gain/√fan, untruncated.

    Raises:
        ResolveError: fewer than two dimensions, or an unknown nonlinearity.

    >>> kaiming_normal(Slot("w", (2, 8), fan_in=8, fan_out=2)).std
    0.5
    """
    return scaled(slot, nonlinearity_gain(nonlinearity, a), mode, "normal")


@initializer("lecun_uniform")
def lecun_uniform(slot: Slot) -> Fill:
    """U(±√(3/fan_in)): variance 1/fan_in (LeCun et al. 1998; jax/_src/nn/initializers.py).

    Use it for SELU networks and linear layers with uniform weights.

    >>> lecun_uniform(Slot("w", (2, 3), fan_in=3, fan_out=2)).high
    1.0
    """
    return scaled(slot, 1.0, "fan_in", "uniform")


@initializer("lecun_normal")
def lecun_normal(slot: Slot) -> Fill:
    """Normal cut at ±2σ, of variance 1/fan_in after the cut (LeCun et al. 1998; jax/_src/nn/initializers.py).

    Use it for SELU networks (Klambauer et al. 2017) and for patches of Vision Transformers, as JAX and timm do.

    >>> round(lecun_normal(Slot("w", (2, 4), fan_in=4, fan_out=2)).std, 12)
    0.5
    """
    return scaled(slot, 1.0, "fan_in", "truncated_normal")


def nonlinearity_gain(nonlinearity: str, a: float) -> float:
    """Return the gain of a nonlinearity by name; ``a`` is leaky_relu's slope.

    Raises:
        ResolveError: the name is unknown; the message has the closest ones.

    >>> nonlinearity_gain("leaky_relu", 0.0) == nonlinearity_gain("relu", 0.0)
    True
    """
    if nonlinearity == "leaky_relu":
        return leaky_relu(a)
    if nonlinearity not in GAINS:
        raise refuse(f"unknown nonlinearity {nonlinearity!r}.", options=closest(nonlinearity, GAINS))
    return float(GAINS[nonlinearity])
