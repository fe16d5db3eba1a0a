"""A file of tensors, or a folder of them, as it was when a plan was made.

An archive remembers its files' sizes and times of the last change, and refuses a file that has changed since. The
manifest has their SHA-256.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from operator import eq
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from torch import Tensor

from initframe.errors import Problem, ResolveError, SourceError, about
from initframe.files.reading import Contents
from initframe.files.safetensors import TensorInfo
from initframe.files.shards import FIX, incomplete, list_files, open_files
from initframe.limits import OPEN_CHECKPOINTS


class State(NamedTuple):
    """A file as it was when a plan was made."""

    path: str
    size: int
    changed: int


@dataclass(frozen=True)
class Archive:
    """A checkpoint in one file or several, as it is now.

    Attributes:
        path: as it was written.
        files: the states of the files.
        entry: which part of a training state is read, as it was requested.
    """

    path: str
    files: tuple[State, ...]
    entry: str | None = None

    @property
    def entries(self) -> Mapping[str, TensorInfo]:
        """The tensors' shapes and dtypes by name; files that have not changed are read once."""
        return self.contents.entries

    @property
    def contents(self) -> Contents:
        """What the files hold, read as one."""
        return _contents(self.files, self.entry)

    def nearest(self, key: str, count: int = 3) -> list[str]:
        """Return the names that share most parts with a key, from its beginning and from its end."""
        wanted = tuple(key.split("."))
        near = _around(self, wanted, 1) | _around(self, wanted, -1)
        shared = {name: _alike(name, wanted) + _alike(name[::-1], wanted[::-1]) for name in near}
        best = sorted(filter(shared.get, shared), key=lambda name: (-shared[name], name))
        return [".".join(name) for name in best[:count]]

    def read(self, key: str, *, mapped: bool = False) -> Tensor:
        """Read one tensor, in the file's dtype.

        Args:
            key: its name.
            mapped: whether it may stay on the file's memory, for those who take a part of it.

        Raises:
            ResolveError: a file has changed since the plan was made, or cannot be read.
        """
        if found := self.change():
            raise ResolveError(found)
        with about(""):  # the recipe that names a file has the file's problems
            return self.contents.mapped(key) if mapped else self.contents.value(key)

    def change(self) -> Problem | None:
        """Say how the files have changed since they were found; ``None`` if they have not."""
        return next(filter(None, map(_change, self.files)), None)

    def fault(self) -> Problem | None:
        """Say why the values cannot be read: the files have changed, or are damaged; ``None`` if they can."""
        return self.change() or _damage(self.files, self.entry)

    def digest(self) -> str:
        """Return the SHA-256 of the file; of several, that of their digests."""
        digests = [_digest(state) for state in self.files]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def open_archive(path: str, entry: str | None = None) -> Archive:
    """Find a file of tensors, the files of a folder, or those that an index names.

    Args:
        path: of the file, the folder or the index, relative to the current directory.
        entry: which part of a training state to read; by default the usual one.

    Returns:
        The archive; names and shapes are known to be readable.

    Raises:
        ResolveError: there is no such file, it holds more than tensors, it is incomplete, or two files hold tensors of
            the same name.
    """
    if not path:
        raise ResolveError(Problem("path", "it is empty.", fix=FIX))
    try:
        with about(""):
            files, promised = list_files(Path(path))
        states = tuple(_state(file) for file in files)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ResolveError(Problem(path, f"it cannot be read: {reason}.", fix=FIX)) from None
    archive = Archive(path, states, entry)
    if missing := [name for name in promised if name not in archive.entries]:
        raise ResolveError(incomplete(path, missing))
    return archive


def _state(file: Path) -> State:
    found = file.stat()
    return State(str(file), found.st_size, found.st_mtime_ns)


def _change(state: State) -> Problem | None:
    try:
        now = _state(Path(state.path))
    except OSError:
        return Problem(state.path, "it is gone since the plan was made.", fix="Resolve again.")
    if now != state:
        return Problem(state.path, "it has changed since the plan was made.", fix="Resolve again.")
    return None


@lru_cache(maxsize=64)
def _damage(files: tuple[State, ...], entry: str | None) -> Problem | None:
    try:
        _contents(files, entry).check()
    except SourceError as error:
        return error.problems[0]
    return None


_OPEN: OrderedDict[tuple[tuple[str, ...], str | None], tuple[tuple[State, ...], Contents]] = OrderedDict()
"""Files that were read last; one that was rewritten takes the place of what it was, whose map would stay in memory."""
_LOCK = Lock()


def _unlock() -> None:
    """Begin anew in a forked child: it has none of the threads that were reading."""
    global _LOCK  # noqa: PLW0603
    _LOCK = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


def _contents(files: tuple[State, ...], entry: str | None) -> Contents:
    """Open the files, once for each of their states."""
    key = tuple(state.path for state in files), entry
    with _LOCK:
        known = _OPEN.get(key)
    if known is not None and known[0] == files:
        return known[1]
    with about(""):
        contents = open_files((Path(state.path) for state in files), entry)
    with _LOCK:
        _OPEN[key] = files, contents
        _OPEN.move_to_end(key)
        while len(_OPEN) > OPEN_CHECKPOINTS:
            _OPEN.popitem(last=False)
    return contents


@lru_cache(maxsize=4)
def _ordered(archive: Archive, step: int) -> list[tuple[str, ...]]:
    """Sort all names by their parts, read from the beginning (1) or from the end (-1)."""
    return sorted(tuple(name.split("."))[::step] for name in archive.entries)


def _around(archive: Archive, wanted: tuple[str, ...], step: int) -> set[tuple[str, ...]]:
    """Return the names next to a wanted one: in order, those that begin or end alike are together."""
    ordered = _ordered(archive, step)
    place = bisect(ordered, wanted[::step])
    return {name[::step] for name in ordered[max(0, place - 4) : place + 4]}


def _alike(name: tuple[str, ...], wanted: tuple[str, ...]) -> int:
    """Count the parts that are the same before the first that is not."""
    return sum(takewhile(bool, map(eq, name, wanted)))


@lru_cache(maxsize=64)
def _digest(state: State) -> str:
    with Path(state.path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
