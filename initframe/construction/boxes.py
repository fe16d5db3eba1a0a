"""Parts of a tensor that were written apart, put together as one fill."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from torch import Tensor

from initframe.fills import Blocks, Constant, Elementwise, Fill, Masked, Normal, TruncatedNormal, Uniform
from initframe.fills.chain import Chain
from initframe.fills.table import Table, table

Box: TypeAlias = tuple[tuple[int, int], ...]
"""Per dimension, the first index and the one after the last."""
MOST = 64
"""Parts that are put together; more are no fill that anybody reads."""


class Geometry(NamedTuple):
    """Where a tensor lies in its storage, in elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


def geometry(tensor: Tensor) -> Geometry:
    """Say where a tensor lies in its storage."""
    return Geometry(tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()))


def is_all(tensor: Tensor) -> bool:
    """Tell whether a tensor is all of its storage."""
    return tensor.numel() * tensor.itemsize >= tensor.untyped_storage().nbytes()


def apart(one: Geometry, other: Geometry) -> bool:
    """Tell whether two views of a storage are known to share no element: one ends before the other begins."""
    a, b = (g.offset + sum((n - 1) * s for n, s in zip(g.shape, g.strides, strict=True)) for g in (one, other))
    return a < other.offset or b < one.offset


def box_of(part: Geometry, whole: Geometry) -> Box | None:
    """Find a view in a dense tensor of the same storage.

    Args:
        part: the view.
        whole: the tensor.

    Returns:
        The view's box of indices; ``None`` if it is none, or lies outside.

    >>> box_of(Geometry((2, 3), (3, 1), 3), Geometry((4, 3), (3, 1), 0))
    ((1, 3), (0, 3))
    """
    span = sum((size - 1) * stride for size, stride in zip(part.shape, part.strides, strict=True))
    first, last = (_unravelled(part.offset - whole.offset + ahead, whole) for ahead in (0, span))
    if first is None or last is None:
        return None
    box = tuple((a, b + 1) for a, b in zip(first, last, strict=True))
    fits = all(a < b for a, b in box) and math.prod(b - a for a, b in box) == math.prod(part.shape)
    return box if fits else None


def _unravelled(position: int, whole: Geometry) -> list[int] | None:
    """The index of a position in the storage, whose dimensions may be permuted."""
    index = [0] * len(whole.shape)
    for dim in sorted(range(len(whole.shape)), key=lambda d: -whole.strides[d]):
        if whole.shape[dim] > 1:
            index[dim], position = divmod(position, whole.strides[dim])
    inside = all(0 <= i < size for i, size in zip(index, whole.shape, strict=True))
    return index if inside and not position else None


def assemble(shape: tuple[int, ...], base: Fill | None, parts: Sequence[tuple[Box, Fill]]) -> Fill | str:
    """Make one fill of a tensor that was written in parts.

    Args:
        shape: of the tensor.
        base: what was written to the whole of it first, if anything.
        parts: what was written then, in order; the last one wins.

    Returns:
        The fill, or a sentence that says why there is none.

    >>> str(assemble((4, 2), Normal(0, 1), [(((1, 2), (0, 2)), Constant(0.0))]))
    'normal(0, 1), 0 at [1]'
    """
    if len(parts) > MOST:
        return f"it is written in {len(parts)} parts"
    everything = tuple((0, size) for size in shape)
    if len(parts) == 1 and base is not None and (masked := _masked(shape, base, *parts[0])):
        return masked
    writes = [(everything, base), *parts] if base is not None else list(parts)
    return _put_together(everything, everything, writes)


def _masked(shape: tuple[int, ...], base: Fill, box: Box, fill: Fill) -> Fill | None:
    """One row or element that is a constant."""
    single = [a for a, b in box if b - a == 1]
    rest = box[len(single) :]
    rows = box[: len(single)]
    if not isinstance(fill, Constant) or not single or any(b - a != 1 for a, b in rows):
        return None
    if rest != tuple((0, size) for size in shape[len(single) :]):
        return None
    while len(single) > 1 and shape[len(single) - 1] == 1:
        single.pop()
    return Masked(base, shape, tuple(single), fill.value)


def _put_together(region: Box, everything: Box, writes: Sequence[tuple[Box, Fill]]) -> Fill | str:
    """The fill of a region: its last write if that covers it, else blocks along the first dimension that is cut."""
    inside = [
        (box, fill) for box, fill in writes if all(max(a, c) < min(b, d) for (a, b), (c, d) in _pairs(box, region))
    ]
    if not inside:
        return "a part of it is never written"
    box, fill = inside[-1]
    if all(a <= c and d <= b for (a, b), (c, d) in _pairs(box, region)):
        return _cut(fill, box, region)
    for dim, (start, stop) in enumerate(region):
        cuts = sorted({edge for other, _ in inside for edge in other[dim] if start < edge < stop})
        if cuts:
            edges = [start, *cuts, stop]
            pieces = [(*region[:dim], pair, *region[dim + 1 :]) for pair in pairwise(edges)]
            filled = [_put_together(piece, everything, inside) for piece in pieces]
            if fault := next((one for one in filled if isinstance(one, str)), None):
                return fault
            sizes = [piece[dim][1] - piece[dim][0] for piece in pieces]
            return _blocks([one for one in filled if isinstance(one, Fill)], sizes, dim)
    return "its parts overlap"


def _blocks(fills: Sequence[Fill], sizes: Sequence[int], dim: int) -> Fill:
    """Blocks, those of equal constants put together."""
    joined: list[tuple[Fill, int]] = []
    for fill, size in zip(fills, sizes, strict=True):
        if joined and isinstance(fill, Constant) and joined[-1][0] == fill:
            joined[-1] = fill, joined[-1][1] + size
        else:
            joined.append((fill, size))
    if len(joined) == 1:
        return joined[0][0]
    return Blocks(tuple(fill for fill, _ in joined), tuple(size for _, size in joined), dim)


def _cut(fill: Fill, box: Box, region: Box) -> Fill | str:
    """What a fill of a box is in a region of it."""
    if box == region or isinstance(fill, Constant | Uniform | Normal | TruncatedNormal | Elementwise | Chain):
        return fill
    if isinstance(fill, Table):
        index = tuple(slice(c - a, d - a) for (a, _), (c, d) in _pairs(box, region))
        return table(fill.held[index])
    return f"a part of {fill.kind} is overwritten"


def _pairs(one: Box, other: Box) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    return list(zip(one, other, strict=True))
