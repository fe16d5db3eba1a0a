"""Where a plan goes: the tensors of a model as it is now, with everything that would fail half-way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from initframe.applying.placements import unplaced
from initframe.errors import ResolveError
from initframe.fills import Constant, Fill, Keep
from initframe.model.memory import memoryless
from initframe.model.place import Place
from initframe.model.slot import Slot
from initframe.model.survey import Survey, survey
from initframe.plan import Assignment, Plan


@dataclass(frozen=True)
class Target:
    """An assignment and where it goes.

    Attributes:
        assignment: what is to be written.
        slot: the tensor's facts in the model that is written to.
        place: where it lives.
        turns: where those of its names that the rule means stand in the model's state_dict.
    """

    assignment: Assignment
    slot: Slot
    place: Place
    turns: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The name that addresses the stream: the plan's, whatever a stage of the model calls the tensor."""
        return self.assignment.slot.name

    @property
    def fill(self) -> Fill:
        """What is to be written."""
        return self.assignment.fill

    @property
    def kept(self) -> bool:
        """Whether nothing is to be written."""
        return isinstance(self.fill, Keep)


def demand_plan(plan: object, taker: str) -> None:
    """Refuse what is no plan.

    Args:
        plan: what was given for one.
        taker: the function that it was given to.

    Raises:
        ResolveError: it is none.

    >>> demand_plan("xavier_relu", "apply")
    Traceback (most recent call last):
    initframe.errors.ResolveError: apply takes a plan, got 'xavier_relu'. Make one: initframe.resolve(recipe, model).
    """
    if not isinstance(plan, Plan):
        raise ResolveError(f"{taker} takes a plan, got {plan!r:.60}. Make one: initframe.resolve(recipe, model).")


def find_targets(plan: Plan, model: nn.Module | Mapping[str, Tensor] | None) -> tuple[list[Target], list[str]]:
    """Find a plan's tensors in a model as it is now, whether they have memory or not.

    A tied tensor is found by any of its names, in a pipeline stage that has only one of them, too; where a copy of the
    model has lost the tie, all of them are found.

    Args:
        plan: from :func:`initframe.resolve`.
        model: the model that was resolved, or another one with the same names.

    Returns:
        The targets, and what would fail, one message each.

    Raises:
        ResolveError: there is no model.
    """
    if model is None:
        raise ResolveError("this plan has no model. Pass one: apply(plan, module=…).")
    seen = survey(model)
    known = {name: slot for slot in (*seen.slots, *seen.raw) for name in (slot.name, *slot.aliases)}
    turns = {name: turn for turn, name in enumerate(seen.names)}
    targets = [target for assignment in plan.assignments for target in _found(assignment, known, seen, turns)]
    problems = [f"{t.slot.name}{problem}" for t in targets if (problem := _problem(t, seen))]
    problems += _merged(targets, seen)
    if model is plan.model:
        found = {id(target.assignment) for target in targets}
        gone = [a.slot.name for a in plan.assignments if id(a) not in found]
        problems += [f"{name} is no longer in {seen.title}. Resolve again." for name in gone]
    elif plan.assignments and not targets:
        problems.append(f"{seen.title} has none of the plan's tensors, {plan.assignments[0].slot.name} for one.")
    return targets, problems


def _found(
    assignment: Assignment, known: Mapping[str, Slot], seen: Survey, turns: Mapping[str, int]
) -> Iterator[Target]:
    names = (assignment.slot.name, *assignment.slot.aliases)
    slots = {known[name].name: known[name] for name in names if name in known}
    for slot in slots.values():
        own = (slot.name, *slot.aliases)
        meant = [name for name in own if len(own) == 1 or assignment.rule.means(name)]
        yield Target(assignment, slot, seen.places[slot.name], tuple(turns[name] for name in meant or own[:1]))


def _merged(targets: list[Target], seen: Survey) -> Iterator[str]:
    """Tensors that were two in the plan and are one here."""
    first: dict[str, str] = {}
    for target in targets:
        other = first.setdefault(target.slot.name, target.name)
        if other != target.name:
            yield f"{other} and {target.name} are one tensor in {seen.title}, and two in the plan. Resolve again."


