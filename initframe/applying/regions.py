"""A part of a tensor, as index runs of the whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from initframe.fills.whole import Index

Run = tuple[int, int]
"""Consecutive indices along one dimension: start and stop."""
Runs = tuple[Run, ...]
SHORT = 32
"""Elements: shorter rows are slower to fill in place than to draw elsewhere and copy."""


@dataclass(frozen=True)
class Region:
    """The part of a tensor that a piece of memory holds.

    Attributes:
        shape: the whole tensor's shape.
        extent: per dimension, the run that the fill at hand covers: everything, or one block.
        runs: per dimension, the runs of indices that are held here, ascending, inside the extent.
    """

    shape: tuple[int, ...]
    extent: tuple[Run, ...]
    runs: tuple[Runs, ...]

    @staticmethod
    @lru_cache(maxsize=1024)  # used several times for every tensor of a model
    def whole(shape: tuple[int, ...]) -> Region:
        """The region of a tensor that is all here.

        >>> Region.whole((2, 3)).local_shape
        (2, 3)
        """
        extent = tuple((0, size) for size in shape)
        return Region(shape, extent, tuple((run,) for run in extent))

    @cached_property
    def is_whole(self) -> bool:
        """Whether all of the tensor is here."""
        return all(runs == ((0, size),) for runs, size in zip(self.runs, self.shape, strict=True))

    @property
    def first(self) -> int:
        """The flat index, in the whole tensor, of the extent's first element."""
        strides = (math.prod(self.shape[d + 1 :]) for d in range(len(self.shape)))
        return sum(start * stride for (start, _), stride in zip(self.extent, strides, strict=True))

    @property
    def local_shape(self) -> tuple[int, ...]:
        """The shape of the memory here."""
        if self.is_whole:
            return self.shape
        return tuple(sum(stop - start for start, stop in runs) for runs in self.runs)

    def everything(self) -> Region:
        """The whole extent, wherever it is held: what a whole fill is computed for."""
        if self.is_whole:
            return self
        return replace(self, runs=tuple((run,) for run in self.extent))

    def block(self, dim: int, start: int, stop: int) -> tuple[Region, slice]:
        """The region of one block, and its slice of the local memory.

        Args:
            dim: the dimension that is split.
            start: the block's first index in the whole tensor.
            stop: the index after its last.

        >>> Region.whole((6, 2)).block(0, 2, 4)[1]
        slice(2, 4, None)
        """
        clipped = [(max(a, start), min(b, stop)) for a, b in self.runs[dim]]
        before = sum(min(b, start) - min(a, start) for a, b in self.runs[dim])
        held = tuple((a, b) for a, b in clipped if a < b)
        length = sum(b - a for a, b in held)
        runs = (*self.runs[:dim], held, *self.runs[dim + 1 :])
        extent = (*self.extent[:dim], (start, stop), *self.extent[dim + 1 :])
        return Region(self.shape, extent, runs), slice(before, before + length)

    def units(self, dim: int, units: Sequence[int]) -> tuple[Region, list[int]]:
        """The region of some indices along a dimension, and where those held are in the local memory.

        Args:
            dim: the dimension.
            units: indices of the whole tensor, ascending.

        >>> below = Region((4, 2), ((0, 4), (0, 2)), (((2, 4),), ((0, 2),)))
        >>> below.units(0, [1, 3])[1]
        [1]
        """
        held: list[tuple[int, int]] = []
        wanted = set(units)
        local = 0
        for start, stop in self.runs[dim]:
            held += [(unit, local + unit - start) for unit in range(start, stop) if unit in wanted]
            local += stop - start
        runs = (*self.runs[:dim], _joined([unit for unit, _ in held]), *self.runs[dim + 1 :])
        return replace(self, runs=runs), [place for _, place in held]

    def pick(self, values: Tensor) -> Tensor:
        """The held part of values that were computed for the whole extent."""
        if self.is_whole:
            return values
        for dim in range(len(self.shape)):
            values = self._pick_along(dim, values, dim)
        return values

    def pick_at(self, index: Index, values: Tensor) -> tuple[Index, Tensor] | None:
        """The held part of values that were computed for some indices of the extent, with their local indices.

        Args:
            index: into the whole extent: per dimension one index, a list or ``slice(None)``; lists go together.
            values: one per place.

        Returns:
            The index into the local memory, and its values; ``None`` if none is held.

        >>> below = Region((3, 3), ((0, 3), (0, 3)), (((1, 3),), ((0, 3),)))
        >>> below.pick_at((torch.arange(3), torch.arange(3)), torch.ones(3))
        ((tensor([0, 1]), tensor([1, 2])), tensor([1., 1.]))
        """
        here: list[int | slice | Tensor] = []
        held = torch.ones((), dtype=torch.bool, device="cpu")
        for dim, places in enumerate(index):
            if isinstance(places, slice):
                values = self._pick_along(dim, values, sum(isinstance(other, slice) for other in here))
                here.append(places)
            else:
                local = self._local(dim)[places]
                here.append(local if local.ndim else int(local))
                held = held & (local >= 0)
        if not held.any():
            return None
        lists = tuple(local[held] if isinstance(local, Tensor) else local for local in here)
        return lists, values[held] if held.ndim else values

    def _pick_along(self, dim: int, values: Tensor, axis: int) -> Tensor:
        """The part of values that is held along a dimension, which is an axis of theirs."""
        held = self.runs[dim] == (self.extent[dim],)
        return values if held else values.index_select(axis, self._held(dim).to(values.device))

    def _held(self, dim: int) -> Tensor:
        """The indices along a dimension that are held, counted from the extent's first."""
        first = self.extent[dim][0]
        runs = self.runs[dim] or ((first, first),)
        return torch.cat([torch.arange(a - first, b - first, device="cpu") for a, b in runs])

    def _local(self, dim: int) -> Tensor:
        """The local index of every index of the extent, along a dimension; −1 if it is not held."""
        first, last = self.extent[dim]
        held = self._held(dim)
        nowhere = torch.full((last - first,), -1, device="cpu")
        return nowhere.index_copy(0, held, torch.arange(len(held), device="cpu"))

    def position(self, index: tuple[int, ...]) -> tuple[int, ...] | None:
        """The local index of an index of the whole tensor (or its first few numbers); ``None`` if it is not held.

        >>> Region.whole((3, 3)).position((2,))
        (2,)
        """
        found = []
        for wanted, runs in zip(index, self.runs, strict=False):
            before = 0
            for start, stop in runs:
                if start <= wanted < stop:
                    found.append(before + wanted - start)
                    break
                before += stop - start
        return tuple(found) if len(found) == len(index) else None

    def rows(self, out: Tensor) -> Iterator[tuple[Tensor, int, int]]:
        """The memory as two-dimensional pieces of evenly spaced rows.

        Args:
            out: the memory, of the local shape; its layout must let trailing dimensions be viewed as one, and what
                remains of a whole tensor as another.

        Yields:
            A view of shape (rows, length), the flat index of its first element in the whole tensor, and the distance
            between the flat indices of two rows.

        Raises:
            RuntimeError: the layout does not let the dimensions be viewed as one, or the view is a negated one.

        >>> [(tuple(v.shape), start, stride) for v, start, stride in Region.whole((2, 3)).rows(torch.empty(2, 3))]
        [((1, 6), 0, 6)]
        """
        count = out.numel()
        if not count:
            return
        if out.is_neg():
            raise RuntimeError("the memory holds other numbers than this view of it does.")
        if self.is_whole and out.is_contiguous():
            yield out.view(1, count), 0, count
            return
        strides = [math.prod(self.shape[d + 1 :]) for d in range(len(self.shape))]
        partial = [d for d, runs in enumerate(self.runs) if runs != ((0, self.shape[d]),)]
        split = partial[-1] if partial else 0
        yield from self._pieces(out, 0, split, 0, strides)

    def _pieces(
        self, out: Tensor, dim: int, split: int, offset: int, strides: list[int]
    ) -> Iterator[tuple[Tensor, int, int]]:
        """Walk the dimensions before the last split one; from it on everything is dense."""
        if not self.shape or split == 0:
            for (start, _), here in placed(self.runs[0] if self.shape else ((0, 1),)):
                rows = _dense_rows(out[here] if self.shape else out)
                yield rows, offset + (start * strides[0] if strides else 0), rows.shape[1]
        elif dim == split - 1:
            for (row, _), here in placed(self.runs[dim]):
                for (column, _), there in placed(self.runs[split]):
                    piece = out[here, there]
                    start = offset + row * strides[dim] + column * strides[split]
                    yield _as_rows(piece, len(piece)), start, strides[dim]
        else:
            for (start, stop), here in placed(self.runs[dim]):
                for i in range(stop - start):
                    deeper = offset + (start + i) * strides[dim]
                    yield from self._pieces(out[here.start + i], dim + 1, split, deeper, strides)


