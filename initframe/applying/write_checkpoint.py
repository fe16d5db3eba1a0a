"""Checkpoints written straight from a plan: no model in memory, the numbers go where the file is mapped."""

from __future__ import annotations

import itertools
import json
import math
import mmap
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import torch

from initframe.applying.apply import checked_seed
from initframe.applying.draw import Piece, Progress, paint
from initframe.applying.entries import Entry, entries
from initframe.applying.regions import Region
from initframe.errors import InitframeError, SourceError
from initframe.files.atomic import replacing
from initframe.files.safetensors import begin, in_order
from initframe.fills import Whole
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
    a law of one's own has its uniforms beside the chunk. The disk's room is taken before the first number is written.
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
            model is no more what it was when it was resolved.
        SourceError: the files cannot be written, or others lie beside them.

    >>> import tempfile
    >>> from torch import nn
    >>> from initframe import resolve
    >>> plan = resolve({"rules": {"*": "zeros"}}, nn.Linear(2, 2, device="meta"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [file.name for file in write_checkpoint(plan, folder)]
    ['model.safetensors']
    """
    checked_seed(seed)
    if not isinstance(path, str | os.PathLike):
        raise InitframeError(f"path is a folder, or a file .safetensors, got {path!r}.")
    shards = _laid_out(entries(plan, dtype), Path(path), _bytes(max_shard_size))
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
        if error.filename is None:  # it comes from whoever listens, and not from a file
            raise
        raise SourceError(
            f"cannot write {error.filename}: {error.strerror}. Make room, or choose another place."
        ) from error
    return tuple(files)


# --- where -----------------------------------------------------------------------------------------------------------

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _bytes(size: int | str) -> int:
    """Read ``"5GB"``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Z]*)", size.upper()) if isinstance(size, str) else None
    number = float(found[1]) * _UNITS.get(found[2], 0) if found else size
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf:
        units = ", ".join(filter(None, _UNITS))
        raise InitframeError(
            f'max_shard_size is a number of bytes, or a text such as "5GB" (units: {units}), got {size!r:.60}.'
        )
    return int(number)


def _laid_out(held: Sequence[Entry], path: Path, limit: int) -> dict[Path, list[Entry]]:
    """The files, and what each of them holds."""
    if path.suffix == ".safetensors":
        return {path: in_order(held)}
    shards: list[list[Entry]] = [[]]
    size = 0
    for entry in held:
        if shards[-1] and size + entry.size > limit:
            shards.append([])
            size = 0
        shards[-1].append(entry)
        size += entry.size
    if len(shards) == 1:
        return {path / "model.safetensors": in_order(shards[0])}
    return {path / f"model-{i:05}-of-{len(shards):05}.safetensors": in_order(own) for i, own in enumerate(shards, 1)}


def _index(shards: dict[Path, list[Entry]]) -> dict[Path, str]:
    """The index file and its text, where there is more than one file."""
    if len(shards) == 1:
        return {}
    places = {entry.name: file.name for file, own in shards.items() for entry in own}
    total = sum(entry.size for own in shards.values() for entry in own)
    data = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    return {next(iter(shards)).with_name(INDEX): json.dumps(data, indent=2) + "\n"}


def _demand_room(files: Sequence[Path]) -> None:
    """Refuse a folder where other files would make a reader find another model."""
    if len(files) == 1 and files[0].name != "model.safetensors":
        return
    here = files[0].parent
    others = sorted(file.name for glob in ("*.safetensors", INDEX) for file in here.glob(glob) if file not in files)
    if others:
        raise SourceError(f"{here} holds another checkpoint: {', '.join(others[:3])}. Choose an empty folder.")


# --- writing ---------------------------------------------------------------------------------------------------------


def _paint(draft: Path, start: int, held: Sequence[Entry], seed: int, on_progress: Progress) -> None:
    """Fill a file that was begun, tensor by tensor."""
    with draft.open("r+b") as file:
        for entry in held:
            for region, offset in _chunks(entry):
                _write_chunk(file, entry, region, start + offset, seed)
                on_progress(math.prod(region.local_shape))
            start += entry.size


def _chunks(entry: Entry) -> Iterator[tuple[Region, int]]:
    """A tensor in pieces that lie in one row, with the offset of each; in one, where its fill is built whole."""
    region, unit = Region.whole(entry.shape), entry.dtype.itemsize
    if not entry.size:
        return
    if not entry.shape or any(isinstance(part, Whole) for part in entry.fill.parts()):
        yield region, 0
        return
    # The first dimension whose rows fit is cut into runs of rows, those before it into single indices.
    sizes = [math.prod(entry.shape[dim + 1 :]) * unit for dim in range(len(entry.shape))]
    split = next((dim for dim, size in enumerate(sizes) if size <= CHUNK), len(sizes) - 1)
    step = max(1, CHUNK // sizes[split])
    offset = 0
    for outer in itertools.product(*map(range, entry.shape[:split])):
        for first in range(0, entry.shape[split], step):
            last = min(first + step, entry.shape[split])
            single = (((i, i + 1),) for i in outer)
            yield replace(region, runs=(*single, ((first, last),), *region.runs[split + 1 :])), offset
            offset += (last - first) * sizes[split]


def _write_chunk(file: BinaryIO, entry: Entry, region: Region, offset: int, seed: int) -> None:
    """Map a part of the file and paint it; the mapping ends with the last tensor on it."""
    shape = region.local_shape
    count = math.prod(shape)
    base = offset - offset % mmap.ALLOCATIONGRANULARITY
    window = mmap.mmap(file.fileno(), offset - base + count * entry.dtype.itemsize, offset=base)
    out = torch.frombuffer(window, dtype=entry.dtype, count=count, offset=offset - base).view(shape)
    with torch.no_grad():
        if entry.fill.needs_current:
            out.copy_(region.pick(entry.current))
        paint([Piece(entry.fill, out, region, entry.stream)], seed)
