"""From the history of a parameter's memory to what its constructor does to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from initframe.construction.boxes import Box, Geometry, apart, assemble, box_of, geometry
from initframe.construction.distributions import fill_of, shortest
from initframe.construction.recorder import History, Part, held
from initframe.construction.values import Drawn, Known, Number, Unreadable, Value, Whole, draws
from initframe.fills import Constant, Fill, Identity, Orthogonal
from initframe.fills.constructed import Constructed
from initframe.fills.table import table

NOTHING = "nothing is written to it: it would hold what its memory held before"
UNSEEN = "nothing was recorded of it: it was made by a thread that had started before, or not by calls of torch"


def constructed(tensor: Tensor, history: History | None) -> Constructed:
    """Say what a constructor did to a parameter.

    Args:
        tensor: the parameter.
        history: of its storage.
    """
    shape = tuple(tensor.shape)
    if history is None:
        return Constructed(shape, reason=UNSEEN)
    origin = history.place and history.place.origin(history.overwritten)
    fill = _fill(tensor, history.value, history.parts) if tensor.is_meta else _fill(tensor, *_kept(tensor, history))
    if isinstance(fill, str):
        return Constructed(shape, reason=fill, origin=origin)
    drawn = frozenset().union(*(draws(value) for value in (history.value, *(p.value for p in history.parts))))
    return Constructed(shape, fill, "", origin, drawn)


def _kept(tensor: Tensor, history: History) -> tuple[Value, Sequence[Part]]:
    """What was written to real memory, with the values that are in it where they were computed."""
    parts = [part._replace(value=held(part.value, tensor, part.where)) for part in history.parts]
    return held(history.value, tensor), parts


def _fill(tensor: Tensor, value: Value, written: Sequence[Part]) -> Fill | str:
    where = geometry(tensor)
    if not written:
        return _of_value(value, where, tensor.dtype)
    parts: list[tuple[Box, Fill]] = []
    for part in written:
        box = box_of(part.where, where)
        if box is None and apart(part.where, where):
            continue
        if box is None:
            return "a part of it is written that is no block of it"
        fill = _of_value(part.value, _of_box(box, where), tensor.dtype)
        if isinstance(fill, str):
            return fill
        parts.append((box, fill))
    several = [n for one in (value, *(p.value for p in written)) for n in draws(one)]
    if len(several) > len(set(several)):
        return "one draw stands in several parts of it"
    base = None if value is None else _of_value(value, where, tensor.dtype)
    if isinstance(base, str):
        if _covered(parts, where.shape):
            base = None
        else:
            return base
    return assemble(where.shape, base, parts)


def _covered(parts: Sequence[tuple[Box, Fill]], shape: tuple[int, ...]) -> bool:
    """Whether parts reach every element, if none of them overlap."""
    return sum(math.prod(b - a for a, b in box) for box, _ in parts) >= math.prod(shape)


def _of_box(box: Box, where: Geometry) -> Geometry:
    ahead = sum(a * stride for (a, _), stride in zip(box, where.strides, strict=True))
    return Geometry(tuple(b - a for a, b in box), where.strides, where.offset + ahead)


def _of_value(value: Value, where: Geometry, dtype: torch.dtype) -> Fill | str:
    match value:
        case Unreadable(reason):
            return reason
        case Number(number):
            return Constant(number)
        case Drawn():
            return fill_of(value)
        case Whole(fill=fill):
            return _shaped(fill, where.shape)
        case Known(values=values):
            return _of_table(_picked(values, where), dtype)
    return NOTHING


def _picked(values: Tensor, where: Geometry) -> Tensor:
    """The part of a table that a parameter holds."""
    if tuple(values.shape) == where.shape:
        return values
    if values.numel() == math.prod(where.shape):
        return values.reshape(where.shape)
    return values.as_strided(where.shape, where.strides, where.offset)


def _shaped(fill: Fill, shape: tuple[int, ...]) -> Fill | str:
    """A matrix, written through a view of the same rows."""
    own: tuple[int, ...] = fill.shape  # type: ignore[attr-defined]
    if own == shape:
        return fill
    if isinstance(fill, Orthogonal) and own[:1] == shape[:1] and math.prod(own) == math.prod(shape):
        return replace(fill, shape=shape)
    return f"{fill.kind} of shape {list(own)} is written to another shape, {list(shape)}"


def _of_table(values: Tensor, dtype: torch.dtype) -> Fill | str:
    """A constant, an identity, or a table."""
    if values.is_complex() or not values.is_floating_point():
        return f"its values are of {values.dtype}"
    if values.numel() and bool((values == values.flatten()[0]).all()):
        return Constant(shortest(values.flatten()[0].item(), dtype if dtype.is_floating_point else values.dtype))
    if values.ndim == 2 and torch.equal(values, torch.eye(*values.shape, dtype=values.dtype, device=values.device)):
        return Identity(tuple(values.shape))
    return table(values)
