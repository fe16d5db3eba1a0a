"""Files that are whole or not there, and a model in one of them."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from initframe.errors import SourceError
from initframe.files.safetensors import DTYPES, Form, begin, in_order
from initframe.model.memory import is_composite, is_shapeless, memoryless, whole

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""What goes wrong with a disk while a file is open, and is told without the file's name."""


@contextmanager
def replacing(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Write several files as one: under temporary names first, renamed when all of them are complete.

    Args:
        *paths: the files to write; their folders are made.

    Yields:
        A temporary path for each, beside its place. If anything goes wrong, they are removed and the places stay as
        they were.

    Raises:
        OSError: a folder cannot be made or written to, or the disk is full; it names the place, not the temporary path.
    """
    with ExitStack() as stack:
        drafts = tuple(stack.enter_context(_draft(path)) for path in paths)
        try:
            yield drafts
        except OSError as error:
            places = dict(zip(map(str, drafts), paths, strict=True))
            if error.filename is not None:
                place = places.get(str(error.filename), error.filename)
            elif paths and error.errno in DISK:
                place = paths[0].parent
            else:
                raise
            raise OSError(error.errno, error.strerror, str(place)) from error
        for draft, path in zip(drafts, paths, strict=True):
            draft.chmod(0o666 & ~_umask())  # temporary files are private, results are not
            draft.replace(path)


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


@dataclass(frozen=True)
class Held(Form):
    """A tensor of a file that a model holds."""

    tensor: Tensor


def save_tensors(model: nn.Module | Mapping[str, Tensor], path: Path) -> None:
    """Save a model's state_dict as safetensors, every name of it.

    Tied tensors are written once per name and strided ones densely, so that
    ``model.load_state_dict(load_file(path))`` gives the model back without further thought.

    Args:
        model: a module or a state_dict.
        path: where to; see :func:`replacing` for writing it safely.

    Raises:
        SourceError: a tensor has no memory, or safetensors has no such tensors.
        OSError: the file cannot be written.
    """
    held = held_by(model)
    pour(held, path, begin(path, held))


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
    problems = [f"cannot save {name}: it {fact}" for name, tensor in tensors.items() if (fact := unsavable(tensor))]
    if problems:
        raise SourceError(*problems)
    return in_order(Held(name, tuple(tensor.shape), tensor.dtype, tensor.detach()) for name, tensor in tensors.items())


def pour(held: Iterable[Held], path: Path | None, start: int = 0) -> None:
    """Write tensors into a file that was begun; those of a sharded model are put together one by one, in all processes.

    Args:
        held: in the file's order.
        path: the file; ``None`` in a process that only gives its shards.
        start: where the first tensor begins.

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
    """A tensor's elements in logical order."""
    dense = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    return dense.view(torch.uint8).numpy().data


def unsavable(tensor: Tensor) -> str | None:
    """Say why a tensor is none of a file, to be read after its name; ``None`` where it is one.

    >>> unsavable(torch.zeros(2, 2).to_sparse())
    'is a sparse_coo tensor of float32, and only plain numbers are written here. Save it with torch.save.'
    """
    if is_shapeless(tensor):
        return "has no one shape. Run one forward pass if it is lazy."
    if lack := memoryless(tensor):
        return f"{lack} and has no values. Materialize the model first."
    if tensor.layout != torch.strided or tensor.is_quantized or is_composite(tensor) or tensor.dtype not in DTYPES:
        kind = type(tensor).__name__ if is_composite(tensor) else f"{tensor.layout} tensor of {tensor.dtype}"
        return f"is a {kind.replace('torch.', '')}, and only plain numbers are written here. Save it with torch.save."
    return None
