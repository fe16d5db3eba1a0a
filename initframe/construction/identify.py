"""identify(model or state_dict) → plan: which distribution values come from, by statistics alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from initframe.construction.statistics import identified
from initframe.fills.composed import padded
from initframe.model.memory import is_distributed, memoryless
from initframe.model.slot import Slot
from initframe.model.survey import survey
from initframe.plan import Assignment, Plan
from initframe.recipe.patterns import compile_pattern
from initframe.recipe.recipe import Recipe, Rule

RECIPE = Recipe(rules=(), name="values")
RULE = Rule("values", (compile_pattern("*"),), init="values", optional=True)


def identify(model: nn.Module | Mapping[str, Tensor]) -> Plan:
    """Read from values which distribution they were drawn from.

    A distribution is claimed only if its statistics fit; values that were trained are skipped as "no distribution
    fits". What a fill has for parameters is estimated from the values, and said as a formula by
    :func:`initframe.describe` where one explains it.

    Args:
        model: a module, or a state_dict, with values.

    Returns:
        The plan, of a recipe named ``values``; ``.evidence`` of every assignment says how sure it is in a sentence.
        What no distribution fits, and tensors of too few elements, are in ``skipped`` with the reason.

    Raises:
        ResolveError: it is no model.

    >>> import torch
    >>> plan = identify({"w": torch.full((3, 3), 0.5)})
    >>> print(plan["w"].fill, plan["w"].evidence)
    constant(0.5) All 9 elements are 0.5.
    """
    seen = survey(model)
    assignments: list[Assignment] = []
    skipped: dict[str, str] = {}
    for slot in seen.slots:
        if slot.kind != "parameter":
            continue
        reason = (
            _unreadable(slot, seen.places[slot.name].tensor())
            if not slot.problem
            else str(replace(slot.problem, subject=""))
        )
        if reason:
            skipped[slot.name] = reason
            continue
        tensor = seen.places[slot.name].tensor()
        found = identified(tensor.detach(), slot)
        if found.fill is None:
            skipped[slot.name] = found.evidence
        else:
            fill = padded(found.fill, slot.padding_row)
            assignments.append(Assignment(replace(slot, constructed=None), RULE, fill, evidence=found.evidence))
    kept = {s.name: "it is a buffer, and keeps its values." for s in seen.slots if s.kind == "buffer"}
    return Plan(RECIPE, seen.title, tuple(assignments), (), skipped, (), kept, model)


def _unreadable(slot: Slot, tensor: Tensor) -> str:
    """Why there are no values to look at; empty if there are."""
    if fact := memoryless(tensor):
        return f"it {fact}: it has no values to look at."
    if is_distributed(tensor):
        return "it is sharded: statistics are taken of whole tensors."
    return "it has no elements." if not slot.numel else ""
