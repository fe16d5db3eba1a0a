"""Fills → draws: what the stream draws for a piece of memory, and what is done after."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from initframe import stream
from initframe.applying.piece import Piece
from initframe.applying.whole import write_on_current, write_or_plan, write_stacked
from initframe.errors import Problem, ResolveError
from initframe.fills import (
    Blocks,
    Constant,
    Copied,
    Fill,
    Keep,
    Mapped,
    Masked,
    OnCurrent,
    Partial,
    Stacked,
    Whole,
)
from initframe.stream.draws import OpenDraw
from initframe.stream.threads import Task, single_threaded, spread

AT_ONCE = 1 << 26
"""Elements that are drawn together: enough to keep every core busy, few enough to bound temporaries."""

FEW = 1 << 18
"""Elements up to which a second pass over a GPU's memory costs less than a launch."""

ConstantKind: TypeAlias = tuple[Any, ...]
"""A value, and what tensors must have in common to take it in one launch; nothing, on a CPU."""
Progress = Callable[[int], None]
T = TypeVar("T")


def paint(pieces: Iterable[Piece], seed: int, on_progress: Progress = lambda _: None) -> None:
    """Fill all pieces of memory; their draws run together.

    Args:
        pieces: with fills that were checked (:meth:`initframe.fills.Fill.problem`).
        seed: of the stream.
        on_progress: told how many elements were filled since it was last told.
    """
    work = _Work(seed, at_once=True)
    for piece in pieces:
        _ask(piece, work)
    work.run(on_progress)


def in_batches(several: Iterable[T], sizes: Iterable[int]) -> Iterator[list[T]]:
    """Cut what is to be drawn into batches of about AT_ONCE elements.

    >>> list(in_batches("abc", [AT_ONCE, 1, 1]))
    [['a'], ['b', 'c']]
    """
    batch: list[T] = []
    count = 0
    for one, size in zip(several, sizes, strict=True):
        batch.append(one)
        count += size
        if count >= AT_ONCE:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch


def paint_in_batches(pieces: Iterable[Piece], seed: int, on_progress: Progress) -> None:
    """Fill all pieces of memory; their draws run together as far as the memory beside them is bounded."""
    several = list(pieces)
    for batch in in_batches(several, [piece.out.numel() for piece in several]):
        paint(batch, seed, on_progress)


@dataclass(frozen=True)
class Ready:
    """Draws of pieces that need nothing else, prepared once, without their memory.

    Attributes:
        draws: what is known of them.
        sources: the place of each draw's piece in the list of all.
        constants: values, each with the places of pieces that become it together.
        rest: those of all others.
    """

    draws: stream.Prepared
    sources: tuple[int, ...]
    constants: tuple[tuple[float, tuple[int, ...]], ...]
    rest: tuple[int, ...]

    def paint(self, pieces: Sequence[Piece], seed: int, on_progress: Progress) -> None:
        """Fill pieces of memory that are where they were."""
        key_of = stream.keys_of(seed)
        keys = [key_of(pieces[i].name) for i in self.sources]
        self.draws.execute(keys, on_progress, [pieces[i].out for i in self.sources])
        for value, places in self.constants:
            outs = [pieces[i].out for i in places]
            _fill_together(value, outs)
            on_progress(sum(map(torch.numel, outs)))
        paint_in_batches((pieces[i] for i in self.rest), seed, on_progress)


