"""Files of tensors, read as data: kind, names and shapes are known to be right before a value is read."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from initframe.errors import SourceError

MAX_TENSORS, MAX_INDEX = 100_000, 1 << 25
"""Of one file: how many tensors, and how many bytes of names and shapes."""

PIECE = 1 << 20

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_SAFE = "Save the state_dict with safetensors, or with torch.save: a file that may hold code is not read."

_CONVERT = "One line makes it one: torch.save(torch.load(old, weights_only=True), new)."

Item = TypeVar("Item")


class Entry(NamedTuple):
    """A tensor of a file before its values are read."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Contents:
    """What a file holds: entries at once, values when they are asked for.

    Attributes:
        entries: by name.
        values: reads all values.
        value: reads one tensor, which is the caller's own.
        check: looks for damage where the file has sums that tell it; once, before any value is read.
    """

    entries: Mapping[str, Entry]
    values: Callable[[], Mapping[str, Tensor]]
    value: Callable[[str], Tensor]
    check: Callable[[], object] = lambda: None


def open_file(path: Path) -> Contents:
    """Open safetensors, or a ``.pt`` of plain tensors as ``torch.save`` has written it since torch 1.6.

    The kind is told by the first bytes, whatever the name says. No other reader is tried, because a pickle can run
    code. Of a training state, ``state_dict``, ``model_state_dict`` or ``model`` is taken. The sums that ``torch.save``
    writes beside the values are compared when values are read; safetensors has none.

    Args:
        path: the file.

    Raises:
        SourceError: there is no such file, or it is of no kind that is read here.
    """
    if not path.is_file():
        fact = "is a directory" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
        raise SourceError(f"checkpoint {path} {fact}. Give a .safetensors or .pt file.")
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise SourceError(f"checkpoint {path} cannot be read: {error.strerror}.") from error
    if head[8:] == b"{":
        return _open_safetensors(path, int.from_bytes(head[:8], "little"))
    if head.startswith(b"PK\x03\x04"):
        return _open_archive(path)
    if head.startswith(b"\x80"):
        raise SourceError(f"{path} is a bare pickle, or of torch's format before 1.6. {_SAFE} {_CONVERT}")
    raise SourceError(f"{path} is no checkpoint. {_SAFE}")


def _open_safetensors(path: Path, index: int) -> Contents:
    from safetensors import safe_open  # noqa: PLC0415  # imported where used
    from safetensors.torch import load_file  # noqa: PLC0415

    if index > MAX_INDEX:
        raise SourceError(f"{path} announces {index} bytes of names and shapes; {MAX_INDEX} is the limit.")
    with _told(path), safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in _capped(path, file.keys())}
        kinds = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    if unknown := next((name for name, (_, dtype) in kinds.items() if dtype not in _DTYPES), None):
        raise SourceError(f"{path}: {unknown} is of type {kinds[unknown][1]}, which no model here holds.")

    mapped = cache(lambda: safe_open(path, framework="pt"))

    def value(name: str) -> Tensor:
        with _told(path):
            tensor: Tensor = mapped().get_tensor(name)  # type: ignore[no-untyped-call]
        return tensor.clone()

    entries = {name: Entry(shape, _DTYPES[dtype]) for name, (shape, dtype) in kinds.items()}
    return Contents(entries, lambda: load_file(path), value)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """The library's errors become ours."""
    from safetensors import SafetensorError  # noqa: PLC0415  # imported where used

    try:
        yield
    except (SafetensorError, OSError) as error:
        raise SourceError(f"{path} is corrupt: {error}.") from error


def _open_archive(path: Path) -> Contents:
    """A torch checkpoint: a zip file, of which only tensors are read."""
    _check_archive(path)
    _check_sums(path, "data.pkl")
    tensors = _plain_tensors(path, "meta")
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise SourceError(f"{path}: {name} is {tensor.layout}, {tensor.dtype}. Save it dense.")
        if tensor.untyped_storage().nbytes() > path.stat().st_size:
            raise SourceError(f"{path} is corrupt: {name} claims more memory than the file has.")
    entries = {name: Entry(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}

    @cache
    def mapped() -> dict[str, Tensor]:
        _check_sums(path, "data/")
        return _plain_tensors(path, "cpu")

    return Contents(entries, mapped, lambda name: mapped()[name].clone(), check=mapped)


def _check_archive(path: Path) -> None:
    """Refuse archives that are no plain checkpoint before torch sees them."""
    try:
        with zipfile.ZipFile(path) as archive:
            listed = _capped(path, archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise SourceError(f"{path} is corrupt: {error}.") from error
    files = {info.filename.partition("/")[2]: info for info in listed}
    if "constants.pkl" in files or any(name.startswith("code/") for name in files):
        raise SourceError(f"{path} is a TorchScript archive, a program with weights in it. {_SAFE}")
    if "archive_format" in files or any(name.startswith("models/") for name in files):
        raise SourceError(f"{path} is an exported program (.pt2), weights and code. {_SAFE}")
    if "data.pkl" not in files:
        raise SourceError(f"{path} is a zip file, but none of torch's. {_SAFE}")
    if files["data.pkl"].file_size > MAX_INDEX:
        raise SourceError(
            f"{path} has {files['data.pkl'].file_size} bytes of names and shapes; {MAX_INDEX} is the limit."
        )
    if any(info.compress_type != zipfile.ZIP_STORED for info in listed):
        raise SourceError(f"{path} is a compressed zip file, as torch.save writes none. {_SAFE}")
    if sum(info.file_size for info in listed) > path.stat().st_size:
        raise SourceError(f"{path} is corrupt: its parts are larger than the whole.")


def _check_sums(path: Path, part: str) -> None:
    """Read a part of an archive once, and compare it with the sums that torch.save wrote: torch.load does not."""
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.partition("/")[2].startswith(part) and info.CRC:  # 0: torch was told to write none
                    with archive.open(info) as member:
                        while member.read(PIECE):
                            pass
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
        raise SourceError(f"{path} is corrupt: {error}.") from error


def _plain_tensors(path: Path, device: str) -> dict[str, Tensor]:
    """The named tensors of a torch checkpoint, by the unpickler that knows tensors and nothing else."""
    try:
        loaded = torch.load(path, map_location=device, weights_only=True, mmap=True)
    except Exception as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        fact = f"it names {named[1]}" if named else str(error).partition("\n")[0]
        raise SourceError(f"{path} holds more than tensors, or is corrupt: {fact}. {_SAFE}") from error
    state = _state(loaded)
    tensors = {name: state[name] for name in state if isinstance(name, str) and isinstance(state[name], Tensor)}
    if not tensors:
        raise SourceError(f"{path} holds no state_dict, which is a mapping of names to tensors. {_SAFE}")
    return dict(_capped(path, tensors.items()))


def _state(loaded: Any) -> Mapping[str, Any]:
    """A state_dict, or the one inside a training state."""
    if not isinstance(loaded, dict):
        return {}
    inner = (loaded.get(key) for key in ("state_dict", "model_state_dict", "model"))
    return next((state for state in inner if isinstance(state, dict)), loaded)


def _capped(path: Path, items: Iterable[Item]) -> list[Item]:
    listed = list(islice(items, MAX_TENSORS + 1))
    if len(listed) > MAX_TENSORS:
        raise SourceError(f"{path} has more than {MAX_TENSORS} entries.")
    return listed
