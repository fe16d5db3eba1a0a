"""Write fills to their places: directly, or drawn next to them and then copied there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from initframe.applying import torch_init
from initframe.applying.draw import Progress, in_batches, index_on, paint
from initframe.applying.locate import Write
from initframe.applying.piece import Piece
from initframe.applying.placements import held
from initframe.applying.regions import Region
from initframe.errors import InitframeError, Problem, ResolveError
from initframe.fills import Norms, Partial
from initframe.fills.fill import has_own_code
from initframe.model.memory import is_distributed
from initframe.model.survey import Survey

Generator = Literal["stream", "torch"]


def write_all(
    writes: Sequence[Write],
    seed: int | None,
    generator: Generator,
    tell: Progress,
    done: list[str] | None = None,
) -> None:
    """Carry out all writes, those of a batch together; parametrized ones last, as they set other tensors.

    Args:
        writes: what was checked.
        seed: of the generator; ``None`` continues torch's from its current state.
        generator: ``"stream"`` or ``"torch"``.
        tell: told how many elements were filled since it was last told.
        done: takes the names of what is written, when it is.

    Raises:
        ResolveError: a parametrization does not take what torch's generator has drawn.
    """
    done = [] if done is None else done
    copies = [write for write in writes if (c := write.copied) and (c.from_memory or generator == "torch")]
    if copies:
        ids = set(map(id, copies))
        writes = [write for write in writes if id(write) not in ids]
    if generator == "stream":
        in_turn = sorted(writes, key=attrgetter("computed"))
        for batch in in_batches(in_turn, [math.prod(write.slot.shape) for write in in_turn]):
            _paint_batch(batch, seed or 0, tell)
            done += [write.name for write in batch if not write.kept]
    elif writes:
        with torch_init.seeded(seed, {write.place.held[0].device for write in writes}):
            drawn = list(_drawn_in_turn(writes, tell))
        # What was tried before the first write were the stream's numbers.
        if found := [obstacle.on(w.slot.name) for w, value in drawn if (obstacle := w.place.check(value))]:
            raise ResolveError(*found)
        for write, logical in drawn:
            _settle(write, logical)
        done += [write.name for write in writes if not write.kept]
    for write in copies:
        _copy_from_memory(write)
        done.append(write.name)
        tell(write.slot.numel)


def _copy_from_memory(write: Write) -> None:
    """Copy what the source holds now: all of it, or the units that the rule means."""
    source = write.source
    if source is None:  # refused before
        return
    theirs, mine = source.computed, write.place.computed
    if isinstance(write.copied, Norms):
        target = _whole(write) if mine else held(write.place.held[0])[0]
        norms = write.copied.of(source.tensor() if theirs else held(source.held[0])[0])
        target.copy_(norms.reshape(target.shape))
        _settle(write, target)
        return
    pairs = list(zip(write.place.held, source.held, strict=False))
    if (
        theirs
        and mine
        and all(one.shape == other.shape for one, other in pairs)
        and not isinstance(write.fill, Partial)
    ):
        for one, other in [*pairs, *zip(mine.renewed, theirs.renewed, strict=False)]:
            one.copy_(other)
        return
    logical = _whole(write) if mine else held(write.place.held[0])[0]
    region = Region.whole(tuple(logical.shape)) if mine else held(write.place.held[0])[1]
    values = source.tensor() if theirs else held(source.held[0])[0]
    if isinstance(write.fill, Partial):
        here = index_on(logical.device, region.units(write.fill.dim, write.fill.units)[1])
        chosen = values.to(logical).index_select(write.fill.dim, here)
        logical.index_copy_(write.fill.dim, here, chosen)
    else:
        logical.copy_(values)
    _settle(write, logical)


def refresh(writes: Sequence[Write], seen: Survey) -> None:
    """Renew what layers keep of values that they have computed from tensors that were written.

    These are the plain attribute in which the older hooks show a weight until the next forward pass, and the values
    that ``torch.nn.utils.parametrize.cached()`` keeps.

    Args:
        writes: what was carried out, without what is kept.
        seen: the survey of their model.
    """
    parametrize._cache.clear()  # noqa: SLF001  # torch has no other way; each value is computed anew when it is read
    for name in dict.fromkeys([write.slot.part_of for write in writes if write.slot.part_of]):
        place = seen.places[name]
        for owner, attribute in place.owners:
            shown = vars(owner).get(attribute) if isinstance(owner, nn.Module) else None
            if isinstance(shown, Tensor) and not shown.is_inference() and not _shares(shown, place.held):
                shown.copy_(place.tensor())


def _shares(tensor: Tensor, others: Iterable[Tensor]) -> bool:
    """Whether a tensor is on the memory of others: before its first forward pass, spectral_norm shows its original."""
    return tensor.data_ptr() in {other.data_ptr() for other in others}


def _drawn_in_turn(writes: Sequence[Write], tell: Progress) -> Iterator[tuple[Write, Tensor]]:
    """Draw with torch.nn.init in the order of the state_dict; give what is not yet copied to its place.

    A tied tensor is drawn once per name, as by a loop over the state_dict, unless it starts from its values.
    """
    turns = sorted((turn, i) for i, t in enumerate(writes) for turn in t.turns[: 1 if t.fill.needs_current else None])
    drawn: dict[int, Tensor] = {}
    for turn, i in turns:
        logical = _write_torch_init(writes[i])
        if logical is not None:
            drawn[i] = logical
        if turn == writes[i].turns[0]:
            tell(writes[i].slot.numel)
    yield from ((writes[i], logical) for i, logical in drawn.items())


def unwritable(writes: Sequence[Write], seed: int, generator: Generator) -> list[Problem]:
    """Say which values cannot be had or taken, tried with the values themselves, one tensor at a time.

    These are fills with code of the user's own, which may fail at the real size or give NaN, and parametrizations
    whose right_inverse does not take a value. Both are drawn twice.

    Args:
        writes: all that are to be written.
        seed: of the stream.
        generator: what will draw; torch's has no fills of one's own.

    Returns:
        One problem per tensor.
    """
    found = []
    for write in writes:
        if write.plain or write.kept or (write.copied and write.copied.from_memory):
            continue
        own = generator == "stream" and has_own_code(write.fill)
        if (own or write.computed) and (problem := _unwritable(write, seed, own=own)):
            found.append(problem)
    return found


def _unwritable(write: Write, seed: int, *, own: bool) -> Problem | None:
    name = write.slot.name
    try:
        value = _painted(write, seed)
    except Exception as error:
        if not own or isinstance(error, InitframeError):
            raise
        return Problem(name, f"{write.fill} fails with {type(error).__name__}: {error}.")
    if own and value.is_floating_point() and not torch.isfinite(value.float()).all():
        return Problem(name, f"{write.fill} gives NaN or infinity.", fix="Return finite numbers for every draw.")
    obstacle = write.place.check(value) if write.computed else None
    return obstacle.on(name) if obstacle else None


def _paint_batch(batch: Sequence[Write], seed: int, tell: Progress) -> None:
    pieces: list[Piece] = []
    computed: list[tuple[Write, Tensor]] = []
    for write in batch:
        if write.plain and not write.kept:
            pieces.append(Piece(write.fill, write.place.held[0], Region.whole(write.slot.shape), write.name))
        elif not write.kept:
            logical = _logical(write)
            pieces.append(Piece(write.fill, *held(logical), write.name))
            if write.computed:
                computed.append((write, logical))
    paint(pieces, seed, tell)
    for write, logical in computed:
        _settle(write, logical)
    if untouched := sum([write.slot.numel for write in batch if write.kept]):
        tell(untouched)


def _logical(write: Write) -> Tensor:
    """The tensor to paint: the live one, or a new one if it is computed from others."""
    return _whole(write) if write.computed else write.place.held[0]


def _whole(write: Write) -> Tensor:
    """A new plain tensor of the whole shape, with the current values if the fill starts from them."""
    if write.fill.needs_current:
        tensor: Any = write.place.tensor()
        return tensor.full_tensor().clone() if is_distributed(tensor) else tensor.clone()  # type: ignore[no-any-return]
    return torch.empty(write.slot.shape, dtype=write.slot.dtype, device=write.place.held[0].device)


def _painted(write: Write, seed: int) -> Tensor:
    """What a tensor will hold here, in new memory: its shard, or the whole of a parametrized one."""
    if write.place.direct is None:
        local, region = held(_whole(write))
    else:
        there, region = held(write.place.direct)
        local = there.clone() if write.fill.needs_current else torch.empty_like(there)
    paint([Piece(write.fill, local, region, write.name)], seed)
    return local


def _settle(write: Write, logical: Tensor) -> None:
    """Copy the value of a parametrized tensor to those that it is computed from."""
    if not write.computed:
        return
    try:
        copies = write.place.copies(logical)
    except Exception as error:
        fact = f"its parametrization took the value when it was tried, and then failed: {error}."
        raise ResolveError(Problem(write.slot.name, fact, fix="Make right_inverse a function of its input.")) from error
    for original, value in copies:
        original.copy_(value)


def _write_torch_init(write: Write) -> Tensor | None:
    """Draw with torch.nn.init; a sharded tensor is drawn whole, the same in every process, and its shard kept.

    Returns:
        What was drawn for a parametrized tensor, which is not yet copied to its place.
    """
    logical = None
    if not write.kept:
        logical = _whole(write) if is_sharded(write) else _logical(write)
        torch_init.write(write.fill, logical)
        if is_sharded(write):
            local, region = held(write.place.held[0])
            local.copy_(region.pick(logical))
    return logical if write.computed else None


def is_sharded(write: Write) -> bool:
    """Whether the tensor is a DTensor."""
    return write.place.direct is not None and is_distributed(write.place.direct)
