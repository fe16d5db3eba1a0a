"""Files that are whole or not there, and a model in one of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torch import Tensor, nn

from initframe.errors import SourceError


@contextmanager
def replacing(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Write several files as one: under temporary names first, renamed when all of them are complete.

    Args:
        *paths: the files to write; their folders are made.

    Yields:
        A temporary path for each, beside its place. If anything goes wrong, they are removed and the places stay as
        they were.

    Raises:
        SourceError: a folder cannot be made or written to.
    """
    with ExitStack() as stack:
        drafts = tuple(stack.enter_context(_draft(path)) for path in paths)
        yield drafts
        for draft, path in zip(drafts, paths, strict=True):
            draft.chmod(0o666 & ~_umask())  # temporary files are private, results are not
            draft.replace(path)


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    if path.is_dir():
        raise SourceError(f"cannot write {path}: it is a folder. Choose another place: hydra.run.dir=…")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise SourceError(f"cannot write {path}: {error.strerror}. Choose another place: hydra.run.dir=…") from error
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


def save_tensors(model: nn.Module | Mapping[str, Tensor], path: Path) -> None:
    """Save a model's state_dict as safetensors, every name of it.

    Tied tensors are written once per name and strided ones densely, so that
    ``model.load_state_dict(load_file(path))`` gives the model back without further thought.

    Args:
        model: a module or a state_dict.
        path: where to; see :func:`replacing` for writing it safely.

    Raises:
        SourceError: a tensor has no memory, or safetensors has no such dtype.
    """
    from safetensors import SafetensorError  # noqa: PLC0415  # imported where used, as import initframe stays light
    from safetensors.torch import save_file  # noqa: PLC0415

    state = model.state_dict() if isinstance(model, nn.Module) else model
    tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    try:
        save_file(_separate(tensors), path, metadata={"format": "pt"})
    except (SafetensorError, ValueError, KeyError, RuntimeError, OSError) as error:
        raise SourceError(f"cannot save {path.name}: {error}") from error


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, each dense and on memory of its own."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        dense = tensor.detach().contiguous()
        address = dense.untyped_storage().data_ptr()
        separate[name] = dense.clone() if address in seen else dense
        seen.add(address)
    return separate
