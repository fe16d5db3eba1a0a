"""Fills → draws: what the stream draws for a piece of memory, and what is done after."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor

from initframe import stream
from initframe.applying.regions import Region
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
    Sampler,
    Scattered,
    Stacked,
    Whole,
)
from initframe.fills.elementwise import wrong_values
from initframe.fills.pretrained import Stored
from initframe.fills.stacked import values_of
from initframe.stream.draws import OpenDraw
from initframe.stream.threads import Task, single_threaded, spread

AT_ONCE = 1 << 26
"""Elements that are drawn together: enough to keep every core busy, few enough to bound temporaries."""

FEW = 1 << 18
"""Elements up to which a second pass over a GPU's memory costs less than a launch."""

COST = 32
"""How many elements are drawn in the time that an element of a small factorized matrix takes."""

ConstantKind: TypeAlias = tuple[Any, ...]
"""A value, and what tensors must have in common to take it in one launch; nothing, on a CPU."""
Progress = Callable[[int], None]
T = TypeVar("T")


class Piece(NamedTuple):
    """A fill for a piece of memory.

    Attributes:
        fill: what the whole tensor will hold.
        out: the memory, of the region's local shape.
        region: the part of the whole tensor that the memory is.
        name: the whole tensor's name, which addresses the stream.
    """

    fill: Fill
    out: Tensor
    region: Region
    name: str


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


def in_batches(several: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Cut what is to be drawn into batches of about AT_ONCE elements.

    >>> list(in_batches([AT_ONCE, 1, 1], size=int)) == [[AT_ONCE], [1, 1]]
    True
    """
    batch: list[T] = []
    count = 0
    for one in several:
        batch.append(one)
        count += size(one)
        if count >= AT_ONCE:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch


def paint_in_batches(pieces: Iterable[Piece], seed: int, on_progress: Progress) -> None:
    """Fill all pieces of memory; their draws run together as far as the memory beside them is bounded."""
    for batch in in_batches(pieces, lambda piece: piece.out.numel()):
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
    value, device = fill.value, out.device
    zero = value == 0 and math.copysign(1, value) > 0
    if device.type == "cpu":
        return (value,) if zero else None
    # Twice over the memory, which is worth it where a launch costs more.
    together = zero or (value and out.dtype in stream.DTYPES and out.numel() <= FEW)
    return (value, device, out.dtype, out.is_contiguous()) if together else None


def _fill_together(value: float, outs: list[Tensor]) -> None:
    """Write a constant to tensors of one `ConstantKind`, which a GPU takes in few launches. 0 + value is exact."""
    torch._foreach_zero_(outs)
    if value:
        torch._foreach_add_(outs, value)


@dataclass
class _Work:
    """The work on a batch of pieces: draws and tensors that threads build, which run together; then the rest, in order.

    ``asked`` are the draws that such tensors are built from. ``undrawn`` counts the elements that the stream does not
    tell of. ``at_once`` says that small tensors are to be drawn while the work is put together.
    """

    seed: int
    at_once: bool = False
    draws: list[stream.Draw] = field(default_factory=list)
    asked: list[stream.Draw] = field(default_factory=list)
    constants: dict[ConstantKind, list[Tensor]] = field(default_factory=dict)
    built: list[Task] = field(default_factory=list)
    after: list[Callable[[], object]] = field(default_factory=list)
    undrawn: int = 0

    def __post_init__(self) -> None:
        self.key_of = stream.keys_of(self.seed)

    def draw(self, distribution: str, args: tuple[float, ...], piece: Piece, purpose: str = "") -> None:
        """Draw a distribution at every element of a piece, or plan to."""
        key, out = self.key_of(piece.name, purpose), piece.out
        if piece.region.is_whole and out.is_contiguous() and not out.is_neg():  # as most are
            count = out.numel()
            if self.at_once and stream.drawn_at_once(out, distribution, args, key):
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

    def build(self, fill: Whole, piece: Piece) -> None:
        """Build a tensor and write it: now with all threads, or later on one of them, from what is drawn before."""
        draw = _sampler(piece, self.seed)
        if piece.out.device.type != "cpu" or not fill.on_one_thread:
            _write_whole(fill, piece, draw)
            return
        if fill.asks:
            drawn, draws = _draws(*fill.asks, piece._replace(region=piece.region.everything()), self.seed)
            self.asked += draws
            draw = partial(_given, drawn, fill.asks, draw)
        self.built.append(Task(partial(_built, fill, piece, draw), COST * piece.out.numel()))

    def run(self, on_progress: Progress) -> None:
        """Draw, build, then do what comes after."""
        if self.draws:
            stream.execute(self.draws, on_progress)
        if self.asked:
            stream.execute(self.asked)
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
    if not isinstance(fill, _DRAWN_INSIDE):
        work.undrawn += out.numel()
    match fill:
        case Constant(value):
            if kind := _constant_kind(fill, out):
                work.constants.setdefault(kind, []).append(out)
            else:
                out.fill_(value)
        case Keep():
            pass
        case Mapped():
            drawn = _beside(piece)
            work.draw(*fill.draws, drawn)
            work.after.append(lambda: out.copy_(fill.transform(drawn.out)))
        case OnCurrent():
            work.after.append(lambda: _on_current(fill, piece, work.seed))
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
            _write_stacked(fill, piece, work.seed)
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
    out, draws = _draws(distribution, args, purpose, piece, seed)
    stream.execute(draws)
    return out


def _draws(
    distribution: str, args: Sequence[float], purpose: str, piece: Piece, seed: int
) -> tuple[Tensor, list[stream.Draw]]:
    """Give new memory for the region of a piece, and the draws that will fill it with a distribution."""
    dtype = torch.int32 if distribution == "bits" else torch.float32
    out = torch.empty(piece.region.local_shape, dtype=dtype, device=piece.out.device)
    key, rows = stream.key(piece.name, seed, purpose), piece.region.rows(out)
    return out, [stream.Draw(row, distribution, tuple(args), key, start, stride) for row, start, stride in rows]


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


def _write_stacked(fill: Stacked, piece: Piece, seed: int) -> None:
    """Write the held part of every member: each is drawn at its own elements of the whole tensor."""
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


def _on_current(fill: OnCurrent, piece: Piece, seed: int) -> None:
    """Compute new values from current ones, in float32 or wider, rounded once."""
    wide = piece.out.to(torch.promote_types(piece.out.dtype, torch.float32))
    piece.out.copy_(fill.apply(wide, lambda: _drawn("normal", (0.0, 1.0), "perturb", piece, seed)))
