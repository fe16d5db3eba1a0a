"""Fans: how many inputs meet in an output, by torch's count and by the layer's meaning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

_GATES = {"LSTM": 4, "LSTMCell": 4, "GRU": 3, "GRUCell": 3}


class Fans(NamedTuple):
    """Both counts for one tensor.

    Attributes:
        fan_in: torch's count of the inputs.
        fan_out: torch's count of the outputs.
        effective_in: the inputs that are summed into one output element.
        effective_out: the output elements that one input element reaches.
        how: how the layer reads the weight; for stacked weights, the effective counts are those of one.
    """

    fan_in: int
    fan_out: int
    effective_in: float
    effective_out: float
    how: Meaning


@dataclass(frozen=True, slots=True)
class Meaning:
    """How a layer reads a weight of shape (outputs, inputs, *kernel).

    Attributes:
        groups: into how many groups the channels fall that do not see each other.
        stride: the product of the strides of a transposed convolution: only every stride-th product of a
            kernel meets in one output element.
        blocks: how many equal weights are stacked along the outputs (gates; query, key and value).
        transposed: whether the shape is (inputs, outputs, *kernel).
    """

    groups: int = 1
    stride: int = 1
    blocks: int = 1
    transposed: bool = False


PLAIN = Meaning()
"""Shape (outputs, inputs, *kernel), and every output sees all inputs."""


def meaning(layer: str | None, attribute: str, groups: int = 1, stride: Sequence[int] = ()) -> Meaning:
    """Say how a layer reads one of its weights.

    Args:
        layer: the class of torch.nn, or ``"Conv1D"`` for the transformers library's transposed Linear.
        attribute: the weight's name inside the layer.
        groups: the layer's groups.
        stride: the layer's stride, one number per dimension.

    Returns:
        The meaning; the plain one for layers that are not known.

    >>> meaning("LSTM", "weight_ih_l0").blocks
    4
    >>> meaning("ConvTranspose2d", "weight", stride=(2, 2))
    Meaning(groups=1, stride=4, blocks=1, transposed=True)
    """
    if layer is None:
        return PLAIN
    if attribute == "weight":
        if layer.startswith("ConvTranspose"):
            return Meaning(groups=groups, stride=math.prod(stride), transposed=True)
        if layer in ("Conv1d", "Conv2d", "Conv3d"):
            return Meaning(groups=groups)
        return Meaning(transposed=layer == "Conv1D")
    if layer == "MultiheadAttention" and attribute == "in_proj_weight":
        return Meaning(blocks=3)
    if attribute.startswith(("weight_ih", "weight_hh")):
        return Meaning(blocks=_GATES.get(layer, 1))
    return PLAIN


@lru_cache(maxsize=1024)  # models repeat their layers
def layer_fans(
    layer: str | None, attribute: str, shape: tuple[int, ...], groups: int, stride: tuple[int, ...]
) -> Fans | None:
    """Count the fans of a layer's weight: ``fans`` of its shape and :func:`meaning`, remembered.

    >>> layer_fans("Linear", "weight", (3, 5), groups=1, stride=()).fan_in
    5
    """
    return fans(shape, meaning(layer, attribute, groups, stride))


def fans(shape: Sequence[int], how: Meaning = PLAIN) -> Fans | None:
    r"""Count a weight's fans from its global shape.

    torch (``torch.nn.init._calculate_fan_in_and_fan_out``) reads every shape as (o, i, \*kernel). The effective
    counts follow from what the layer computes: a convolution of shape (o, i/g, \*k) with K = prod(k) sums i/g·K
    inputs and an input reaches o/g·K outputs; a transposed one of shape (i, o/g, \*k) with stride product s sums
    i/g·K/s and reaches o/g·K; stacked weights count one by one. Bilinear and Embedding keep torch's counts.

    Args:
        shape: the weight's shape, never a shard's.
        how: what the layer does with it.

    Returns:
        Both counts, or ``None`` for fewer than two dimensions.

    >>> fans((64, 8, 3, 3), Meaning(groups=8))[:4]
    (72, 576, 72, 72)
    >>> fans((64, 32, 4, 4), Meaning(stride=4, transposed=True))[:4]
    (512, 1024, 256, 512)
    """
    if len(shape) < 2:
        return None
    first, second, kernel = shape[0], shape[1], math.prod(shape[2:])
    fan_in, fan_out = second * kernel, first * kernel
    if how.transposed:
        return Fans(fan_in, fan_out, _ratio(fan_out, how.groups * how.stride), fan_in, how)
    return Fans(fan_in, fan_out, fan_in, _ratio(fan_out, how.groups * how.blocks), how)


@lru_cache(maxsize=1024)
def weight_of_bias(name: str) -> str:
    """Name the weight that a bias belongs to; any other name is returned as it is.

    >>> weight_of_bias("rnn.bias_ih_l0"), weight_of_bias("scale")
    ('rnn.weight_ih_l0', 'scale')
    """
    prefix, dot, attribute = name.rpartition(".")
    return prefix + dot + "weight".join(attribute.rsplit("bias", 1))


def weights_of_bias(name: str) -> tuple[str, ...]:
    """Name the weights that a bias may belong to: ``up_bias`` stands next to ``up_weight`` or ``up``.

    >>> weights_of_bias("experts.up_bias"), weights_of_bias("scale")
    (('experts.up_weight', 'experts.up'), ())
    """
    attribute = name.rpartition(".")[2]
    if "bias" not in attribute:
        return ()
    short = (name.removesuffix("_bias"),) if attribute.endswith("_bias") and attribute != "_bias" else ()
    return (weight_of_bias(name), *short)


def _ratio(count: int, parts: int) -> float:
    """Divide, as an int where it is one."""
    return count // parts if count % parts == 0 else count / parts
