"""Files of tensors painted where they are mapped: peak memory is one chunk of a file."""

from __future__ import annotations

import hashlib
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

from initframe.applying.checks import demand_options
from initframe.applying.draw import Progress, paint
from initframe.applying.piece import Piece
from initframe.applying.regions import Region
from initframe.errors import InitframeError, Problem, SourceError, shown
from initframe.files.atomic import replacing
from initframe.files.safetensors import TensorInfo, begin, in_order
from initframe.files.shards import SET
from initframe.fills import Fill, Whole

CHUNK = 1 << 26
"""Bytes that are mapped at a time."""
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Item(TensorInfo):
    """One tensor of a checkpoint.

    Attributes:
        stream: the name that addresses its numbers: the plan's, if this one is an alias.
        fill: what it will hold; ``Keep`` for what the model holds.
        current: the model's tensor; ``None`` if nothing starts from it.
    """

    stream: str
    fill: Fill
    current: Tensor | None = None


def paint_files(
    items: Sequence[Item],
    path: Path,
    seed: int,
    max_shard_size: int | str = "5GB",
    metadata: Mapping[str, str] | None = None,
    on_progress: Progress = lambda _: None,
) -> tuple[Path, ...]:
    """Write tensors as safetensors, in one file or several with an index, which is the record of the set.

    Args:
        items: the tensors, with fills that were checked.
        path: a folder; or a file that ends in ``.safetensors``, which then holds everything.
        seed: of the stream.
        max_shard_size: of one file, in bytes or as ``"5GB"``; a larger tensor has a file of its own.
        metadata: texts for the files' headers.
        on_progress: told how many elements were written since it was last told.

    Returns:
        The files.

    Raises:
        SourceError: the files cannot be written, or the folder holds another checkpoint.
    """
    demand_options(measure=False, on_progress=on_progress)
    shards = _laid_out(items, path, _bytes(max_shard_size))
    number = _number(items, seed)
    index = _index(shards, number)
    if index:
        metadata = {**(metadata or {}), SET: number}
    files = [*shards, *index]
    _demand_room(files)
    try:
        with replacing(*files) as drafts:
            texts = list(zip(drafts[len(shards) :], index.values(), strict=True))
            for draft, text in texts:
                draft.write_text(text, encoding="utf-8")
            starts = [begin(draft, own, metadata) for draft, own in zip(drafts, shards.values(), strict=False)]
            for draft, start, own in zip(drafts, starts, shards.values(), strict=False):
                _paint(draft, start, own, seed, on_progress)
    except OSError as error:
        if error.filename is None:  # raised by on_progress, and not by a file
            raise
        fact = f"it cannot be written: {error.strerror}."
        raise SourceError(Problem(str(error.filename), fact, fix="Make room, or choose another place.")) from error
    return tuple(files)


def place_for_files(path: object) -> Path:
    """Return where files of tensors go.

    Args:
        path: as it was given.

    Raises:
        InitframeError: it is no path, or the name of a file that is none of safetensors.

    >>> place_for_files("run/weights.pt")
    Traceback (most recent call last):
    initframe.errors.InitframeError: path: got 'run/weights.pt'. It is a folder, or a file that ends in .safetensors.
    """
    if isinstance(path, str | os.PathLike):
        place = Path(path)
        if place.suffix not in OTHER_FILES or place.is_dir():
            return place
    raise InitframeError(Problem("path", f"got {shown(path)}.", "It is a folder, or a file that ends in .safetensors."))


OTHER_FILES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".npz", ".h5", ".st")
"""Ends of names that are meant as files, and would become folders."""

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


def _number(items: Sequence[Item], seed: int) -> str:
    """Return the number of a set of shards: equal for equal tensors, so that no other file passes for one of them."""
    told = [(item.name, item.shape, str(item.dtype), item.stream, item.fill.to_dict()) for item in items]
    return hashlib.sha256(repr((seed, told)).encode()).hexdigest()[:32]


def _index(shards: dict[Path, list[Item]], number: str) -> dict[Path, str]:
    """The index file and its text, if there is more than one file."""
    if len(shards) == 1:
        return {}
    places = {item.name: file.name for file, own in shards.items() for item in own}
    total = sum(item.size for own in shards.values() for item in own)
    data = {"metadata": {"total_size": total, SET: number}, "weight_map": dict(sorted(places.items()))}
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
            for region, offset in chunks(item):
                _write_chunk(file, item, region, start + offset, seed)
                on_progress(math.prod(region.local_shape))
            start += item.size


def chunks(item: Item) -> Iterator[tuple[Region, int]]:
    """Cut a tensor into contiguous pieces; its fill is built whole, or it has no dimensions, in one piece.

    Args:
        item: the tensor.

    Yields:
        The piece's region, and its offset in bytes from the tensor's first.
    """
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
        if item.fill.needs_current and item.current is not None:
            out.copy_(region.pick(item.current))
        paint([Piece(item.fill, out, region, item.stream)], seed)
