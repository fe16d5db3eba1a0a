"""Apply a plan again to a model that has not changed: what the first application found out is not asked twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from initframe.applying.averages import find_copies, may_have_copies, stale_copies
from initframe.applying.backup import note_written
from initframe.applying.checks import checked_seed
from initframe.applying.draw import Progress, Ready, in_batches, paint_in_batches, ready
from initframe.applying.exclusive import Memory, exclusive, memory_of
from initframe.applying.locate import Model, Write
from initframe.applying.piece import Piece
from initframe.applying.regions import Region
from initframe.fills import Constant, Fill, Whole
from initframe.fills.fill import has_own_code
from initframe.fills.pretrained import Stored
from initframe.model.memory import is_distributed
from initframe.model.survey import Survey
from initframe.plan import Assignment, Plan
from initframe.plan.report import Left, OpenReport, Report, Result
from initframe.recipe.recipe import Recipe

KEY = "again"
"""Under which a survey keeps what is known, or the assignments that were applied once."""


class Target(NamedTuple):
    """A tensor to be written: its turn among the model's tensors, its fill, its region, and its name in the stream."""

    turn: int
    fill: Fill
    region: Region
    name: str


@dataclass(frozen=True)
class Again:
    """All that applications of one plan to one model have in common.

    It keeps no tensor alive, and not the plan, whose survey has it: both would wait for the garbage collector.

    Attributes:
        assignments: the plan's.
        recipe: likewise.
        targets: what is written.
        kept: how many elements a rule keeps.
        may_have_copies: whether there may be copies inside of the model.
        memory: where the targets are.
        draws: prepared for that memory, if the plan draws, and a device's draws can be prepared.
        results: the report's, unmeasured.
        left: likewise.
    """

    assignments: tuple[Assignment, ...]
    recipe: Recipe
    targets: tuple[Target, ...]
    kept: int
    may_have_copies: bool
    memory: Memory
    draws: Ready | None
    results: tuple[Result, ...]
    left: tuple[Left, ...]

    def apply(
        self, plan: Plan, model: Model, tensors: Sequence[Tensor], seed: int | None, on_progress: Progress | None
    ) -> Report:
        """Write the plan as the first application did, with another seed; ``tensors`` are from :func:`known`."""
        told: list[int] = []
        tell = told.append if on_progress is None else _both(told.append, on_progress)
        number = 0 if seed is None else checked_seed(seed)
        pieces = [Piece(target.fill, tensors[target.turn], target.region, target.name) for target in self.targets]
        with torch.set_grad_enabled(False):
            copies = find_copies(model) if self.may_have_copies else []
            with exclusive(self.memory):
                fill = self.draws.paint if self.draws else paint_in_batches
                try:
                    fill(pieces, number, tell)
                    torch.clear_autocast_cache()
                    if self.kept:
                        tell(self.kept)
                except BaseException as error:
                    note_written(error, [piece.name for piece in pieces], self._written(pieces, sum(told)))
                    raise
            stale = stale_copies(copies, {id(piece.out) for piece in pieces}) if copies else ()
        report = OpenReport(plan, number, "stream", self.results, stale, None, model, self.left)
        report.__class__ = Report
        return report

    def _written(self, pieces: Sequence[Piece], told: int) -> list[str]:
        """Name the tensors that are written whole, as far as the number of elements that were told shows it.

        Threads fill the prepared draws in no order, so these are known together.
        """
        draws = self.draws
        one_step = [sorted(set(draws.sources)), *(places for _, places in draws.constants)] if draws else []
        others = [pieces[i] for i in draws.rest] if draws else pieces
        done: list[str] = []
        for step in one_step:
            told -= sum(pieces[i].out.numel() for i in step)
            if told < 0:
                return done
            done += [pieces[i].name for i in step]
        for batch in in_batches(others, [piece.out.numel() for piece in others]):
            told -= sum(piece.out.numel() for piece in batch)
            if told <= 0:  # what is drawn beside its memory is told before it is copied there
                return done
            done += [piece.name for piece in batch]
        return done


def _both(one: Progress, other: Progress) -> Progress:
    """Tell two of them."""

    def tell(count: int) -> None:
        one(count)
        other(count)

    return tell


def known(plan: Plan, model: Model) -> tuple[Again, Sequence[Tensor]] | None:
    """Return what is known of applying a plan to its model, and the model's tensors as they are now.

    Returns:
        ``None`` if nothing is known, or the model has changed.
    """
    kept = plan.latest.kept
    if kept is None or model is not plan.model:
        return None
    found = kept.seen.memo.get(KEY)
    if not isinstance(found, Again) or found.assignments is not plan.assignments or found.recipe is not plan.recipe:
        return None
    tensors = kept.tensors(model)
    return None if tensors is None else (found, tensors)


def remember(
    plan: Plan, seen: Survey, writes: Sequence[Write], results: tuple[Result, ...], left: tuple[Left, ...]
) -> None:
    """Keep with a survey what further applications need, if the plan only draws, and into the model's own tensors.

    The first application only leaves a note: most plans have no second one.

    Args:
        plan: what was applied.
        seen: the survey of its model.
        writes: what was written.
        results: the report's, unmeasured.
        left: likewise.
    """
    if seen.memo.get(KEY) is not plan.assignments:
        seen.memo[KEY] = plan.assignments
        return
    touched = [write for write in writes if not write.kept]
    if plan.asks or not all(map(_only_draws, touched)):
        return
    kept = plan.latest.kept
    tensors = kept.tensors(plan.model) if kept is not None and plan.model is not None else None
    places = {id(tensor): i for i, tensor in enumerate(tensors or ())}
    held = [write.place.held[0] for write in touched]
    if not all(id(tensor) in places for tensor in held):
        return
    pieces = [
        Piece(w.fill, tensor, Region.whole(w.slot.shape), w.name) for w, tensor in zip(touched, held, strict=True)
    ]
    seen.memo[KEY] = Again(
        plan.assignments,
        plan.recipe,
        tuple([Target(places[id(piece.out)], piece.fill, piece.region, piece.name) for piece in pieces]),
        sum(write.slot.numel for write in writes if write.kept),
        may_have_copies(plan.model),
        memory_of([write.place for write in touched]),
        ready(pieces),
        results,
        left,
    )


def _only_draws(write: Write) -> bool:
    """Whether a write needs no value, no file, no code of the user's and no parametrization, and no other tensor."""
    fill, place = write.fill, write.place
    if place.direct is None or len(place.held) > 1 or is_distributed(place.direct) or has_own_code(fill) or fill.inner:
        return False
    return bool(fill.distribution) or (isinstance(fill, Constant | Whole) and not isinstance(fill, Stored))
