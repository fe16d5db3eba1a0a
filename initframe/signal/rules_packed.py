"""Packed sequences: packing and unpacking, and recurrent layers on sequences of several lengths.

A recurrent layer is simulated for a few lengths that stand for all; what it returns is the mixture of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from initframe.signal.combine import mixture
from initframe.signal.grid import Grid, constant, gaussian, remarked, replace
from initframe.signal.layout import Factor, Layout, Role, plain
from initframe.signal.positions import averaged
from initframe.signal.remarks import Remark
from initframe.signal.rules_recurrent import Asked, predicted
from initframe.signal.states import State
from initframe.signal.walk import Walk

GROUPS = 4
"""Lengths that are simulated; of more, neighbours are put together."""


@dataclass(frozen=True, eq=False)
class Padded(Remark):
    """Of packed sequences, the grid that they had, or would have, as (input, step, …) without what pads them."""

    outlives = frozenset(("layout",))

    grid: Grid


def pack(walk: Walk, input: Any, lengths: Any, batch_first: Any) -> Any:  # noqa: A002  # torch's name
    """Rows of all steps that are there, and how many there are of each step; nothing if the lengths are not known."""
    known = walk.states.get(lengths)
    if not isinstance(known, Tensor) or not isinstance(walk.states.get(input), Grid):
        return None
    walk.flush()
    grid = walk.states.grid(input)
    shape, rest = list(input.shape), tuple(input.shape[2:])
    with _disable_current_modes():
        sizes = torch._VF._pack_padded_sequence(torch.zeros(*shape[:2], 1), known.cpu(), batch_first)[1]  # noqa: SLF001
        if grid is not None and not batch_first:
            order = [1, 0, *range(2, len(shape))]
            grid = replace(grid, layout=grid.layout.permute(order))
        return _rows(walk, grid, (int(sizes.sum()), *rest), input.dtype), _told(walk, sizes)


def unpack(walk: Walk, data: Any, sizes: Any, batch_first: Any, value: Any, total: Any) -> Any:
    """Packed sequences as one tensor, padded with a number, and their lengths."""
    known, grid = walk.states.get(sizes), walk.states.grid(data)
    if not isinstance(known, Tensor) or isinstance(walk.states.get(data), Tensor):
        return None
    walk.flush()
    with _disable_current_modes():
        rows = torch.zeros(int(known.sum()), 1)
        padded, lengths = torch._VF._pad_packed_sequence(rows, known.cpu(), True, 0.0, total)  # noqa: SLF001
        inputs, steps = padded.shape[:2]
        shape = (inputs, steps, *data.shape[1:]) if batch_first else (steps, inputs, *data.shape[1:])
        out = walk.shapes.empty(shape, torch.empty(shape, device="meta").stride(), data.dtype)
        walk.states.put(out, None if grid is None else _filled(grid, known, shape, float(value), first=batch_first))
        return out, _told(walk, lengths)


def _filled(grid: Grid, sizes: Tensor, shape: Sequence[int], value: float, *, first: bool) -> Grid:
    """Sequences, and a number where they have ended."""
    known = grid.remark(Padded)
    outer: tuple[Role, Role] = ("batch", "position") if first else ("position", "batch")
    inner: list[Role] = ["channel"] * (len(shape) - 2)
    layout = plain(shape, [*outer, *inner])
    there = float(sizes.sum()) / max(shape[0] * shape[1], 1)
    own = gaussian(averaged(grid), layout, **grid.kept) if known is None else known.grid
    if known is None or own.classes > 1:
        own = gaussian(averaged(own), layout, **own.kept)
    own = replace(own, layout=layout)
    if there >= 1:
        return own
    return mixture([(there, own), (1 - there, constant(value, layout))], layout, of_positions=True)


def layer(walk: Walk, kind: str, args: Sequence[Any]) -> Any:
    """The outputs of a recurrent layer on packed sequences; nothing if the lengths are not known."""
    data, sizes, start, *others = args
    known = walk.states.get(sizes)
    if not isinstance(known, Tensor):
        return None
    starts = [start] if isinstance(start, Tensor) else list(start)
    grid = walk.states.grid(data)
    remark = None if grid is None else grid.remark(Padded)
    weights, bidirectional = others[0], others[-1]
    outputs = weights[1].shape[1] * (2 if bidirectional else 1)
    with _disable_current_modes():
        states: list[State] | None = None
        if remark is not None:
            states = _simulated(walk, kind, remark.grid, known, starts, others)
        if states is None:
            walk.gaps.setdefault(kind, walk.where)
            states = [None, *(None for _ in starts)]
        first = states[0] if isinstance(states[0], Grid) else None
        outs = [_rows(walk, first, (data.shape[0], outputs), data.dtype)]
        for one, state in zip(starts, states[1:], strict=True):
            outs.append(walk.shapes.empty(tuple(one.shape), one.stride(), data.dtype))
            walk.states.put(outs[-1], state)
        walk.made(kind, weights, outs[0])
    return tuple(outs)


def _simulated(
    walk: Walk, kind: str, grid: Grid, sizes: Tensor, starts: Sequence[Tensor], others: Sequence[Any]
) -> list[State] | None:
    """The layer's outputs as (input, step, channel), and its last states: mixtures over lengths."""
    groups = _groups(sizes)
    inputs, rows = sum(n for n, _ in groups), sum(n * length for n, length in groups)
    found: list[list[State]] = []
    for _, length in groups:
        shape = (inputs, length, *grid.layout.shape[2:])
        stand_in = walk.shapes.empty(shape, torch.empty(shape, device="meta").stride(), torch.float32)
        walk.states.put(stand_in, replace(grid, layout=grid.layout.fitted(shape)))
        one = predicted(walk, kind, Asked._make((stand_in, starts, *others, True)), starts)
        if one is None:
            return None
        found.append(one)
    mixed: list[State] = []
    for i, of_lengths in enumerate(zip(*found, strict=True)):
        grids = [one for one in of_lengths if isinstance(one, Grid)]
        if i == 0:
            grids = [gaussian(averaged(one), one.layout, **one.kept) for one in grids]
        shares = [n * length / rows if i == 0 else n / inputs for n, length in groups]
        longest = max((one.layout for one in grids), key=lambda layout: layout.shape)
        mixed.append(grids[0] if len(grids) == 1 else mixture(list(zip(shares, grids, strict=True)), longest))
    return mixed


