"""Fills that are computed for a whole tensor at once: built, stacked, or made from the values that are there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from initframe import stream
from initframe.applying.piece import Piece
from initframe.applying.regions import Region
from initframe.errors import ResolveError
from initframe.fills import OnCurrent, Sampler, Scattered, Stacked, Whole
from initframe.fills.elementwise import wrong_values
from initframe.fills.pretrained import Stored
from initframe.fills.stacked import values_of
from initframe.stream.threads import Task

COST = 32
"""How many elements are drawn in the time that an element of a small factorized matrix takes."""


def write_or_plan(fill: Whole, piece: Piece, seed: int) -> tuple[Piece | None, Task] | None:
    """Build a tensor and write it with all threads, or plan to do so on one of them.

    Args:
        fill: how the whole tensor is built.
        piece: the memory that is held of it.
        seed: of the stream.

    Returns:
        New memory for what it is built from, into which ``fill.asks`` is to be drawn, if there is any; and the task
        that builds and writes it then. ``None`` if it is written.

    Raises:
        ResolveError: a fill of the user's own does not give one value for each element.

    >>> from initframe.initializers import get
    >>> from initframe.model.slot import Slot
    >>> fill, weight = get("eye")(Slot("w", (2, 2))), torch.empty(2, 2)
    >>> write_or_plan(fill, Piece(fill, weight, Region.whole((2, 2)), "w"), seed=0) is None
    True
    >>> weight.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    draw = _sampler(piece, seed)
    if piece.out.device.type != "cpu" or not fill.on_one_thread:
        _write_whole(fill, piece, draw)
        return None
    drawn = None
    if fill.asks:
        drawn = _memory(fill.asks[0], piece, piece.region.everything())
        draw = partial(_given, drawn.out, fill.asks, draw)
    return drawn, Task(partial(_built, fill, piece, draw), COST * piece.out.numel())


def _sampler(piece: Piece, seed: int) -> Sampler:
    """Return what a whole fill draws from: elements of its own, or of a tensor of another shape or name."""

    def draw(
        distribution: str,
        args: Sequence[float],
        purpose: str = "",
        *,
        name: str | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Tensor:
        region = piece.region.everything() if shape is None else Region.whole(shape)
        if shape is not None and name is None and piece.region.first:
            purpose = f"{purpose} {piece.region.first}"  # blocks of one tensor draw apart
        here = Piece(piece.fill, piece.out, region, piece.name if name is None else name)
        return _drawn(distribution, args, purpose, here, seed)

    return draw


def _drawn(distribution: str, args: Sequence[float], purpose: str, piece: Piece, seed: int) -> Tensor:
    """Draw a distribution over the region of a piece, now."""
    out, key = _memory(distribution, piece, piece.region).out, stream.key(piece.name, seed, purpose)
    rows = piece.region.rows(out)
    stream.execute([stream.Draw(row, distribution, tuple(args), key, start, stride) for row, start, stride in rows])
    return out


def _memory(distribution: str, piece: Piece, region: Region) -> Piece:
    """Give new memory of a region of a piece's tensor, for a distribution."""
    dtype = torch.int32 if distribution == "bits" else torch.float32
    out = torch.empty(region.local_shape, dtype=dtype, device=piece.out.device)
    return Piece(piece.fill, out, region, piece.name)


def _given(drawn: Tensor, expected: object, draw: Sampler, *asked: Any, **more: Any) -> Tensor:
    """Give what was drawn already to a fill that asks for it; draw what a class of the user's own asks for instead."""
    return drawn if asked == expected and not more else draw(*asked, **more)


def _built(fill: Whole, piece: Piece, draw: Sampler) -> int:
    """Write a tensor in a thread that may be a new one, where gradients are recorded."""
    with torch.no_grad():
        _write_whole(fill, piece, draw)
    return 1


def _write_whole(fill: Whole, piece: Piece, draw: Sampler) -> None:
    """Write the held part of a whole fill; if most of it is zero, no tensor of its size is made."""
    if not isinstance(fill, Scattered):
        values = fill.build(draw)
        # A copy would stretch them to the shape; those of a file were checked, and may be complex.
        if not isinstance(fill, Stored) and (
            found := wrong_values(fill, values, fill.shape, "Return one value for each element.")
        ):
            raise ResolveError(found)
        piece.out.copy_(
            piece.region.pick(values).to(piece.out)
        )  # twice: a copy to rows from columns is slow if it rounds
        return
    piece.out.zero_()
    if held := piece.region.pick_at(*fill.elements(draw)):
        index, values = held
        piece.out[index] = values.to(piece.out)


def write_stacked(fill: Stacked, piece: Piece, seed: int) -> None:
    """Write the held part of every member: each is drawn at its own elements of the whole tensor.

    Args:
        fill: of the whole tensor.
        piece: the memory that is held of it.
        seed: of the stream.

    Raises:
        ResolveError: a fill of the user's own does not give one value for each element of a member.
    """
    for place in fill.places(fill.shape):
        out, region = piece.out, piece.region
        for dim, index in place:
            start = piece.region.extent[dim][0] + index
            region, here = region.block(dim, start, start + 1)
            out = out[(slice(None),) * dim + (here,)]
        if out.numel():
            values = _member_values(fill, Piece(fill.fill, out, region, piece.name), place, seed)
            out.copy_(region.pick(values.to(out.device)))


def _member_values(fill: Stacked, piece: Piece, place: tuple[tuple[int, int], ...], seed: int) -> Tensor:
    """Compute one member for its whole extent, in the layout of the tensor that it is part of."""
    extent = piece.region.everything()
    shape = extent.local_shape
    own = _sampler(piece, seed)

    def draw(
        distribution: str,
        args: Sequence[float],
        purpose: str = "",
        *,
        name: str | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Tensor:
        if shape is None:
            return fill.to_member(own(distribution, args, purpose, name=name))
        if name is not None:  # what tensors share under a name, members do not
            purpose = " ".join([purpose, *(f"{index}" for _, index in place)])
        return own(distribution, args, purpose, name=name, shape=shape)

    member = fill.inner_shapes(shape)[0]
    values = values_of(fill.fill, member, draw)
    if found := wrong_values(fill.fill, values, member, "Return one value for each element."):
        raise ResolveError(found)
    return fill.from_member(values, shape)


def write_on_current(fill: OnCurrent, piece: Piece, seed: int) -> None:
    """Compute new values from current ones, in float32 or wider, rounded once.

    Args:
        fill: what is computed.
        piece: the memory that holds the current values, and takes the new ones.
        seed: of the stream.

    >>> from initframe import Scale
    >>> weight = torch.ones(2)
    >>> write_on_current(Scale(3.0), Piece(Scale(3.0), weight, Region.whole((2,)), "w"), seed=0)
    >>> weight.tolist()
    [3.0, 3.0]
    """
    wide = piece.out.to(torch.promote_types(piece.out.dtype, torch.float32))
    piece.out.copy_(fill.apply(wide, lambda: _drawn("normal", (0.0, 1.0), "perturb", piece, seed)))