def _problem(target: Target, seen: Survey) -> str | None:
    """What would fail when the target is written, to be read after the tensor's name."""
    planned, slot, fill = target.assignment.slot, target.slot, target.fill
    if slot.shape != planned.shape:
        shapes = f"{list(planned.shape)} in the plan, {list(slot.shape)} in {seen.title}"
        return f" has another shape: {shapes}. Resolve again."
    if target.kept:
        return None
    if slot.blocked and not (slot.resettable and fill == Constant(0.0)):
        return f": it {slot.blocked}"
    if nowhere := next(filter(None, map(unplaced, target.place.held)), None):
        return f": it {nowhere}"
    device = target.place.held[0].device
    found = fill.problem(slot.shape, slot.dtype) if slot.dtype != planned.dtype else None
    found = found or fill.trial(torch.device("cpu") if device.type == "meta" else device)
    return f": {found}" if found else None


def without_memory(targets: Iterable[Target]) -> list[str]:
    """Say which targets cannot be written yet, because they have no memory.

    Returns:
        One message per tensor.

    >>> from initframe import resolve
    >>> plan = resolve({"rules": {"weight": "zeros"}}, nn.Linear(2, 2, device="meta"))
    >>> without_memory(find_targets(plan, plan.model)[0])
    ['weight: it is on the meta device: there is nothing to write to. Give it memory first: initframe.materialize.']
    """
    lacks = ((t, next(filter(None, map(memoryless, t.place.held)), "")) for t in targets if not t.kept)
    return [
        f"{t.slot.name}: it {lack}: {_nothing(t.fill)}. Give it memory first: initframe.materialize."
        for t, lack in lacks
        if lack
    ]


def _nothing(fill: Fill) -> str:
    return "it has no values to start from" if fill.needs_current else "there is nothing to write to"


def uncovered(plan: Plan, model: nn.Module | Mapping[str, Tensor]) -> list[str]:
    """Say which tensors on the meta device a plan leaves without values.

    Args:
        plan: from :func:`initframe.resolve`.
        model: the plan's, or a stage of it.

    Returns:
        One message per tensor.

    >>> from initframe import resolve
    >>> model = nn.Linear(2, 2, device="meta")
    >>> uncovered(resolve({"rules": {"weight": "zeros"}}, model), model)
    ['bias has no memory, and no rule gives it values. Add one, or set unmatched: default.']
    """
    seen = survey(model)
    filled = {name: a.fill for a in plan.assignments for name in (a.slot.name, *a.slot.aliases)}
    problems = []
    for slot in (*seen.slots, *seen.raw):
        place = seen.places[slot.name]
        if place.computed is None and slot.numel and any(tensor.is_meta for tensor in place.held):
            through = slot.part_of if _is_set(place, seen.places.get(slot.part_of or "")) else None
            names = (slot.name, *slot.aliases, through)
            fill = next((filled[name] for name in names if name in filled), None)
            if fill is None or fill.needs_current:
                problems.append(_left_without(slot, rule=fill is not None))
    return problems


def _is_set(part: Place, whole: Place | None) -> bool:
    """Whether a write to a computed tensor sets one of those that it is computed from."""
    how = whole and whole.computed
    written = (*how.originals.values(), *how.renewed) if how else ()
    return any(tensor is other for tensor in part.held for other in written)


def _left_without(slot: Slot, *, rule: bool) -> str:
    """Say what is wrong with a tensor that has neither memory nor values to come."""
    if rule:
        return f"{slot.name} has no memory, and its rule starts from values that are there. Give it a law of its own."
    if slot.kind == "buffer":
        return (
            f"buffer {slot.name} has no memory, and recipes do not know what a constructor computes. "
            "Build the model under initframe.deferred(), which keeps buffers that are not made from parameters; build "
            "others with memory, for initframe.reinit; or fill it by a rule of kind: buffer."
        )
    return f"{slot.name} has no memory, and no rule gives it values. Add one, or set unmatched: default."
