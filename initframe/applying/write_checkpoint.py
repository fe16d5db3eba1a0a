"""Checkpoints written straight from a plan: no model in memory, the numbers go where the file is mapped."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from initframe.applying.checks import checked_seed
from initframe.applying.draw import Progress
from initframe.applying.locate import NO_MODEL, current_survey, demand_plan, locate, uncovered
from initframe.applying.paint_files import Item, paint_files, place_for_files
from initframe.errors import Problem, ResolveError
from initframe.files.safetensors import unsavable
from initframe.fills import Copied, Fill, Keep, Norms, Partial
from initframe.model.memory import is_distributed
from initframe.model.obstacles import FILLABLE
from initframe.model.slot import Slot
from initframe.model.survey import Survey
from initframe.plan import Plan


def write_checkpoint(
    plan: Plan,
    path: str | os.PathLike[str],
    seed: int = 0,
    dtype: torch.dtype | None = None,
    max_shard_size: int | str = "5GB",
    on_progress: Progress = lambda _: None,
) -> tuple[Path, ...]:
    """Write what a plan's model will hold as safetensors, without the model: peak memory is one chunk of a file.

    The plan may be one of a model on the meta device. Tensors that it leaves untouched are copied from the model,
    buffers included; tied tensors are written once per name. A whole fill (orthogonal, …) is built whole, as anywhere;
    a custom distribution needs a second chunk for its uniforms. Disk space is reserved before the first number is
    written.
    Files appear when all of them are complete, the index last.

    Args:
        plan: from :func:`initframe.resolve`.
        path: a folder; or a file that ends in ``.safetensors``, which then holds everything.
        seed: 0 ≤ seed < 2⁶⁴.
        dtype: of all floating-point tensors, as after ``model.to(dtype)``; by default each one's own.
        max_shard_size: of one file, in bytes or as ``"5GB"``; a larger tensor has a file of its own. What fits into one
            file is named ``model.safetensors``, what does not ``model-00001-of-0000N.safetensors`` with an index.
        on_progress: told how many elements were written since it was last told.

    Returns:
        The files.

    Raises:
        ResolveError: a tensor has neither values nor a fill, or is no tensor of one file (computed, sharded), or the
            model is not what it was when it was resolved.
        SourceError: the files cannot be written, or the folder holds another checkpoint.

    >>> import tempfile
    >>> from torch import nn
    >>> from initframe import resolve
    >>> plan = resolve({"rules": {"*": "zeros"}}, nn.Linear(2, 2, device="meta"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [file.name for file in write_checkpoint(plan, folder)]
    ['model.safetensors']
    """
    seed = checked_seed(seed)
    place = place_for_files(path)
    return paint_files(_contents(plan, dtype), place, seed, max_shard_size, on_progress=on_progress)


# --- what ------------------------------------------------------------------------------------------------------------


def _contents(plan: Plan, dtype: torch.dtype | None) -> list[Item]:
    """List each name of each tensor that a state_dict of the plan's model would hold, checked."""
    demand_plan(plan, "write_checkpoint")
    if plan.model is None:
        raise ResolveError(replace(NO_MODEL, fix="Resolve the recipe against one; the meta device will do."))
    if dtype is not None and dtype not in FILLABLE:
        raise ResolveError(Problem("dtype", f"got {dtype!r}.", f"Options: {', '.join(map(str, FILLABLE))}."))
    seen = current_survey(plan, plan.model)
    fills = {a.slot.name: a.fill for a in plan.assignments}
    items = [item for slot in seen.every for item in _items(slot, seen, fills, dtype)]
    problems = [
        *locate(plan, plan.model, seen)[1],
        *uncovered(replace(plan, hidden=frozenset()), seen),
        *_computed(plan, seen),
        *_views(seen),
    ]
    if problems := problems + [problem for item in items if (problem := _problem(item))]:
        raise ResolveError(*problems)
    return items


def _items(slot: Slot, seen: Survey, fills: Mapping[str, Fill], dtype: torch.dtype | None) -> Iterator[Item]:
    """Give a slot under each of its names."""
    place = seen.places[slot.name]
    if place.direct is None or not slot.persistent:
        return
    own = dtype if dtype and slot.dtype.is_floating_point else slot.dtype
    fill, stream, current = fills.get(slot.name, Keep()), slot.name, place.direct
    if isinstance(fill, Copied) and fill.from_memory:  # made here once more, from what the source holds
        stream = fill.source
        held = seen.places[stream].direct
        fill, current = fill.fill, current if held is None else held
    for name in (slot.name, *slot.aliases):
        if name in slot.views:
            continue  # refused by _views
        yield Item(name, slot.shape, own, stream, fill, current)


def _computed(plan: Plan, seen: Survey) -> Iterator[Problem]:
    """Tell tensors whose value would have to go through a module."""
    for a in plan.assignments:
        place = seen.places.get(a.slot.name)
        if place is not None and place.computed is not None and not isinstance(a.fill, Keep):
            fix = "Materialize the model and save it, or remove the parametrization."
            yield Problem(a.slot.name, "its layer computes it from others, and no layer is run here.", fix=fix)
        inner = a.fill.fill if isinstance(a.fill, Partial) else a.fill
        if isinstance(inner, Norms):
            yield Problem(
                a.slot.name, f"it is {inner}, which is read from memory.", fix="Materialize the model and save it."
            )
        elif isinstance(inner, Copied) and inner.from_memory:
            if seen.places[inner.source].computed:
                fact = f"its source {inner.source} is computed by its layer, and no layer is run here."
                yield Problem(a.slot.name, fact, fix="Materialize the model and save it.")
            elif isinstance(a.fill, Partial):
                yield Problem(a.slot.name, "some of its units are a copy.", fix="Materialize the model and save it.")


def _views(seen: Survey) -> Iterator[Problem]:
    """Tell tensors that a state_dict would hold in two forms."""
    for slot in seen.slots:
        for name in slot.views:
            fact = f"it is a view of {slot.name} in another form, and no view is made here."
            yield Problem(name, fact, fix="Materialize the model and save its state_dict.")


def _problem(item: Item) -> Problem | None:
    """Say why a tensor cannot be written."""
    if item.current is None:
        return None
    if item.fill.needs_current and is_distributed(item.current):
        fact = "it is sharded, and starts from current values."
        return Problem(item.name, fact, fix="Save it with torch.distributed.checkpoint.")
    if item.fill.needs_current and not item.current.is_meta and (found := unsavable(item.current)):
        return found.on(item.name)
    narrow = item.fill.problem(item.shape, item.dtype) if item.dtype != item.current.dtype else None
    return narrow.on(item.name) if narrow else None
