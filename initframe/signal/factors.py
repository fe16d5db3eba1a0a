"""A calibrated recipe: rules that name weights, each with a factor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from initframe.plan import Assignment, Plan
from initframe.recipe.recipe import Recipe, load_recipe


def with_factors(plan: Plan, factors: Mapping[str, float]) -> Recipe:
    """The plan's recipe with a rule for each weight that has a factor, the last ones, so that they win.

    Args:
        plan: what the factors were found for.
        factors: by tensor name; 1 needs no rule.
    """
    data = plan.recipe.to_dict()
    for assignment in plan.assignments:
        factor = factors.get(assignment.slot.name, 1.0) * assignment.factor
        if factors.get(assignment.slot.name, 1.0) != 1.0:
            data["rules"][f"calibrated {assignment.slot.name}"] = _rule(assignment, factor)
    return replace(load_recipe(data), name=f"{plan.recipe.name}, calibrated")


KEPT = ("axes", "split", "units", "padding", "companions", "kind")
"""Keys of a rule that decide about numbers, next to the initializer and its arguments."""


def _rule(assignment: Assignment, factor: float) -> dict[str, Any]:
    """A rule for one tensor alone: its own initializer and numbers, and the factor."""
    slot = assignment.slot
    written = assignment.rule.to_dict()
    kept: dict[str, Any] = {key: written[key] for key in KEPT if key in written}
    numbers = {k: list(v) if isinstance(v, tuple) else v for k, v in assignment.arguments.items() if v is not None}
    names = [slot.name, *slot.aliases]
    return {
        "match": names if len(names) > 1 else names[0],
        **kept,
        "init": written["init"],
        **numbers,
        "factor": factor,
    }
