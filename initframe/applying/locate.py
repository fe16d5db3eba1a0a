"""Locate a plan's tensors in a model as it is now, and tell everything that would fail half-way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from initframe.applying.placements import held, unplaced
from initframe.applying.regions import Region
from initframe.errors import Problem, ResolveError, shown
from initframe.fills import Copied, Fill, Keep, Norms, Partial
from initframe.fills.fill import needs_no_trial
from initframe.model.elsewhere import OFFLOADED
from initframe.model.memory import is_distributed, memoryless
from initframe.model.place import Place
from initframe.model.slot import Slot
from initframe.model.survey import Survey, survey
from initframe.plan import Assignment, Plan

Model = nn.Module | Mapping[str, Tensor]

NO_MODEL = Problem("plan", "it has no model.", fix="Pass one: apply(plan, module=…).")


class Write(NamedTuple):
    """An assignment, and the place where its fill goes.

    Attributes:
        assignment: what is to be written.
        slot: the tensor's facts in the model that is written to.
        place: its memory there.
        name: what addresses the stream: the plan's name, also if a stage of the model has another.
        fill: what is to be written.
        kept: whether nothing is to be written.
        computed: whether a layer computes the tensor from others, which are written in its place.
        plain: whether nothing can keep it from being written: the tensor is the one that was resolved, neither it nor
            its fill needs to be tried.
        copied: the copy that it is, if it is one.
        source: the memory of the tensor that it is a copy of, if that one is here.
        turns: for torch's generator, where those of its names that the rule means stand in the model's state_dict.
    """

    assignment: Assignment
    slot: Slot
    place: Place
    name: str
    fill: Fill
    kept: bool
    computed: bool
    plain: bool = False
    copied: Copied | None = None
    source: Place | None = None
    turns: tuple[int, ...] = ()


def demand_plan(plan: object, taker: str) -> None:
    """Refuse anything but a plan.

    Args:
        plan: what was given for one.
        taker: the function that it was given to.

    Raises:
        ResolveError: it is not one.

    >>> demand_plan("xavier_relu", "apply")
    Traceback (most recent call last):
    initframe.errors.ResolveError: apply: got 'xavier_relu' for a plan. Make one: initframe.resolve(recipe, model).
    """
    if not isinstance(plan, Plan):
        got = shown(plan) if isinstance(plan, str | float | None) else type(plan).__name__
        raise ResolveError(Problem(taker, f"got {got} for a plan.", fix="Make one: initframe.resolve(recipe, model)."))


def current_survey(plan: Plan, model: Model | None) -> Survey:
    """Survey the model that a plan is applied to, unless the plan knows it and it has not changed.

    Args:
        plan: from :func:`initframe.resolve`.
        model: the model that was resolved, or another one.

    Returns:
        The survey of the model as it is now.

    Raises:
        ResolveError: there is no model.
    """
    if model is None:
        raise ResolveError(NO_MODEL)
    return plan.latest.of(model) if model is plan.model else survey(model)


def locate(plan: Plan, model: Model | None, seen: Survey) -> tuple[list[Write], list[Problem]]:
    """Locate a plan's tensors in a model, whether they have memory or not.

    A tied tensor is found by any of its names, also in a pipeline stage that has only one of them; if a copy of the
    model has lost the tie, all of them are found.

    Args:
        plan: from :func:`initframe.resolve`.
        model: the model that was resolved, or another one with the same names.
        seen: its survey.

    Returns:
        The writes, and what would fail.
    """
    writes: list[Write] = []
    gone: list[str] = []
    known = seen.by_name
    for assignment in plan.assignments:
        planned = assignment.slot
        if known.get(planned.name) is planned:
            writes.append(_write(assignment, planned, seen))
            continue
        slots = _slots(planned, known)
        writes += [_write(assignment, slot, seen) for slot in slots]
        if not slots:
            gone.append(planned.name)
    problems = [problem for write in writes if not write.plain and (problem := _problem(write, seen))]
    problems += _merged(writes, seen)
    if model is plan.model:
        problems += [Problem(name, f"it is no longer in {seen.title}.", fix="Resolve again.") for name in gone]
    elif plan.assignments and not writes:
        one = plan.assignments[0].slot.name
        problems.append(Problem("plan", f"{seen.title} has none of its tensors, not even {one}."))
    return writes, problems


def _slots(planned: Slot, known: Mapping[str, Slot]) -> Sequence[Slot]:
    """Find the slots of a planned tensor in another survey: more than one if the tie of its names was lost."""
    if not planned.aliases:
        return (known[planned.name],) if planned.name in known else ()
    found = (known[name] for name in (planned.name, *planned.aliases) if name in known)
    return list({slot.name: slot for slot in found}.values())


def _write(assignment: Assignment, slot: Slot, seen: Survey) -> Write:
    fill, name, place = assignment.fill, assignment.slot.name, seen.places[slot.name]
    kind: type = type(fill)
    if place.plain and not slot.blocked and slot is assignment.slot and needs_no_trial(kind):
        return Write(assignment, slot, place, name, fill, kind is Keep, False, True)
    inner = fill.fill if isinstance(fill, Partial) else fill
    copied = inner if isinstance(inner, Copied) else None
    source = seen.by_name.get(copied.source) if copied else None
    there = seen.places[source.name] if source else None
    kept, computed = isinstance(fill, Keep), place.computed is not None
    return Write(assignment, slot, place, name, fill, kept, computed, copied=copied, source=there)


def with_turns(writes: Iterable[Write], seen: Survey) -> list[Write]:
    """Add the turns in which torch.nn.init would draw, in a loop over the state_dict.

    Args:
        writes: from :func:`locate`.
        seen: the survey of their model.
    """
    turns = {name: turn for turn, name in enumerate(seen.names)}
    found = []
    for write in writes:
        own = (write.slot.name, *write.slot.aliases)
        meant = [name for name in own if len(own) == 1 or write.assignment.rule.means(name)]
        found.append(write._replace(turns=tuple(turns[name] for name in meant or own[:1])))
    return found


def _merged(writes: list[Write], seen: Survey) -> Iterator[Problem]:
    """Tell tensors that were two in the plan and are one here."""
    if len({write.slot.name for write in writes}) == len(writes):
        return
    first: dict[str, str] = {}
    for write in writes:
        other = first.setdefault(write.slot.name, write.name)
        if other != write.name:
            fact = f"it is one tensor with {other} in {seen.title}, and two in the plan."
            yield Problem(write.name, fact, fix="Resolve again.")


def _problem(write: Write, seen: Survey) -> Problem | None:
    """Say what would fail when the tensor is written."""
    planned, slot, fill = write.assignment.slot, write.slot, write.fill
    if slot.shape != planned.shape:
        fact = f"its shape is {list(planned.shape)} in the plan, {list(slot.shape)} in {seen.title}."
        return Problem(slot.name, fact, fix="Resolve again.")
    if write.kept:
        return None
    if slot.name in planned.views:
        fact = f"it is a tensor of its own in {seen.title}, and a view of {planned.name} in the plan."
        return Problem(slot.name, fact, fix="Resolve again.")
    # the plan keeps all that it shares memory with
    freed = slot.shares and slot.shares == planned.shares and not planned.blocked
    if slot.blocked and not freed and not fill.suits(slot):
        return slot.problem
    if (copied := write.copied) and copied.from_memory and (found := uncopiable(write)):
        return found
    for tensor in write.place.held:
        if problem := unplaced(tensor):
            return problem.on(slot.name)
    narrow = fill.problem(slot.shape, slot.dtype) if slot.dtype != planned.dtype else None
    return narrow.on(slot.name) if narrow else _trial(write)


def uncopiable(write: Write) -> Problem | None:
    """Say why a tensor cannot be copied from its source's memory.

    Args:
        write: of a copy.

    Returns:
        The problem; ``None`` if it can.
    """
    source = write.copied.source if write.copied else ""
    if write.source is None:
        return Problem(write.slot.name, f"its source {source} is not in this model.")
    mine, theirs = write.place.direct, write.source.direct
    if mine is None or theirs is None or not (is_distributed(mine) or is_distributed(theirs)):
        return None
    if isinstance(write.copied, Norms):
        if _rows_are_here(write.copied.dim, held(theirs)[1], held(mine)[1]):
            return None
    elif held(mine)[1] == held(theirs)[1]:
        return None
    return Problem(write.slot.name, f"its source {source} is sharded in another way.", fix="Shard both alike.")


def _rows_are_here(dim: int, rows: Region, norms: Region) -> bool:
    """Whether this process holds whole rows, and the norms of just these."""
    others = (
        runs == ((0, size),) for d, (runs, size) in enumerate(zip(rows.runs, rows.shape, strict=True)) if d != dim
    )
    along = [runs for runs, size in zip(norms.runs, norms.shape, strict=True) if size != 1] or [norms.runs[-1]]
    return all(others) and along == [rows.runs[dim]]


def _trial(write: Write) -> Problem | None:
    """Try the functions of a custom fill, and look at the files that it reads."""
    kind: type = type(write.fill)
    if needs_no_trial(kind):
        return None
    device = write.place.held[0].device
    fault = write.fill.trial(torch.device("cpu") if device.type == "meta" else device)
    return fault.on(write.slot.name) if fault else None


def without_memory(writes: Iterable[Write]) -> list[Problem]:
    """Say which tensors cannot be written yet, because they have no memory.

    >>> from initframe import resolve
    >>> plan = resolve({"rules": {"weight": "zeros"}}, nn.Linear(2, 2, device="meta"))
    >>> print(*without_memory(locate(plan, plan.model, survey(plan.model))[0]))
    weight: it is on the meta device and has nothing to write to. Give it memory first: initframe.materialize.
    """
    fix = "Give it memory first: initframe.materialize."
    unsure = [write for write in writes if not (write.plain or write.kept)]
    lacks = {w.slot.name: (w, lack) for w in unsure for t in w.place.held if (lack := memoryless(t))}
    return [Problem(name, f"it {lack} and has {_nothing(w.fill)}.", fix=fix) for name, (w, lack) in lacks.items()]


def _nothing(fill: Fill) -> str:
    return "no values to start from" if fill.needs_current else "nothing to write to"


def uncovered(plan: Plan, seen: Survey) -> list[Problem]:
    """Say which tensors on the meta device a plan leaves without values.

    Args:
        plan: from :func:`initframe.resolve`.
        seen: the survey of the plan's model, or of a stage of it.

    Returns:
        One problem per tensor.

    >>> from initframe import resolve
    >>> model = nn.Linear(2, 2, device="meta")
    >>> print(*uncovered(resolve({"rules": {"weight": "zeros"}}, model), survey(model)))
    bias: it has no memory, and no rule gives it values. Add a rule, or set unmatched: default.
    """
    filled = {name: a.fill for a in plan.assignments for name in (a.slot.name, *a.slot.aliases)}
    problems = []
    for slot in seen.every:
        place = seen.places[slot.name]
        if slot.name in plan.hidden:
            continue
        if place.computed is None and slot.numel and any(tensor.is_meta for tensor in place.held):
            through = slot.part_of if _is_set(place, seen.places.get(slot.part_of or "")) else None
            names = (slot.name, *slot.aliases, through)
            fill = next((filled[name] for name in names if name in filled), None)
            if fill is None or fill.needs_current:
                problems.append(_left_without(slot, has_rule=fill is not None))
    return problems


def _is_set(part: Place, whole: Place | None) -> bool:
    """Whether a write to a computed tensor sets one of those that it is computed from."""
    how = whole and whole.computed
    written = (*how.originals.values(), *how.renewed) if how else ()
    return any(tensor is other for tensor in part.held for other in written)


def _left_without(slot: Slot, *, has_rule: bool) -> Problem:
    """Say what is wrong with a tensor that has neither memory nor values to come."""
    if slot.blocked == OFFLOADED.fact:
        return OFFLOADED.on(slot.name)  # it has values, and memory would hide them
    if has_rule:
        fact = "it has no memory, and its rule starts from current values."
        return Problem(slot.name, fact, fix="Give it an initializer that needs none.")
    if slot.kind == "buffer":
        fix = (
            "Build the model under initframe.deferred(), which keeps buffers that are not made from parameters; build "
            "others with memory, for initframe.reinit; or fill it by a rule of kind: buffer."
        )
        fact = "it is a buffer without memory, and recipes do not know what a constructor computes."
        return Problem(slot.name, fact, fix=fix)
    fact = "it has no memory, and no rule gives it values."
    return Problem(slot.name, fact, fix="Add a rule, or set unmatched: default.")