def ready(pieces: Sequence[Piece]) -> Ready | None:
    """Prepare what a stream draws directly into some of the pieces; ``None`` if it is nothing, or keeps the memory.

    >>> from initframe import Normal
    >>> from initframe.applying.regions import Region
    >>> piece = Piece(Normal(0.0, 1.0), torch.empty(3), Region.whole((3,)), "w")
    >>> found = ready([piece])
    >>> found.paint([piece], 7, lambda _: None)
    >>> beside = torch.empty(3)
    >>> paint([Piece(piece.fill, beside, piece.region, "w")], 7)
    >>> torch.equal(piece.out, beside)
    True
    """
    work = _Work(0)
    sources: list[int] = []
    constants: dict[ConstantKind, list[int]] = {}
    for i, piece in enumerate(pieces):
        if not piece.out.numel():
            continue
        if kind := _constant_kind(piece.fill, piece.out):
            constants.setdefault(kind, []).append(i)
        if not piece.fill.distribution:
            continue
        before = len(work.draws)
        _ask(piece, work)
        if work.after:  # it is drawn on other memory
            del work.draws[before:]
            work.after.clear()
        sources += [i] * (len(work.draws) - before)
    draws = stream.Prepared(work.draws)
    rest = sorted({i for i, piece in enumerate(pieces) if piece.out.numel()}.difference(sources, *constants.values()))
    together = tuple((kind[0], tuple(places)) for kind, places in constants.items())
    return Ready(draws, tuple(sources), together, tuple(rest)) if sources and draws.release() else None


def _constant_kind(fill: Fill, out: Tensor) -> ConstantKind | None:
    """Return what constants that are written together have in common; ``None`` if this one is written by itself."""
    if not isinstance(fill, Constant) or out.is_neg():
        return None
    value = fill.value
    zero = value == 0 and math.copysign(1, value) > 0
    if out.is_cpu:
        return (value,) if zero else None
    # Twice over the memory, which is worth it where a launch costs more.
    together = zero or (value and out.dtype in stream.DTYPES and out.numel() <= FEW)
    return (value, out.device, out.dtype, out.is_contiguous()) if together else None


def _fill_together(value: float, outs: list[Tensor]) -> None:
    """Write a constant to tensors of one `ConstantKind`, which a GPU takes in few launches. 0 + value is exact."""
    torch._foreach_zero_(outs)
    if value:
        torch._foreach_add_(outs, value)


@dataclass
class _Work:
    """The work on a batch of pieces: draws and tensors that threads build, which run together; then the rest, in order.

    ``asked`` draws what such tensors are built from. ``undrawn`` counts the elements that the stream does not
    tell of. ``at_once`` says that small tensors are drawn without a plan.
    """

    seed: int
    at_once: bool = False
    small: list[stream.Small] = field(default_factory=list)
    draws: list[stream.Draw] = field(default_factory=list)
    asked: _Work | None = None
    constants: dict[ConstantKind, list[Tensor]] = field(default_factory=dict)
    built: list[Task] = field(default_factory=list)
    after: list[Callable[[], object]] = field(default_factory=list)
    undrawn: int = 0

    def __post_init__(self) -> None:
        self.key_of = stream.keys_of(self.seed)

    def draw(self, distribution: str, args: tuple[float, ...], piece: Piece, purpose: str = "") -> None:
        """Plan to draw a distribution at every element of a piece."""
        key, out = self.key_of(piece.name, purpose), piece.out
        if piece.region.is_whole and out.is_contiguous() and not out.is_neg():  # as most are
            count = out.numel()
            if self.at_once and count <= stream.SMALL and out.is_cpu:
                self.small.append((out, distribution, args, key))
                self.undrawn += count
                return
            draw = OpenDraw(out.view(1, count), distribution, args, key, 0, count)
            draw.__class__ = stream.Draw
            self.draws.append(draw)
            return
        try:
            rows = list(piece.region.rows(out))
        except RuntimeError:  # a layout that is no row of numbers: drawn on other memory, then copied
            beside = torch.empty(piece.region.local_shape, dtype=out.dtype, device=out.device)
            rows = list(piece.region.rows(beside))
            self.after.append(lambda: out.copy_(beside))
        self.draws += [stream.Draw(row, distribution, args, key, start, stride) for row, start, stride in rows]

    def hold(self, fill: Constant, out: Tensor) -> None:
        """Write a constant, or plan to write it together with others."""
        self.undrawn += out.numel()
        kind = _constant_kind(fill, out)
        if kind and out.is_cpu:  # a zero; several take no less time together
            out.zero_()
        elif kind:
            self.constants.setdefault(kind, []).append(out)
        else:
            out.fill_(fill.value)

    def build(self, fill: Whole, piece: Piece) -> None:
        """Build a tensor and write it: now with all threads, or later on one of them, from what is drawn before."""
        if planned := write_or_plan(fill, piece, self.seed):
            drawn, task = planned
            if drawn and fill.asks:
                distribution, args, purpose = fill.asks
                self.asked = self.asked or _Work(self.seed, self.at_once)
                self.asked.draw(distribution, tuple(args), drawn, purpose)
            self.built.append(task)

    def run(self, on_progress: Progress) -> None:
        """Draw, build, then do what comes after."""
        if self.small:
            stream.draw_small(self.small)
        if self.draws:
            stream.execute(self.draws, on_progress)
        if self.asked:
            self.asked.run(lambda _: None)
        for kind, outs in self.constants.items():
            _fill_together(kind[0], outs)
        if self.built:
            with single_threaded() as threads:
                for _ in spread(self.built, threads):
                    pass
        for step in self.after:
            step()
        if self.undrawn:
            on_progress(self.undrawn)


