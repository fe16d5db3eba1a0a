"""identify(model or state_dict) → plan: which distribution values come from, by statistics alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from initframe.construction.statistics import Identified, identified
from initframe.fills import Constant, Dirac, Identity, Orthogonal
from initframe.fills.composed import padded
from initframe.model.memory import is_distributed, memoryless
from initframe.model.slot import Slot
from initframe.model.survey import survey
from initframe.plan import Assignment, Plan
from initframe.recipe.patterns import compile_pattern
from initframe.recipe.recipe import Recipe, Rule

LARGE = 256
"""Elements from which on a tensor shows whether it is trained."""
SURE = 1 << 16
"""Elements from which on a tensor is believed to be as it was drawn, though the model around it is trained."""
TRAINED = 0.25
"""Of the large tensors, the share with marks of training above which the model is taken for trained."""

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
    found = {
        slot.name: _found(slot, seen.places[slot.name].tensor()) for slot in seen.slots if slot.kind == "parameter"
    }
    found = _doubted(found, {slot.name: slot.numel for slot in seen.slots})
    skipped = {name: one.evidence for name, one in found.items() if one.fill is None}
    assignments = [
        Assignment(replace(slot, constructed=None), RULE, padded(one.fill, slot.padding_row), evidence=one.evidence)
        for slot in seen.slots
        if (one := found.get(slot.name)) and one.fill is not None
    ]
    kept = {s.name: "it is a buffer, and keeps its values." for s in seen.slots if s.kind == "buffer"}
    return Plan(RECIPE, seen.title, tuple(assignments), (), skipped, (), kept, model)


def _found(slot: Slot, tensor: Tensor) -> Identified:
    """What one parameter holds, or why that is not known."""
    reason = str(replace(slot.problem, subject="")) if slot.problem else _unreadable(slot, tensor)
    return Identified(None, reason) if reason else identified(tensor.detach(), slot)


def _doubted(found: Mapping[str, Identified], sizes: Mapping[str, int]) -> dict[str, Identified]:
    """Take claims on small tensors back if much of their model is trained.

    Training moves a small tensor's values without a mark that a test on them alone would see; that the model's other
    tensors bear marks is the only sign. Constants and matrices are exact, and stay.
    """
    large = [one for name, one in found.items() if sizes[name] >= LARGE and not _is_exact(one)]
    marked = sum(one.trained for one in large)
    if marked <= TRAINED * len(large):
        return dict(found)
    doubt = (
        f"no distribution fits: {marked} of the model's {len(large)} drawn tensors of {LARGE} elements or more are "
        f"trained, and this one is too small to be told from a trained one."
    )
    return {
        name: one if one.fill is None or _is_exact(one) or sizes[name] >= SURE else Identified(None, doubt)
        for name, one in found.items()
    }


def _is_exact(one: Identified) -> bool:
    return isinstance(one.fill, Constant | Identity | Dirac | Orthogonal)


def _unreadable(slot: Slot, tensor: Tensor) -> str:
    """Why there are no values to look at; empty if there are."""
    if fact := memoryless(tensor):
        return f"it {fact}: it has no values to look at."
    if is_distributed(tensor):
        return "it is sharded: statistics are taken of whole tensors."
    return "it has no elements." if not slot.numel else ""
