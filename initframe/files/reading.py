"""Files of tensors, read as data: kind, names and shapes are checked before a value is read."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from initframe.errors import Problem, SourceError, shown
from initframe.files.dtypes import DTYPES
from initframe.files.pickles import walk
from initframe.files.safetensors import TensorInfo
from initframe.limits import ENTRIES, EXPANDED_BYTES, INDEX_BYTES, INTEGER, TENSORS

USUAL = ("state_dict", "model_state_dict", "model")
"""The parts of a training state that are taken for the model's weights if no entry is requested."""

PIECE = 1 << 20

SAFE = "Save the state_dict with safetensors, or with torch.save: a file that may hold code is not read."

Item = TypeVar("Item")


@dataclass(frozen=True)
class Contents:
    """What a file holds: shapes and dtypes at once, values when they are wanted.

    Attributes:
        entries: shape and dtype by name.
        mapped: reads one tensor, on the file's memory.
        check: compares the file's check sums, if it has any, before a value is read.
        entry: of a training state, the part that is read; ``None`` if the file is a state_dict itself.
        others: further parts of it that hold named tensors.
    """

    entries: Mapping[str, TensorInfo]
    mapped: Callable[[str], Tensor]
    check: Callable[[], object] = lambda: None
    entry: str | None = None
    others: tuple[str, ...] = ()

    def value(self, name: str) -> Tensor:
        """Read one tensor, on memory of its own."""
        return self.mapped(name).clone()

    def values(self) -> dict[str, Tensor]:
        """Read all tensors, on the file's memory."""
        return {name: self.mapped(name) for name in self.entries}


def open_file(path: Path, entry: str | None = None) -> Contents:
    """Open safetensors, or a ``.pt`` of plain tensors as ``torch.save`` has written it since torch 1.6.

    The first bytes tell the kind, not the name. No other reader is tried, because a pickle can run code. The check
    sums of a ``.pt`` file are compared when values are read; safetensors has none.

    Args:
        path: the file.
        entry: the part of a training state to read (``state_dict_ema``; of nested ones ``state.model``); by default
            ``state_dict``, ``model_state_dict`` or ``model``.

    Raises:
        SourceError: there is no such file, it is of no kind that is read here, or it has no such entry.
    """
    try:
        if not path.is_file():
            fact = "is a directory" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
            raise SourceError(Problem(f"checkpoint {path}", f"it {fact}.", fix="Give a .safetensors or .pt file."))
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise SourceError(Problem(f"checkpoint {path}", f"it cannot be read: {error.strerror}.")) from error
    if head[8:] == b"{":
        if entry is not None:
            raise _wrong(path, f"it has no entry {entry!r}: safetensors holds one mapping.", "Leave entry out.")
        return _open_safetensors(path, int.from_bytes(head[:8], "little"))
    if head.startswith(b"PK\x03\x04"):
        return _open_torch(path, entry)
    if head.startswith(b"\x80"):
        convert = "One line converts it: torch.save(torch.load(old, weights_only=True), new)."
        raise _wrong(path, "it is a bare pickle, or of torch's format before 1.6.", f"{SAFE} {convert}")
    raise _wrong(path, "it is no checkpoint.", SAFE)


def metadata(path: Path) -> dict[str, str]:
    """Return the texts in the header of a safetensors file.

    Args:
        path: the file.

    Raises:
        SourceError: it is corrupt.
    """
    from safetensors import safe_open  # noqa: PLC0415  # imported where used

    with _as_source_error(path), safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def _wrong(path: Path, fact: str, fix: str = "") -> SourceError:
    return SourceError(Problem(str(path), fact, fix=fix))


def _open_safetensors(path: Path, index: int) -> Contents:
    from safetensors import safe_open  # noqa: PLC0415  # imported where used

    if index > INDEX_BYTES:
        raise _wrong(path, f"it announces {index} bytes of names and shapes; {INDEX_BYTES} is the limit.")
    with _as_source_error(path), safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in _capped(path, file.keys())}
        kinds = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    if unknown := next((name for name, (_, dtype) in kinds.items() if dtype not in DTYPES), None):
        fix = "Save it in another dtype."
        raise SourceError(Problem(f"{path}: {unknown}", f"torch has no dtype {kinds[unknown][1]}.", fix=fix))
    if huge := next((name for name, (shape, _) in kinds.items() if any(size >= INTEGER for size in shape)), None):
        raise SourceError(Problem(f"{path}: {huge}", "a dimension has 2**63 or more elements."))  # next to one of none

    opened = cache(lambda: safe_open(path, framework="pt"))

    def mapped(name: str) -> Tensor:
        with _as_source_error(path):
            return opened().get_tensor(name)  # type: ignore[no-any-return, no-untyped-call]

    entries = {name: TensorInfo(name, shape, DTYPES[dtype]) for name, (shape, dtype) in kinds.items()}
    return Contents(entries, mapped)


