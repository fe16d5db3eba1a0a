"""What torch's own layers do to their tensors, as an initializer."""

from __future__ import annotations

import math
from collections.abc import Callable

from initframe.fills import Constant, Fill, Normal, Uniform
from initframe.initializers.demands import refuse
from initframe.initializers.gains import leaky_relu
from initframe.initializers.table import initializer
from initframe.initializers.variance import scaled
from initframe.model.slot import Slot

Default = Callable[[Slot], Fill]


def _fan_in(slot: Slot) -> Fill:
    """kaiming_uniform(a=√5), which is U(±1/√fan_in): the weights of Linear and the convolutions."""
    return scaled(slot, leaky_relu(math.sqrt(5)), "fan_in", "uniform")


def _fan_in_bias(slot: Slot) -> Fill:
    """U(±1/√fan_in) with the fan_in of the layer's weight."""
    if slot.fan_in is None:
        raise refuse("its layer's bias follows the fan_in of a weight that is not there.")
    return _within(1 / math.sqrt(slot.fan_in) if slot.fan_in else 0.0)


def _hidden(slot: Slot) -> Fill:
    """U(±1/√hidden_size): every tensor of a recurrent layer."""
    return _within(1 / math.sqrt(slot.settings["hidden_size"]))


def _bilinear(slot: Slot) -> Fill:
    """U(±1/√in1_features)."""
    return _within(1 / math.sqrt(slot.settings["in1_features"]))


def _within(bound: float) -> Fill:
    return Uniform(-bound, bound)


def _constant(value: float) -> Default:
    return lambda _: Constant(value)


def _xavier(distribution: str) -> Default:
    return lambda slot: scaled(slot, 1.0, "fan_avg", distribution)


def _table(_: Slot) -> Fill:
    """N(0, 1): the table of an embedding."""
    return Normal(0.0, 1.0)


_PROJECTION: dict[str, Default] = {"weight": _fan_in, "bias": _fan_in_bias}
_RECURRENT: dict[str, Default] = {"*": _hidden}
_EMBEDDING: dict[str, Default] = {"weight": _table}
_NORM: dict[str, Default] = {
    "weight": _constant(1.0),
    "bias": _constant(0.0),
    "running_mean": _constant(0.0),
    "running_var": _constant(1.0),
    "num_batches_tracked": _constant(0.0),
}

_ITS_OWN = "Use init: constructor, which does what its constructor does; or give it a rule of its own, or keep."

_ATTENTION_OUTPUT = "NonDynamicallyQuantizableLinear"
"""The class of MultiheadAttention's out_proj, a Linear that torch.nn does not show."""

# By class of torch.nn, then by attribute ("*" is any). Sources: torch/nn/modules/*.py, each reset_parameters.
_DEFAULTS: dict[str, dict[str, Default]] = {
    **dict.fromkeys(("Linear", "Conv1d", "Conv2d", "Conv3d"), _PROJECTION),
    **dict.fromkeys(("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"), _PROJECTION),
    **dict.fromkeys(("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"), _RECURRENT),
    **dict.fromkeys(("Embedding", "EmbeddingBag"), _EMBEDDING),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"), _NORM),
    **dict.fromkeys(("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"), _NORM),
    **dict.fromkeys(("LayerNorm", "GroupNorm", "RMSNorm"), _NORM),
    _ATTENTION_OUTPUT: {"weight": _fan_in, "bias": _constant(0.0)},
    "Bilinear": {"weight": _bilinear, "bias": _bilinear},
    "PReLU": {"weight": lambda slot: Constant(slot.settings.get("init", 0.25))},
    "MultiheadAttention": {
        **dict.fromkeys(("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"), _xavier("uniform")),
        "in_proj_bias": _constant(0.0),
        **dict.fromkeys(("bias_k", "bias_v"), _xavier("normal")),
    },
}


@initializer("torch_default")
def torch_default(slot: Slot) -> Fill:
    """What the owning torch layer does by itself in ``reset_parameters`` (torch/nn/modules/*.py).

    Use it to get torch's own initialization, with numbers that are the same on every machine. A class that derives from
    a torch layer and sets a tensor by its own code is refused, and so is an embedding that is not trained: its table
    (sinusoids, ready-made vectors) was computed by somebody else.

    Linear and convolutions U(±1/√fan_in), weights and biases alike; recurrent layers U(±1/√hidden_size); embeddings
    N(0, 1); norms 1 and 0; attention xavier_uniform on its input projections and 0 on its biases.

    Args:
        slot: a tensor of a torch layer, or of a class derived from one.

    Returns:
        The layer's own fill.

    Raises:
        ResolveError: the layer is no torch layer, does not set this tensor, or is derived and sets it by its own code;
            or the tensor is the table of an embedding that is not trained.

    >>> str(torch_default(Slot("w.weight", (2, 4), layer="Linear", fan_in=4, fan_out=2)))
    'uniform(±0.5)'
    """
    layer = _ATTENTION_OUTPUT if _ATTENTION_OUTPUT in slot.module_types else slot.layer
    defaults = _DEFAULTS.get(layer or "", {})
    default = defaults.get(slot.attribute, defaults.get("*"))
    if default is None:
        owner = slot.module_types[0] if slot.module_types else "a plain tensor"
        raise refuse(
            f"torch_default knows no distribution for {slot.attribute!r} of {owner}: it is no torch layer's own "
            "tensor.",
            "Give it a rule of its own, or keep.",
        )
    if slot.set_by:
        raise refuse(f"{slot.set_by} sets {slot.attribute!r} by its own code, not by torch.nn.{layer}'s.", _ITS_OWN)
    if default is _table and not slot.requires_grad:
        fact = "it is an embedding that is not trained: its table may be computed (sinusoids) rather than drawn."
        raise refuse(fact, f"If it was only frozen, fill it first, then freeze it. {_ITS_OWN}")
    return default(slot)