def _dense_rows(piece: Tensor) -> Tensor:
    """View memory as the longest rows that are dense; in the whole tensor one begins where the last one ends.

    Raises:
        RuntimeError: there are no such rows, or only short ones.
    """
    length = 1
    for size, step in zip(reversed(piece.shape), reversed(piece.stride()), strict=True):
        if size > 1 and step != length:
            break
        length *= size
    if length < min(SHORT, piece.numel()):
        raise RuntimeError(f"memory of strides {piece.stride()} has no dense rows that are worth a call.")
    return piece.view(-1, length)


def _as_rows(piece: Tensor, count: int) -> Tensor:
    """View memory as that many rows, each of them dense."""
    rows = piece.view(count, -1)
    if rows.shape[1] > 1 and rows.stride(1) != 1:
        raise RuntimeError(f"memory of strides {piece.stride()} has no dense rows.")
    return rows


def placed(runs: Runs) -> Iterator[tuple[Run, slice]]:
    """Each run with the slice of local memory that holds it."""
    here = 0
    for start, stop in runs:
        yield (start, stop), slice(here, here + stop - start)
        here += stop - start


def _joined(indices: Sequence[int]) -> Runs:
    """Ascending indices as runs."""
    runs: list[Run] = []
    for index in indices:
        if runs and runs[-1][1] == index:
            runs[-1] = runs[-1][0], index + 1
        else:
            runs.append((index, index + 1))
    return tuple(runs)
