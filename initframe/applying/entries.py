"""What the checkpoint of a plan holds, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from initframe.applying.locate import demand_plan, find_targets, uncovered
from initframe.errors import Problem, ResolveError
from initframe.files.safetensors import TensorInfo, unsavable
from initframe.fills import Fill, Keep
from initframe.model.memory import is_distributed
from initframe.model.obstacles import FILLABLE
from initframe.model.slot import Slot
from initframe.model.survey import Survey, survey
from initframe.plan import Plan


@dataclass(frozen=True)
class Entry(TensorInfo):
    """One tensor of a file.

    Attributes:
        stream: the name that addresses its numbers: the plan's, where it is an alias.
        fill: what it will hold; ``Keep`` where it holds what the model has.
        current: the model's tensor.
    """

    stream: str
    fill: Fill
    current: Tensor


def entries(plan: Plan, dtype: torch.dtype | None = None) -> list[Entry]:
    """List what a state_dict of a plan's model would hold, checked.

    Args:
        plan: from :func:`initframe.resolve`.
        dtype: of all floating-point tensors; by default each one's own.

    Returns:
        Each name of each tensor, in state_dict order.

    Raises:
        ResolveError: a tensor has neither values nor a fill, is no tensor of one file (computed, sharded), or the model
            is no more what it was when it was resolved.

    >>> from torch import nn
    >>> from initframe import resolve
    >>> [(entry.name, str(entry.fill)) for entry in entries(resolve({"rules": {"bias": "zeros"}}, nn.Linear(2, 2)))]
    [('weight', 'keep()'), ('bias', 'constant(0)')]
    """
    demand_plan(plan, "write_checkpoint")
    if plan.model is None:
        raise ResolveError("this plan has no model. Resolve the recipe against one; the meta device will do.")
    if dtype is not None and dtype not in FILLABLE:
        raise ResolveError(f"dtype is one of {', '.join(map(str, FILLABLE))}, got {dtype!r}.")
    problems = find_targets(plan, plan.model)[1]
    seen = survey(plan.model)
    fills = {a.slot.name: a.fill for a in plan.assignments}
    found = [entry for slot in (*seen.slots, *seen.raw) for entry in _names(slot, seen, fills, dtype)]
    problems += [*uncovered(plan, plan.model), *_computed(plan, seen)]
    problems += [f"{entry.name}: {fact}" for entry in found if (fact := _problem(entry))]
    if problems:
        raise ResolveError(*problems)
    return found


def _names(slot: Slot, seen: Survey, fills: Mapping[str, Fill], dtype: torch.dtype | None) -> Iterator[Entry]:
    """A slot under each of its names."""
    place = seen.places[slot.name]
    if place.direct is None or not slot.persistent:
        return
    own = dtype if dtype and slot.dtype.is_floating_point else slot.dtype
    for name in (slot.name, *slot.aliases):
        yield Entry(name, slot.shape, own, slot.name, fills.get(slot.name, Keep()), place.direct)


def _computed(plan: Plan, seen: Survey) -> Iterator[str]:
    """Tensors whose value would have to go through a module."""
    for a in plan.assignments:
        place = seen.places.get(a.slot.name)
        if place is not None and place.computed is not None and not isinstance(a.fill, Keep):
            yield (
                f"{a.slot.name} is computed from others by its layer, which is not there to take the value. "
                "Materialize the model and save it, or take the parametrization off."
            )


def _problem(entry: Entry) -> Problem | None:
    """Say why a tensor cannot be written; ``None`` if it can."""
    if entry.fill.needs_current and is_distributed(entry.current):
        fact = "it is sharded, and starts from the values that are there."
        return Problem("", fact, fix="Save it with torch.distributed.checkpoint.")
    if entry.fill.needs_current and not entry.current.is_meta and (found := unsavable(entry.current)):
        return found
    return entry.fill.problem(entry.shape, entry.dtype) if entry.dtype != entry.current.dtype else None
