"""What the checkpoint of a plan holds, tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from initframe.errors import ResolveError
from initframe.fills import Fill, Keep
from initframe.model import Slot, Survey, survey
from initframe.model.memory import is_distributed
from initframe.plan import Plan
from initframe.resolver.holding import misfit
from initframe.targets import uncovered

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Entry:
    """One tensor of a file.

    Attributes:
        name: its name there.
        stream: the name that addresses its numbers: the plan's, where it is an alias.
        shape: its shape.
        dtype: its dtype there.
        fill: what it will hold; ``Keep`` where it holds what the model has.
        current: the model's tensor.
    """

    name: str
    stream: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    fill: Fill
    current: Tensor

    @property
    def size(self) -> int:
        """In bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def entries(plan: Plan, dtype: torch.dtype | None = None) -> list[Entry]:
    """List what a state_dict of a plan's model would hold, checked.

    Args:
        plan: from :func:`initframe.resolve`.
        dtype: of all floating-point tensors; by default each one's own.

    Returns:
        Each name of each tensor, in state_dict order.

    Raises:
        ResolveError: a tensor has neither values nor a fill, or is no tensor of one file (computed, sharded).
    """
    if plan.model is None:
        raise ResolveError("this plan has no model. Resolve the recipe against one; the meta device will do.")
    if dtype is not None and not dtype.is_floating_point:
        raise ResolveError(f"dtype is one of floating-point numbers, got {dtype}.")
    seen = survey(plan.model)
    fills = {a.slot.name: a.fill for a in plan.assignments}
    found = [entry for slot in (*seen.slots, *seen.raw) for entry in _names(slot, seen, fills, dtype)]
    problems = [*uncovered(plan, plan.model), *_computed(plan, seen)]
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
        yield Entry(name, slot.name, slot.shape, own, fills.get(slot.name, Keep()), place.direct)


def _computed(plan: Plan, seen: Survey) -> Iterator[str]:
    """Tensors whose value would have to go through a module."""
    for a in plan.assignments:
        place = seen.places.get(a.slot.name)
        if place is not None and place.computed is not None and not isinstance(a.fill, Keep):
            yield (
                f"{a.slot.name} is computed from others by its layer, which is not there to take the value. "
                "Materialize the model and save it, or take the parametrization off."
            )


def _problem(entry: Entry) -> str | None:
    """Why a tensor cannot be written."""
    if entry.dtype not in DTYPES:
        return f"safetensors holds no {entry.dtype}."
    if entry.fill.needs_current and is_distributed(entry.current):
        return "it is sharded, and starts from the values that are there. Save it with torch.distributed.checkpoint."
    return misfit(entry.fill, entry.shape, entry.dtype)
