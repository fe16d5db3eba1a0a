"""safetensors files: the header with room for all values, then the values of a model."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from initframe.errors import Problem, SourceError
from initframe.files.dtypes import NAMES
from initframe.model.memory import is_composite, is_shapeless, memoryless, whole

ALIGNMENT = 64
"""Of the first tensor in a file, in bytes; those after it follow by falling size of their elements."""


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a file, without its values.

    Attributes:
        name: its name there.
        shape: its shape.
        dtype: its dtype there.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Held(TensorInfo):
    """A tensor of a file, with a model's tensor that has the values."""

    tensor: Tensor


AnyInfo = TypeVar("AnyInfo", bound=TensorInfo)


def in_order(infos: Iterable[AnyInfo]) -> list[AnyInfo]:
    """Sort tensors by the order in a file: the widest elements first, so that all are aligned.

    >>> half, wide = TensorInfo("half", (3,), torch.float16), TensorInfo("wide", (2,), torch.float64)
    >>> [info.name for info in in_order([half, wide])]
    ['wide', 'half']
    """
    return sorted(infos, key=lambda info: -info.dtype.itemsize)


def begin(path: Path, infos: Sequence[TensorInfo], metadata: Mapping[str, str] | None = None) -> int:
    """Write a file's header, and take the disk's room for all that follows.

    A mapped file that met a full disk later would kill the process.

    Args:
        path: a file; what it holds is lost.
        infos: the tensors that will follow, in order.
        metadata: texts for the header.

    Returns:
        The offset of the first tensor, in bytes.

    Raises:
        OSError: there is no room.
    """
    head = _header(infos, metadata or {})
    size = len(head) + sum(info.size for info in infos)
    with path.open("wb") as file:
        file.write(head)
        file.flush()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return len(head)


def _header(infos: Sequence[TensorInfo], metadata: Mapping[str, str]) -> bytes:
    """Return the length of the JSON and the JSON, which says where each tensor is after it."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    start = 0
    for info in infos:
        offsets = [start, start + info.size]
        table[info.name] = {"dtype": NAMES[info.dtype], "shape": list(info.shape), "data_offsets": offsets}
        start += info.size
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def save_tensors(
    model: nn.Module | Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Save a model's state_dict as safetensors, every name of it.

    Tied tensors are written once per name and strided ones densely, so that
    ``model.load_state_dict(load_file(path))`` gives the model back without further thought.

    Args:
        model: a module or a state_dict.
        path: the file; :func:`initframe.files.atomic.replacing` gives one that is complete or not there.
        metadata: texts for the header.

    Raises:
        SourceError: a tensor has no memory, or safetensors has no such tensors.
        OSError: the file cannot be written.
    """
    held = held_by(model)
    pour(held, path, begin(path, held, metadata))


def held_by(model: nn.Module | Mapping[str, Tensor]) -> list[Held]:
    """List what a file of a model's state_dict would hold, in its order.

    Args:
        model: a module or a state_dict.

    Raises:
        SourceError: a tensor has no memory, or safetensors has no such tensors.

    >>> [held.name for held in held_by(nn.BatchNorm1d(2, affine=False))]
    ['num_batches_tracked', 'running_mean', 'running_var']
    """
    state = model.state_dict() if isinstance(model, nn.Module) else model
    tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    problems = [found.on(f"cannot save {name}") for name, tensor in tensors.items() if (found := unsavable(tensor))]
    if problems:
        raise SourceError(*problems)
    return in_order(Held(name, tuple(tensor.shape), tensor.dtype, tensor.detach()) for name, tensor in tensors.items())


def pour(held: Iterable[Held], path: Path | None, start: int = 0) -> None:
    """Write tensors into a file that was begun; those of a sharded model are put together one by one, in all processes.

    Args:
        held: in the file's order.
        path: the file; ``None`` in a process that only gives its shards.
        start: the offset of the first tensor, in bytes.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("r+b") if path else nullcontext() as file:
        if file:
            file.seek(start)
        for one in held:
            tensor = whole(one.tensor)
            if file:
                file.write(_bytes(tensor))


def _bytes(tensor: Tensor) -> memoryview:
    """Return a tensor's elements in logical order."""
    dense = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    # One element keeps the stride that it had, of which torch makes no bytes.
    return dense.as_strided(dense.shape, (1,)).view(torch.uint8).numpy().data


def unsavable(tensor: Tensor) -> Problem | None:
    """Say why a tensor cannot be written to a file; ``None`` if it can.

    >>> print(unsavable(torch.zeros(2, 2).to_sparse()))
    it is a sparse_coo tensor of float32; only plain numbers are written here. Save it with torch.save.
    """
    if is_shapeless(tensor):
        return Problem("", "it has no one shape.", fix="Run one forward pass if it is lazy.")
    if lack := memoryless(tensor):
        return Problem("", f"it {lack} and has no values.", fix="Materialize the model first.")
    if tensor.layout != torch.strided or tensor.is_quantized or is_composite(tensor) or tensor.dtype not in NAMES:
        kind = type(tensor).__name__ if is_composite(tensor) else f"{tensor.layout} tensor of {tensor.dtype}"
        fact = f"it is a {kind.replace('torch.', '')}; only plain numbers are written here."
        return Problem("", fact, fix="Save it with torch.save.")
    return None
