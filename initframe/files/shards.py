"""A checkpoint in one file or several: a file, a folder, or the index that names the shards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from initframe.errors import Problem, SourceError
from initframe.files.reading import Contents, metadata, open_file
from initframe.files.safetensors import TensorInfo
from initframe.limits import INDEX_BYTES

SHARD = re.compile(r".*-\d+-of-\d+\.safetensors")
"""One file of several, which only an index makes a whole."""
SET = "set"
"""The key of the number that an index and its shards share, in its metadata and in their headers."""
FIX = "Give a .safetensors or .pt file, a folder of .safetensors files, or the index of a sharded checkpoint."


class Listing(NamedTuple):
    """The files of a checkpoint.

    Attributes:
        files: the files that hold tensors.
        promised: names that the index says are in them; none if there is no index.
    """

    files: tuple[Path, ...]
    promised: tuple[str, ...] = ()


def list_files(path: Path) -> Listing:
    """Find the files of a checkpoint.

    The index is the record of a set of shards: without it they are not read, and each must be of the set that it names.

    Args:
        path: a file; an index (``model.safetensors.index.json``); or a folder. Of a folder, the files that its index
            names are taken, or else all safetensors files, or else ``pytorch_model.bin``.

    Raises:
        SourceError: there is nothing to read, or an index is wrong.
    """
    if not is_folder(path):
        return _indexed(path) if path.name.endswith(".index.json") else Listing((path,))
    for index, files in (("*.safetensors.index.json", "*.safetensors"), ("*.bin.index.json", "pytorch_model.bin")):
        indexes = sorted(path.glob(index))
        if len(indexes) > 1:
            options = f"It has {', '.join(one.name for one in indexes)}."
            raise SourceError(Problem(str(path), "this folder has several indexes.", options, "Give one of them."))
        if indexes:
            return _indexed(indexes[0])
        if found := sorted(path.glob(files)):
            if shards := [file.name for file in found if SHARD.fullmatch(file.name)]:
                fact = f"it holds {', '.join(shards[:3])}, and no index: whoever wrote them did not finish."
                raise SourceError(Problem(str(path), fact, fix="Write it again, or give one file."))
            return Listing(tuple(found))
    fact = "it is a directory, and this folder holds no .safetensors file."
    raise SourceError(Problem(str(path), fact, fix=FIX))


def open_checkpoint(path: Path, entry: str | None = None) -> Contents:
    """Open a checkpoint, in one file or several.

    Args:
        path: as :func:`list_files` takes it.
        entry: which part of a training state to read, as :func:`initframe.files.reading.open_file` takes it.

    Raises:
        SourceError: it is incomplete, cannot be read, or two files hold tensors of the same name.
    """
    listing = list_files(path)
    contents = open_files(listing.files, entry)
    if missing := [name for name in listing.promised if name not in contents.entries]:
        raise SourceError(incomplete(str(path), missing))
    return contents


def incomplete(path: str, missing: Sequence[str]) -> Problem:
    """Say that an index names tensors that are in none of its files."""
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    fact = f"its index names {', '.join(missing[:3])}{more}, which none of its files has."
    return Problem(path, fact, fix="Download or save it again.")


def open_files(paths: Iterable[Path], entry: str | None = None) -> Contents:
    """Open several files as one.

    Args:
        paths: one or more.
        entry: as for :func:`open_checkpoint`.

    Raises:
        SourceError: one cannot be read, or two hold tensors of the same name.
    """
    files = {path: open_file(path, entry) for path in paths}
    if len(files) == 1:
        return next(iter(files.values()))
    entries: dict[str, TensorInfo] = {}
    holder: dict[str, Path] = {}
    for path, contents in files.items():
        if twice := [name for name in contents.entries if name in holder]:
            names = repr(twice[0]) + (f" and {len(twice) - 1} more" if len(twice) > 1 else "")
            fix = "Give one of the files, or move one away."
            raise SourceError(Problem(f"{holder[twice[0]]} and {path}", f"both hold {names}.", fix=fix))
        entries |= contents.entries
        holder |= dict.fromkeys(contents.entries, path)

    def check() -> None:
        for contents in files.values():
            contents.check()

    return Contents(entries, lambda name: files[holder[name]].mapped(name), check)


def _indexed(index: Path) -> Listing:
    """Read an index: ``{"weight_map": {name: file}}``, the files next to it."""
    names, number = _weight_map(index)
    files = tuple(index.parent / file for file in sorted(set(names.values())))
    if missing := [file.name for file in files if not _is_file(file)]:
        fact = f"it names {', '.join(missing[:3])}, which {'does' if len(missing) == 1 else 'do'} not exist."
        raise SourceError(Problem(str(index), fact, fix="Put all shards next to the index."))
    if number is not None and (strangers := [file.name for file in files if metadata(file).get(SET) != number]):
        fact = f"{', '.join(strangers[:3])} {'is' if len(strangers) == 1 else 'are'} of another checkpoint."
        raise SourceError(Problem(str(index), fact, fix="Put back all shards that were written with the index."))
    return Listing(files, tuple(names))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def is_folder(path: Path) -> bool:
    """Whether a path is that of a folder; a name that nothing can have is none.

    >>> is_folder(Path("x" * 9_999)), is_folder(Path("."))
    (False, True)
    """
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _weight_map(index: Path) -> tuple[Mapping[str, str], str | None]:
    """Read what an index says: the file of each tensor, and the number of the set, if it has one."""
    try:
        if index.stat().st_size > INDEX_BYTES:
            raise SourceError(Problem(str(index), f"it is larger than {INDEX_BYTES} bytes."))
        written = json.loads(index.read_bytes())
    except OSError as error:
        raise SourceError(Problem(str(index), f"it cannot be read: {error.strerror}.", fix=FIX)) from None
    except (ValueError, RecursionError) as error:
        raise SourceError(Problem(str(index), f"it is no JSON: {error}.")) from None
    names: Any = written.get("weight_map") if isinstance(written, dict) else None
    # A name with a folder in it could be any file of the machine.
    if names and isinstance(names, dict) and all(isinstance(f, str) and Path(f).name == f for f in names.values()):
        about = written.get("metadata")
        number = about.get(SET) if isinstance(about, dict) else None
        return names, number if isinstance(number, str) else None
    fact = "it is no index of a sharded checkpoint: weight_map must map tensor names to files next to it."
    raise SourceError(Problem(str(index), fact))
