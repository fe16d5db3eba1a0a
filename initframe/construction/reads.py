"""What is known of the values that a tensor holds now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from initframe.construction import values as v
from initframe.construction.boxes import apart, box_of, geometry, is_all
from initframe.construction.recorder import Recorder
from initframe.construction.values import Drawn, Known, Number, Real, Unreadable, Value, Whole

_MIXED = Unreadable("it is computed from a tensor that was written in parts")


def of(recorder: Recorder, operand: Any) -> Value:
    """Read an operand: a number, or a tensor.

    Args:
        recorder: what was noted so far.
        operand: of an operation.
    """
    if isinstance(operand, Tensor):
        if operand.is_complex():
            return Unreadable("complex numbers are used")
        found = read(recorder, operand)
        if isinstance(found, Real) and operand.numel() == 1 and not operand.is_meta:
            return Number(float(operand.item()))
        return found
    return Number(float(operand)) if isinstance(operand, int | float) else Unreadable("complex numbers are used")


def read(recorder: Recorder, tensor: Tensor) -> Value:
    """Give the value of a tensor, whatever view of a storage it is."""
    history = recorder.history(tensor)
    if history is None:
        if tensor.is_meta:
            return Unreadable("nothing is known of the values that it comes from")
        return recorder.unrecorded(tensor)
    if history.parts:
        here = geometry(tensor)
        for part in reversed(history.parts):
            if part.where == here:
                return part.value
            if not apart(part.where, here):
                known = (history.value, *(p.value for p in history.parts))
                if all(isinstance(value, Real | Number | Known) for value in known) and not tensor.is_meta:
                    return v.REAL
                return next((value for value in known if isinstance(value, Unreadable)), _MIXED)
    value = history.value
    if isinstance(value, Drawn | Whole) and not _is_dense(tensor):
        return Unreadable("one draw is repeated over several elements")
    if is_all(tensor) or isinstance(value, Number | Real | Unreadable | None):
        return value
    if isinstance(value, Known):
        where, whole = geometry(tensor), value.values
        return Known(whole.as_strided(where.shape, where.strides, where.offset)) if whole.is_contiguous() else _MIXED
    if isinstance(value, Whole):
        return Unreadable(f"a part of {value.fill.kind} is used")
    return value


def _is_dense(tensor: Tensor) -> bool:
    """Whether no element of a view is seen twice."""
    return all(stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1)


def pieces(recorder: Recorder, tensor: Tensor) -> Sequence[tuple[tuple[slice, ...], Value]] | None:
    """Give what was written to a tensor in parts, as slices; ``None`` if it was written whole, or not by slices."""
    history = recorder.history(tensor)
    if history is None or not history.parts:
        return None
    here = geometry(tensor)
    found: list[tuple[tuple[slice, ...], Value]] = [] if history.value is None else [((), history.value)]
    for part in history.parts:
        box = box_of(part.where, here)
        if box is None:
            return None
        found.append((tuple(slice(a, b) for a, b in box), part.value))
    return found
