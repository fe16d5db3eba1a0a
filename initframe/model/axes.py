"""What a tensor's dimensions mean where a rule says it: outputs, inputs, a kernel, or a batch of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from initframe.errors import Problem, ResolveError
from initframe.model.fans import Fans, Meaning
from initframe.model.slot import Slot

ORDER = ("out", "in", "kernel")
"""The order of a member's dimensions, as torch's layers have it."""

_KERNELS = {f"{kind}{n}d": n for kind in ("Conv", "ConvTranspose") for n in (1, 2, 3)}
"""The number of kernel dimensions of torch's convolutions."""


def axis_fans(shape: Sequence[int], axes: Sequence[str], how: Meaning) -> Fans | None:
    """Count the fans of one member of a batch: inputs × kernel, and outputs × kernel.

    Args:
        shape: the whole tensor's.
        axes: one word per dimension.
        how: groups and stride of the convolution whose weights are stacked, if any.

    Returns:
        Both counts; ``None`` if the words name no inputs or no outputs.

    >>> axis_fans((8, 64, 32), ("batch", "out", "in"), Meaning())[:2]
    (32, 64)
    >>> axis_fans((3, 3, 16, 64), ("kernel", "kernel", "in", "out"), Meaning())[:2]
    (144, 576)
    """
    if not {"out", "in"} <= set(axes):
        return None
    outputs, inputs, kernel = (_product(shape, axes, word) for word in ORDER)
    fan_in, fan_out = inputs * kernel, outputs * kernel
    return Fans(fan_in, fan_out, fan_in, fan_out / how.groups if how.groups > 1 else fan_out, how)


def with_axes(slot: Slot, axes: tuple[str, ...], weight: Slot | None = None) -> Slot:
    """Return the slot with fans and output axis as the words say.

    Args:
        slot: the tensor.
        axes: one word per dimension.
        weight: the weight of its layer, read by axes of its own, if the tensor is a bias.

    Returns:
        The slot itself if it is a convolution's weight that torch reads the same way.

    Raises:
        ResolveError: the words are more or fewer than the dimensions, or the convolution that owns the tensor reads it
            in another way.

    >>> with_axes(Slot("experts.w", (8, 64, 32)), ("batch", "out", "in")).fan_in
    32
    """
    if len(axes) != slot.ndim:
        fact = f"axes has {len(axes)} words for {slot.ndim} dimensions, {list(slot.shape)}."
        raise ResolveError(Problem("", fact, fix=f"Write one word per dimension, or add where: ndim == {len(axes)}."))
    if owner := convolution_axes(slot):
        if axes == owner:
            return slot
        fact = f"axes [{', '.join(axes)}] contradict {slot.layer}, which reads [{', '.join(owner)}]."
        raise ResolveError(Problem("", fact, fix="Leave axes out, or exclude it."))
    how = Meaning(groups=slot.meaning.groups)
    count = axis_fans(slot.shape, axes, how)
    if count is None and weight is not None:
        return replace(slot, axes=axes, fused=1, **fan_fields(weight))
    found: dict[str, Any] = dict.fromkeys(_FANS) if count is None else dict(zip(_FANS, count, strict=False))
    return replace(slot, axes=axes, fused=1, meaning=how, **found)


def fan_fields(slot: Slot) -> dict[str, Any]:
    """Return the four fans of a slot, by field.

    >>> fan_fields(Slot("w", (2, 3), fan_in=3))["fan_in"]
    3
    """
    return {name: getattr(slot, name) for name in _FANS}


def without_fans(slot: Slot) -> Slot:
    """Return the slot as if nothing were known of its fans.

    >>> without_fans(Slot("w", (2, 3), fan_in=3, fan_out=2)).fan_in is None
    True
    """
    nothing: dict[str, Any] = dict.fromkeys(_FANS)
    return replace(slot, **nothing)


def convolution_axes(slot: Slot) -> tuple[str, ...]:
    """Return how the torch convolution that owns a weight reads it; empty if none does.

    >>> convolution_axes(Slot("0.weight", (4, 2, 3), layer="ConvTranspose1d"))
    ('in', 'out', 'kernel')
    """
    kernel = _KERNELS.get(slot.layer or "", -1)
    if slot.ndim != kernel + 2:
        return ()
    first = ("in", "out") if slot.layer and slot.layer.startswith("ConvTranspose") else ("out", "in")
    return (*first, *["kernel"] * kernel)


def is_unexplained(slot: Slot) -> bool:
    """Tell whether nobody says what the dimensions of a tensor mean: three or more, no convolution, no axes.

    >>> is_unexplained(Slot("experts.w", (8, 64, 32))), is_unexplained(Slot("fc.weight", (64, 32)))
    (True, False)
    """
    return len(slot.shape) >= 3 and not slot.axes and not convolution_axes(slot)


def member(slot: Slot) -> Slot:
    r"""Return one member of a batch as a slot of its own, (out, in, \*kernel) as torch has it.

    >>> member(with_axes(Slot("w", (3, 3, 16, 64)), ("kernel", "kernel", "in", "out"))).shape
    (64, 16, 3, 3)
    """
    return replace(slot, shape=member_shape(slot.shape, slot.axes), axes=())


def member_shape(shape: Sequence[int], axes: Sequence[str]) -> tuple[int, ...]:
    """Return the shape of one member: all outputs, all inputs, then the kernel.

    >>> member_shape((8, 64, 32), ("batch", "out", "in"))
    (64, 32)
    >>> member_shape((8, 64), ("batch", "out"))
    (64,)
    """
    flat = tuple(_product(shape, axes, word) for word in ("out", "in") if word in axes)
    return (*flat, *(size for size, word in zip(shape, axes, strict=True) if word == "kernel"))


_FANS = ("fan_in", "fan_out", "effective_fan_in", "effective_fan_out")


def _product(shape: Sequence[int], axes: Sequence[str], word: str) -> int:
    return math.prod(size for size, axis in zip(shape, axes, strict=True) if axis == word)