@contextmanager
def _as_source_error(path: Path) -> Iterator[None]:
    """Raise the library's errors as ours."""
    from safetensors import SafetensorError  # noqa: PLC0415  # imported where used

    try:
        yield
    except (SafetensorError, OSError) as error:
        raise _wrong(path, f"it is corrupt: {error}.") from error


def _open_torch(path: Path, entry: str | None) -> Contents:
    """Open a torch checkpoint: a zip file, from which only tensors are read."""
    _check_zip(path)
    _check_sums(path, "data.pkl")
    _check_pickle(path)
    chosen, others, tensors = _plain_tensors(path, "meta", entry)
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            fact = f"it is {tensor.layout}, {tensor.dtype}."
            raise SourceError(Problem(f"{path}: {name}", fact, fix="Save it dense."))
        size = path.stat().st_size
        dense = tensor.numel() * tensor.itemsize  # a stride of zero repeats elements
        if tensor.untyped_storage().nbytes() > size or dense > max(size, EXPANDED_BYTES):
            raise _wrong(path, f"it is corrupt: {name} claims more memory than the file has.")
    entries = {name: TensorInfo(name, tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}

    @cache
    def loaded() -> dict[str, Tensor]:
        _check_sums(path, "data/")
        return _plain_tensors(path, "cpu", entry)[2]

    return Contents(entries, lambda name: loaded()[name], loaded, chosen, others)


def _check_zip(path: Path) -> None:
    """Refuse archives that are no plain checkpoint before torch sees them."""
    with _unzipped(path) as archive:
        listed = _capped(path, archive.infolist())
    files = {info.filename.partition("/")[2]: info for info in listed}
    if "constants.pkl" in files or any(name.startswith("code/") for name in files):
        raise _wrong(path, "it is a TorchScript archive, a program with weights in it.", SAFE)
    if "archive_format" in files or any(name.startswith("models/") for name in files):
        raise _wrong(path, "it is an exported program (.pt2), weights and code.", SAFE)
    if "data.pkl" not in files:
        raise _wrong(path, "it is a zip file, but none of torch's.", SAFE)
    if files["data.pkl"].file_size > INDEX_BYTES:
        size = files["data.pkl"].file_size
        raise _wrong(path, f"it has {size} bytes of names and shapes; {INDEX_BYTES} is the limit.")
    if any(info.compress_type != zipfile.ZIP_STORED for info in listed):
        raise _wrong(path, "it is a compressed zip file; torch.save writes none.", SAFE)
    if sum(info.file_size for info in listed) > path.stat().st_size:
        raise _wrong(path, "it is corrupt: its parts are larger than the whole.")
    if "byteorder" in files:
        with _unzipped(path) as archive:
            order = _member(archive, files["byteorder"])[:9].decode("ascii", "replace")
        if order != sys.byteorder:  # torch swaps the bytes in place, which ends the process if the file is mapped
            raise _wrong(path, f"its byte order is {shown(order)}, and this machine's is {sys.byteorder}.", SAFE)


def _check_pickle(path: Path) -> None:
    """Refuse a pickle that makes more than a state_dict has; torch's own reader would let it take any memory."""
    with _unzipped(path) as archive:
        part = next(info for info in archive.infolist() if info.filename.partition("/")[2] == "data.pkl")
        sizes = {info.filename.partition("/data/")[2]: info.file_size for info in archive.infolist()}
        found = walk(_member(archive, part), len(sizes))
    if found.strangers:
        raise _wrong(path, f"it holds more than tensors: it names {', '.join(found.strangers[:3])}.", SAFE)
    if found.fault:
        raise _wrong(path, f"it is corrupt: {found.fault}.")
    for key, size in found.storages.items():
        if sizes.get(key, -1) < size:  # torch would read what comes after it in the file
            raise _wrong(path, f"it is corrupt: data/{key} has fewer than the {size} bytes of its tensors.")


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Read a part whose check sum was compared, or is 0 because torch was told to write none."""
    unchecked = copy(info)
    del unchecked.CRC
    return archive.open(unchecked).read()


@contextmanager
def _unzipped(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file; whatever is wrong with it is an error of ours."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except SourceError:
        raise
    except Exception as error:  # zipfile's errors have no common base
        raise _wrong(path, f"it is corrupt: {str(error) or type(error).__name__}.") from error


def _check_sums(path: Path, part: str) -> None:
    """Read a part of an archive once, and compare it with the check sums of torch.save, which torch.load ignores."""
    with _unzipped(path) as archive:
        for info in archive.infolist():
            if info.filename.partition("/")[2].startswith(part) and info.CRC:  # 0: torch was told to write none
                with archive.open(info) as member:
                    while member.read(PIECE):
                        pass


def _plain_tensors(path: Path, device: str, entry: str | None) -> tuple[str | None, tuple[str, ...], dict[str, Tensor]]:
    """Return the named tensors of a torch checkpoint, by the unpickler that knows tensors and nothing else.

    Returns:
        The entry that was chosen, further ones, and the tensors.
    """
    try:
        loaded = torch.load(path, map_location=device, weights_only=True, mmap=True)
    except Exception as error:
        raise _wrong(path, f"it holds more than tensors, or is corrupt ({type(error).__name__}).", SAFE) from error
    chosen, others, state = _chosen(path, loaded, entry)
    return chosen, others, dict(_capped(path, _tensors(state).items()))


def _chosen(path: Path, loaded: Any, entry: str | None) -> tuple[str | None, tuple[str, ...], Any]:
    """Choose a state_dict of what a file holds: the requested one, the usual one, or the file itself.

    A part of another name (``net``, ``params``, ``teacher``) is not guessed, even if it is the only one.
    """
    states = _states(path, loaded)
    if entry is not None and entry not in states:
        has = f"It has {', '.join(states)}." if states else ""
        raise SourceError(Problem(str(path), f"it has no entry {entry!r} that holds named tensors.", has))
    chosen = entry or next((usual for usual in USUAL if usual in states), None)
    if chosen is not None:
        return chosen, tuple(name for name in states if name != chosen), states[chosen]
    if _tensors(loaded):
        return None, tuple(states), loaded
    if states:
        fact, has = f"it holds no {', '.join(USUAL[:-1])} or {USUAL[-1]}.", f"It has {', '.join(states)}."
        fix = f"Choose one: model.entry={next(iter(states))}, or entry: {next(iter(states))} in a rule."
        raise SourceError(Problem(str(path), fact, has, fix))
    raise _wrong(path, "it holds no state_dict, which is a mapping of names to tensors.", SAFE)


def _states(path: Path, loaded: Any) -> dict[str, Mapping[str, Any]]:
    """Find the mappings of names to tensors inside a training state, up to two levels deep."""
    found: dict[str, Mapping[str, Any]] = {}
    count = 0
    for name, part in loaded.items() if isinstance(loaded, dict) else ():
        if isinstance(name, str) and isinstance(part, dict):
            count += len(part) + sum(len(inner) for inner in part.values() if isinstance(inner, dict))
            if count > ENTRIES:  # a mapping that stands in many places counts in each
                raise _wrong(path, f"its mappings have more than {ENTRIES} entries.")
            inner = {f"{name}.{key}": value for key, value in part.items() if isinstance(key, str)}
            found |= {key: state for key, state in ({name: part} | inner).items() if _tensors(state)}
    return found


def _tensors(state: Any) -> dict[str, Tensor]:
    """Return the entries of a mapping that are named tensors."""
    items = state.items() if isinstance(state, dict) else ()
    return {name: value for name, value in items if isinstance(name, str) and isinstance(value, Tensor)}


def _capped(path: Path, items: Iterable[Item]) -> list[Item]:
    listed = list(islice(items, TENSORS + 1))
    if len(listed) > TENSORS:
        raise _wrong(path, f"it has more than {TENSORS} entries.")
    return listed
