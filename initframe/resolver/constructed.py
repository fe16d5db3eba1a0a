"""What a model's constructor says of its parameters, as assignments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from initframe.errors import Problem
from initframe.fills.composed import padded
from initframe.fills.constructed import Constructed
from initframe.initializers.constructor import UNRECORDED
from initframe.model.slot import Slot
from initframe.model.survey import Survey
from initframe.plan import Assignment
from initframe.recipe.patterns import compile_pattern
from initframe.recipe.recipe import Rule
from initframe.resolver.problems import Problems

RULE = Rule("constructor", (compile_pattern("*"),), init="constructor", optional=True)
"""The rule that everything has that comes from a constructor."""

UNMATCHED = replace(RULE, name="unmatched: constructor")


def constructed_slots(seen: Survey) -> Iterator[Slot]:
    """The parameters of a model; instead of one that is computed, what it is computed from, if only that is known.

    Args:
        seen: the model.
    """
    raw: dict[str, list[Slot]] = defaultdict(list)
    for slot in seen.raw:
        if slot.kind == "parameter" and slot.part_of:
            raw[slot.part_of].append(slot)
    for slot in seen.slots:
        if slot.kind == "parameter":
            parts = raw.get(slot.name, [])
            apart = slot.constructed is None and parts and all(part.constructed for part in parts)
            yield from parts if apart else [slot]


def constructed_assignment(slot: Slot) -> Assignment | str:
    """What a constructor gave to a parameter, or a sentence that says why it is not known.

    Args:
        slot: the parameter.
    """
    found = slot.constructed
    if slot.lazy:
        return "it has no shape yet: its layer is lazy. Run one forward pass first, or give the layer its sizes."
    if not slot.numel:
        return "it has no elements."
    if not isinstance(found, Constructed):
        return str(UNRECORDED)
    where = f" ({found.origin})" if found.origin else ""
    if found.fill is None:
        return f"{found.reason}{where}."
    if slot.problem:
        return str(replace(slot.problem, subject=""))
    if found.shape != slot.shape:
        return f"it was made with shape {list(found.shape)} and has {list(slot.shape)} now{where}."
    fill = padded(found.fill, slot.padding_row)
    if fault := fill.problem(slot.shape, slot.dtype):
        return f"{fault}{where}"
    return Assignment(slot, RULE, fill, origin=found.origin)


def unmatched_by_constructor(untouched: Collection[str], seen: Survey, problems: Problems) -> tuple[Assignment, ...]:
    """Assign what no rule matches as the model's constructor does.

    Args:
        untouched: names of parameters.
        seen: the model.
        problems: takes those whose distribution cannot be read.
    """
    assignments = []
    for slot in constructed_slots(seen):
        if (slot.part_of or slot.name) in untouched:
            settled = constructed_assignment(slot)
            if isinstance(settled, Assignment):
                assignments.append(settled)
            elif slot.numel:
                problems.on(UNMATCHED, slot, [Problem("", settled, fix="Give it a rule.")])
    return tuple(related(assignments))


def in_order(assignments: Iterable[Assignment], seen: Survey) -> tuple[Assignment, ...]:
    """Sort assignments as the slots of a model are."""
    turns = {slot.name: turn for turn, slot in enumerate(seen.every)}
    return tuple(sorted(assignments, key=lambda a: turns[a.slot.name]))


def related(assignments: Iterable[Assignment]) -> Iterator[Assignment]:
    """Note where tensors start equal, because one was copied from the other.

    Args:
        assignments: in the order of the model.
    """
    first: dict[int, str] = {}
    for a in assignments:
        numbers = a.slot.constructed.drawn
        twin = next((first[n] for n in numbers if n in first), None)
        for n in numbers:
            first.setdefault(n, a.slot.name)
        if twin is None:
            yield a
        else:
            note = f"starts equal to {_apart(twin, a.slot.name)} in the constructor, and has numbers of its own here"
            yield replace(a, slot=replace(a.slot, notes=(*a.slot.notes, note)))


def _apart(name: str, other: str) -> str:
    """The beginning of a name that tells it from another: the module that was copied."""
    mine, theirs = name.split("."), other.split(".")
    while len(mine) > 1 and len(theirs) > 1 and mine[-1] == theirs[-1]:
        mine.pop()
        theirs.pop()
    return ".".join(mine)
