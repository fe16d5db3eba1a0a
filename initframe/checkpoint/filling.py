"""Checkpoints written straight from a plan: no model in memory, the numbers go where the file is mapped."""

from __future__ import annotations

import json
import math
import mmap
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import torch

from initframe.apply.painting import Job, Progress, paint
from initframe.checkpoint.entries import DTYPES, Entry, entries
from initframe.checkpoint.writing import replacing
from initframe.errors import InitframeError, ResolveError, SourceError
from initframe.fills import Whole
from initframe.plan import Plan
from initframe.shards import Region

CHUNK = 1 << 26
"""Bytes that are mapped at a time."""
ALIGNMENT = 64
"""Of the first tensor in a file; those after it follow by falling size of their elements."""
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
    buffers included; tied tensors are written once per name. A whole fill (orthogonal, …) is built whole, as anywhere.
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
        ResolveError: a tensor has neither values nor a fill, or is no tensor of one file (computed, sharded).
        SourceError: the files cannot be written, or others lie beside them.

    >>> import tempfile
    >>> from torch import nn
    >>> from initframe import resolve
    >>> plan = resolve({"rules": {"*": "zeros"}}, nn.Linear(2, 2, device="meta"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [file.name for file in write_checkpoint(plan, folder)]
    ['model.safetensors']
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ResolveError(f"a seed is an integer from 0 to 2**64 - 1, got {seed!r}.")
    shards = _laid_out(entries(plan, dtype), Path(path), _bytes(max_shard_size))
    index = _index(shards)
    files = [*shards, *index]
    _demand_room(files)
    with replacing(*files) as drafts:
        for draft, own in zip(drafts, shards.values(), strict=False):
            _write(draft, own, seed, on_progress)
        for draft, (place, text) in zip(drafts[len(shards) :], index.items(), strict=True):
            draft.write_text(text, encoding="utf-8")
            place.unlink(missing_ok=True)  # an older index must not point at newer files
    return tuple(files)


# --- where -----------------------------------------------------------------------------------------------------------

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _bytes(size: int | str) -> int:
    """Read ``"5GB"``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Z]*)", str(size).upper())
    if isinstance(size, bool) or not found or found[2] not in _UNITS or not float(found[1]):
        raise InitframeError(f'max_shard_size is a number of bytes, or a text such as "5GB", got {size!r}.')
    return int(float(found[1]) * _UNITS[found[2]])


def _laid_out(held: Sequence[Entry], path: Path, limit: int) -> dict[Path, list[Entry]]:
    """The files, and what each of them holds."""
    if path.suffix == ".safetensors":
        return {path: list(held)}
    shards: list[list[Entry]] = [[]]
    size = 0
    for entry in held:
        if shards[-1] and size + entry.size > limit:
            shards.append([])
            size = 0
        shards[-1].append(entry)
        size += entry.size
    if len(shards) == 1:
        return {path / "model.safetensors": shards[0]}
    return {path / f"model-{i:05}-of-{len(shards):05}.safetensors": own for i, own in enumerate(shards, 1)}


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


def _write(draft: Path, held: Sequence[Entry], seed: int, on_progress: Progress) -> None:
    """One file: its header, room for all of it, then tensor by tensor."""
    ordered = sorted(held, key=lambda entry: -entry.dtype.itemsize)
    header = _header(ordered)
    try:
        with draft.open("r+b") as file:
            file.write(header)
            file.flush()
            _reserve(file, len(header) + sum(entry.size for entry in ordered))
            start = len(header)
            for entry in ordered:
                for region, offset in _chunks(entry):
                    _write_chunk(file, entry, region, start + offset, seed)
                    on_progress(math.prod(region.local_shape))
                start += entry.size
    except OSError as error:
        raise SourceError(f"cannot write {draft.name}: {error.strerror}.") from error


def _header(held: Sequence[Entry]) -> bytes:
    """The length of the JSON, and the JSON: where each tensor lies after it."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for entry in held:
        offsets = [start, start + entry.size]
        table[entry.name] = {"dtype": DTYPES[entry.dtype], "shape": list(entry.shape), "data_offsets": offsets}
        start += entry.size
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _reserve(file: BinaryIO, size: int) -> None:
    """Take all of the disk's room at once: a mapped file that meets a full disk later would kill the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)


def _chunks(entry: Entry) -> Iterator[tuple[Region, int]]:
    """A tensor in runs of rows, with the offset of each; in one, where its fill is built whole."""
    region = Region.whole(entry.shape)
    if not entry.size:
        return
    if not entry.shape or any(isinstance(part, Whole) for part in entry.fill.parts()):
        yield region, 0
        return
    row = entry.size // entry.shape[0]
    step = max(1, CHUNK // row)
    for first in range(0, entry.shape[0], step):
        last = min(first + step, entry.shape[0])
        yield replace(region, runs=(((first, last),), *region.runs[1:])), first * row


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
        paint([Job(entry.fill, out, region, entry.stream)], seed)