def _groups(sizes: Tensor) -> list[tuple[int, int]]:
    """How many sequences have a length, and that length, for a few lengths that stand for all.

    >>> _groups(torch.tensor([3, 3, 1]))
    [(2, 2), (1, 3)]
    """
    inputs = int(sizes[0])
    lengths = sorted(int((sizes > i).sum()) for i in range(inputs))
    distinct = sorted(set(lengths))
    if len(distinct) <= GROUPS:
        return [(lengths.count(length), length) for length in distinct]
    cut = [lengths[inputs * i // GROUPS : inputs * (i + 1) // GROUPS] for i in range(GROUPS)]
    return [(len(part), max(round(sum(part) / len(part)), 1)) for part in cut if part]


def _rows(walk: Walk, grid: Grid | None, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Packed rows, with what is known of the sequences."""
    out = walk.shapes.empty(shape, torch.empty(shape, device="meta").stride(), dtype)
    if grid is not None:
        dims = ((Factor("position", shape[0]),), *((Factor("channel", n),) for n in shape[1:]))
        packed = gaussian(averaged(grid), Layout(dims), **grid.kept)
        walk.states.put(out, remarked(packed, Padded(grid)))
    return out


def _told(walk: Walk, real: Tensor) -> Tensor:
    """A real tensor as one of the pass."""
    out = walk.shapes.empty(tuple(real.shape), real.stride(), real.dtype)
    walk.states.put(out, real)
    return out