_DRAWN_INSIDE = Mapped, Blocks, Masked, Copied, Partial
"""The fills of whose elements the stream tells, or the fills inside of them."""


def _ask(piece: Piece, work: _Work) -> None:
    """Turn one fill into draws and steps after them."""
    fill, out = piece.fill, piece.out
    if not out.numel():
        return
    if fill.distribution:
        work.draw(fill.distribution, fill.args, piece)
        return
    if isinstance(fill, Constant):
        work.hold(fill, out)
        return
    if not isinstance(fill, _DRAWN_INSIDE):
        work.undrawn += out.numel()
    match fill:
        case Keep():
            pass
        case Mapped():
            drawn = _beside(piece)
            work.draw(*fill.draws, drawn)
            work.after.append(lambda: out.copy_(fill.transform(drawn.out)))
        case OnCurrent():
            work.after.append(lambda: write_on_current(fill, piece, work.seed))
        case Whole():
            work.build(fill, piece)
        case Copied() | Partial() | Stacked() | Blocks() | Masked():
            _ask_parts(piece, work)
        case _:
            raise ResolveError(Problem(str(fill), fill.undrawable() or "nothing writes it."))


def _ask_parts(piece: Piece, work: _Work) -> None:
    """Turn a fill that is made of others into their draws and steps."""
    fill, out, region = piece.fill, piece.out, piece.region
    match fill:
        case Copied(source, inner, from_memory=False):
            _ask(Piece(inner, out, region, source), work)
        case Partial(inner, units, dim):
            _ask_units(Piece(inner, out, region, piece.name), units, dim, work)
        case Stacked():
            write_stacked(fill, piece, work.seed)
        case Blocks(fills, sizes, dim):
            start = region.extent[dim][0]
            for part, size in zip(fills, sizes, strict=True):
                block, here = region.block(dim, start, start + size)
                _ask(Piece(part, out[(slice(None),) * dim + (here,)], block, piece.name), work)
                start += size
        case Masked(inner, index=index, value=value):
            _ask(Piece(inner, out, region, piece.name), work)
            position = region.position(index)
            if position is not None:
                work.after.append(lambda: out[position].fill_(value))


def _ask_units(piece: Piece, units: Sequence[int], dim: int, work: _Work) -> None:
    """Fill some indices along a dimension: on other memory, which is then copied there."""
    region, here = piece.region.units(dim, units)
    if not here:
        return
    index = index_on(piece.out.device, here)
    beside = piece.out.index_select(dim, index)
    _ask(Piece(piece.fill, beside, region, piece.name), work)
    work.after.append(lambda: piece.out.index_copy_(dim, index, beside))


def index_on(device: torch.device, places: Sequence[int]) -> Tensor:
    """Return indices in a device's memory, for which nothing waits.

    >>> index_on(torch.device("cpu"), [2, 0])
    tensor([2, 0])
    """
    index = torch.tensor(places, dtype=torch.int64, device="cpu")
    return index.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else index.to(device)


def _beside(piece: Piece) -> Piece:
    """Return the piece again, on float32 memory of its own."""
    out = torch.empty(piece.region.local_shape, dtype=torch.float32, device=piece.out.device)
    return Piece(piece.fill, out, piece.region, piece.name)
