"""What a report says of the tensors after a write: those that were written, and those that were left alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import attrgetter

from torch import Tensor, nn

from initframe.applying.locate import Write
from initframe.applying.measure import Sample, bits, combine, sample
from initframe.model.place import Place
from initframe.model.slot import Slot
from initframe.model.survey import Survey
from initframe.plan.report import Left, Measured, OpenResult, Result

_VIEWS = attrgetter("views")
"""Gives a slot's views: for all slots of a model, by map, in a fraction of a loop's time."""


def samples(writes: Sequence[Write]) -> list[Sample | None]:
    """Take a sample of every tensor that is written or kept by a rule.

    Args:
        writes: from :func:`initframe.applying.checks.prepared`.

    Returns:
        One sample for each; ``None`` for tensors that can only be kept (lazy, quantized, …).
    """
    blind = (write.kept and write.slot.blocked is not None for write in writes)
    return [None if b else sample(write.place.tensor()) for b, write in zip(blind, writes, strict=True)]


def results_of(
    writes: Sequence[Write], before: Sequence[Measured | None], after: Sequence[Measured | None]
) -> tuple[Result, ...]:
    """Give one result for each write.

    Args:
        writes: what was written.
        before: what each tensor held before; empty if it was not measured.
        after: what it holds now; likewise.

    Returns:
        The results, in the order of the writes.
    """
    unmeasured = [
        OpenResult(w.assignment) if w.plain else OpenResult(w.assignment, None, None, _other(w), w.computed)
        for w in writes
    ]
    for result in unmeasured:
        result.__class__ = Result
    if not (before or after):
        return tuple(unmeasured)
    nothing = [None] * len(writes)
    found = zip(unmeasured, before or nothing, after or nothing, strict=True)
    return tuple([replace(one, before=old, after=new) for one, old, new in found])


def _other(write: Write) -> Slot | None:
    """Return a tensor's facts in the model, if name or dtype are not the plan's."""
    planned, slot = write.assignment.slot, write.slot
    return None if slot.name == planned.name and slot.dtype == planned.dtype else slot


def left_alone(writes: Sequence[Write], seen: Survey, *, measured: bool) -> tuple[Left, ...]:
    """List the tensors that a plan does not name, and views of others.

    Args:
        writes: what was written.
        seen: the model's survey.
        measured: whether to compute the digests of these tensors.

    Returns:
        The tensors, with their digests if these were wanted.
    """
    written = {write.slot.name for write in writes}
    if len(written) == len(seen.every) and not any(map(_VIEWS, seen.slots)):
        return ()
    places = [(slot, seen.places[slot.name]) for slot in seen.every if slot.name not in written]
    rest = [(slot, place.held[0]) for slot, place in places if place.computed is None]  # or its originals tell it
    rest += [view for slot in seen.slots if slot.views for view in _views(slot, seen.places[slot.name])]
    found = combine([bits(tensor) for _, tensor in rest]) if measured else [None] * len(rest)
    return tuple([Left(slot, one) for (slot, _), one in zip(rest, found, strict=True)])


def _views(slot: Slot, place: Place) -> Iterator[tuple[Slot, Tensor]]:
    """Yield the names under which a tensor is shown in another form, as slots of their own."""
    for name, (owner, attribute) in zip((slot.name, *slot.aliases), place.owners, strict=False):
        if name in slot.views:
            tensor = getattr(owner, attribute) if isinstance(owner, nn.Module) else owner[attribute]
            yield replace(slot, name=name, aliases=(), shape=tuple(tensor.shape), views=(slot.name,)), tensor
