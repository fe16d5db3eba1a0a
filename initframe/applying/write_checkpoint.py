"""Checkpoints written straight from a plan: no model in memory, the numbers go where the file is mapped."""

from __future__ import annotations

import itertools
import json
import math
import mmap
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from initframe.applying.apply import checked_seed
from initframe.applying.draw import Piece, Progress, paint
from initframe.applying.locate import NO_MODEL, current_survey, demand_plan, locate, uncovered
from initframe.applying.regions import Region
from initframe.errors import InitframeError, Problem, ResolveError, SourceError
from initframe.files.atomic import replacing
from initframe.files.safetensors import TensorInfo, begin, in_order, unsavable
from initframe.fills import Copied, Fill, Keep, Norms, Partial, Whole
from initframe.model.memory import is_distributed
from initframe.model.obstacles import FILLABLE
from initframe.model.slot import Slot
from initframe.model.survey import Survey
from initframe.plan import Plan

CHUNK = 1 << 26
"""Bytes that are mapped at a time."""
INDEX = "model.safetensors.index.json"


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
    if not isinstance(path, str | os.PathLike):
        raise InitframeError(Problem("path", f"got {path!r}.", "It is a folder, or a file that ends in .safetensors."))
    shards = _laid_out(_contents(plan, dtype), Path(path), _bytes(max_shard_size))
    index = _index(shards)
    files = [*shards, *index]
    _demand_room(files)
    try:
        with replacing(*files) as drafts:
            texts = list(zip(drafts[len(shards) :], index.values(), strict=True))
            for draft, text in texts:
                draft.write_text(text, encoding="utf-8")
            starts = [begin(draft, own) for draft, own in zip(drafts, shards.values(), strict=False)]
            for draft, start, own in zip(drafts, starts, shards.values(), strict=False):
                _paint(draft, start, own, seed, on_progress)
            for place in index:
                place.unlink(missing_ok=True)  # from here to the end, an older index must not point at newer files
    except OSError as error:
        if error.filename is None:  # raised by on_progress, and not by a file
            raise
        fact = f"it cannot be written: {error.strerror}."
        raise SourceError(Problem(str(error.filename), fact, fix="Make room, or choose another place.")) from error
    return tuple(files)


# --- what ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item(TensorInfo):
    """One tensor of a checkpoint.

    Attributes:
        stream: the name that addresses its numbers: the plan's, if this one is an alias.
        fill: what it will hold; ``Keep`` for what the model holds.
        current: the model's tensor.
    """

    stream: str
    fill: Fill
    current: Tensor


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
    if item.fill.needs_current and is_distributed(item.current):
        fact = "it is sharded, and starts from current values."
        return Problem(item.name, fact, fix="Save it with torch.distributed.checkpoint.")
    if item.fill.needs_current and not item.current.is_meta and (found := unsavable(item.current)):
        return found.on(item.name)
    narrow = item.fill.problem(item.shape, item.dtype) if item.dtype != item.current.dtype else None
    return narrow.on(item.name) if narrow else None


# --- where -----------------------------------------------------------------------------------------------------------

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _bytes(size: int | str) -> int:
    """Read ``"5GB"``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Z]*)", size.upper()) if isinstance(size, str) else None
    number = float(found[1]) * _UNITS.get(found[2], 0) if found else size
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf:
        units = ", ".join(filter(None, _UNITS))
        options = f'It is a number of bytes, or a text such as "5GB" (units: {units}).'
        raise InitframeError(Problem("max_shard_size", f"got {size!r:.60}.", options))
    return int(number)


def _laid_out(held: Sequence[Item], path: Path, limit: int) -> dict[Path, list[Item]]:
    """The files, and what each of them holds."""
    if path.suffix == ".safetensors":
        return {path: in_order(held)}
    shards: list[list[Item]] = [[]]
    size = 0
    for item in held:
        if shards[-1] and size + item.size > limit:
            shards.append([])
            size = 0
        shards[-1].append(item)
        size += item.size
    if len(shards) == 1:
        return {path / "model.safetensors": in_order(shards[0])}
    return {path / f"model-{i:05}-of-{len(shards):05}.safetensors": in_order(own) for i, own in enumerate(shards, 1)}


def _index(shards: dict[Path, list[Item]]) -> dict[Path, str]:
    """The index file and its text, if there is more than one file."""
    if len(shards) == 1:
        return {}
    places = {item.name: file.name for file, own in shards.items() for item in own}
    total = sum(item.size for own in shards.values() for item in own)
    data = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    return {next(iter(shards)).with_name(INDEX): json.dumps(data, indent=2) + "\n"}


def _demand_room(files: Sequence[Path]) -> None:
    """Refuse a folder where other files would make a reader find another model."""
    if len(files) == 1 and files[0].name != "model.safetensors":
        return
    here = files[0].parent
    others = sorted(file.name for glob in ("*.safetensors", INDEX) for file in here.glob(glob) if file not in files)
    if others:
        fact = f"it holds another checkpoint: {', '.join(others[:3])}."
        raise SourceError(Problem(str(here), fact, fix="Choose an empty folder."))


# --- writing ---------------------------------------------------------------------------------------------------------


def _paint(draft: Path, start: int, held: Sequence[Item], seed: int, on_progress: Progress) -> None:
    """Fill a file that was begun, tensor by tensor."""
    with draft.open("r+b") as file:
        for item in held:
            for region, offset in _chunks(item):
                _write_chunk(file, item, region, start + offset, seed)
                on_progress(math.prod(region.local_shape))
            start += item.size


def _chunks(item: Item) -> Iterator[tuple[Region, int]]:
    """A tensor in contiguous pieces, with the offset of each; in one piece if its fill is built whole."""
    region, unit = Region.whole(item.shape), item.dtype.itemsize
    if not item.size:
        return
    if not item.shape or any(isinstance(part, Whole) for part in item.fill.parts()):
        yield region, 0
        return
    # The first dimension whose rows fit is cut into runs of rows, those before it into single indices.
    sizes = [math.prod(item.shape[dim + 1 :]) * unit for dim in range(len(item.shape))]
    split = next((dim for dim, size in enumerate(sizes) if size <= CHUNK), len(sizes) - 1)
    step = max(1, CHUNK // sizes[split])
    offset = 0
    for outer in itertools.product(*map(range, item.shape[:split])):
        for first in range(0, item.shape[split], step):
            last = min(first + step, item.shape[split])
            single = (((i, i + 1),) for i in outer)
            yield replace(region, runs=(*single, ((first, last),), *region.runs[split + 1 :])), offset
            offset += (last - first) * sizes[split]


def _write_chunk(file: BinaryIO, item: Item, region: Region, offset: int, seed: int) -> None:
    """Map a part of the file and paint it; the mapping ends with the last tensor on it."""
    shape = region.local_shape
    count = math.prod(shape)
    base = offset - offset % mmap.ALLOCATIONGRANULARITY
    window = mmap.mmap(file.fileno(), offset - base + count * item.dtype.itemsize, offset=base)
    out = torch.frombuffer(window, dtype=item.dtype, count=count, offset=offset - base).view(shape)
    with torch.no_grad():
        if item.fill.needs_current:
            out.copy_(region.pick(item.current))
        paint([Piece(item.fill, out, region, item.stream)], seed)
