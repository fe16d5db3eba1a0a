"""Files that are complete or not there, and sets of files of which the same is true."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

if sys.platform != "win32":  # where there are no locks like these, and no folder can be opened
    import fcntl

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""Errors of a disk while a file is open; the system raises them without the file's name."""
BUSY = (errno.EAGAIN, errno.EACCES)
"""Errors of a lock that somebody else holds. File systems without locks raise others."""
PATIENCE, PAUSE = 1.0, 0.05
"""Seconds to wait for a lock: a set holds one until it is complete, a single file only while it sweeps."""


@contextmanager
def replacing(*paths: Path, stale: Iterable[Path] = ()) -> Iterator[tuple[Path, ...]]:
    """Write several files as one set; the last one is its record, without which the set is unfinished.

    All are written under temporary names first, and reach the disk. Then the record of an earlier set is removed, the
    other files are renamed, and the record is renamed last. A process that is killed leaves the earlier set, the new
    one, or a folder without a record. The next set of the same names removes the temporary files that it left.

    A set locks its folders; a single file does not, as it is replaced in one step. Where the file system has no locks,
    nothing is locked.

    Args:
        *paths: the files to write; their folders are made.
        stale: files of earlier sets that go when this one comes; earlier records first.

    Yields:
        A temporary path for each, in the same folder. If anything goes wrong before all of them are complete, they are
        removed and the files stay as they were.

    Raises:
        OSError: a folder cannot be made or written to, another process writes a set there, or the disk is full; it
            names the file, not the temporary path.
    """
    old = [path for path in stale if path not in paths]
    is_set = len(paths) + len(old) > 1
    for path in paths:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
    folders = sorted({path.parent for path in paths})
    with ExitStack() as stack:
        for folder in folders:
            names = [path.name for path in paths if path.parent == folder]
            if is_set:
                stack.enter_context(locked(folder))
                _sweep(folder, names)
            else:
                with contextlib.suppress(BlockingIOError), locked(folder, patience=0.0):
                    _sweep(folder, names)
        drafts = tuple(stack.enter_context(_draft(path, is_set)) for path in paths)
        try:
            yield drafts
            _sync(drafts)
        except OSError as error:
            places = dict(zip(map(str, drafts), paths, strict=True))
            if error.filename is not None:
                place = places.get(str(error.filename), error.filename)
            elif paths and error.errno in DISK:
                place = paths[0].parent
            else:
                raise
            raise OSError(error.errno, error.strerror, str(place)) from error
        if is_set:
            remove([paths[-1], *old])
        for draft, path in zip(drafts, paths, strict=True):
            if is_set and path is paths[-1]:
                _sync(folders)
            draft.replace(path)
        _sync(folders)


def remove(paths: Iterable[Path]) -> None:
    """Remove files in their order, where they are there, and see to it that the first is gone before the others.

    Args:
        paths: the record of a set, then its other files.
    """
    for i, path in enumerate(paths):
        if path.is_file() or path.is_symlink():
            path.unlink()
            if i == 0:
                _sync([path.parent])


@contextmanager
def locked(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of a folder.

    Args:
        folder: an existing folder.
        patience: how long to wait for another process, in seconds.

    Raises:
        BlockingIOError: another process holds it.
    """
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        is_ours = _lock(handle, folder, patience)
        try:
            yield
        finally:
            if is_ours:
                fcntl.flock(handle, fcntl.LOCK_UN)  # processes that were forked meanwhile hold it, too
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path, patience: float) -> bool:
    """Lock a folder; ``False`` if its file system has no locks."""
    end = time.monotonic() + patience
    while sys.platform != "win32":
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in BUSY:
                return False
            if time.monotonic() >= end:
                raise BlockingIOError(error.errno, "another process is writing files here", str(folder)) from None
            time.sleep(PAUSE)
        else:
            return True
    return False


def _sweep(folder: Path, names: Iterable[str]) -> None:
    """Remove temporary files that a killed process left: of these names, with any numbers; the folder is locked."""
    ours = "|".join(re.sub(r"\d+", r"\\d+", re.escape(name)) for name in names)
    part = re.compile(rf"\.(?:{ours})\.[a-z0-9_]{{8}}\.part")
    for path in folder.iterdir():
        if not part.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):  # somebody else's: it stays
            handle = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                if sys.platform != "win32":
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a single file's writer holds it while it lives
                path.unlink()
            finally:
                os.close(handle)


@contextmanager
def _draft(path: Path, is_set: bool) -> Iterator[Path]:
    handle, draft = _made(path)
    if is_set:  # the folder's lock is enough, and a set may have more files than a process may open
        os.close(handle)
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)
        if not is_set:
            os.close(handle)


def _made(path: Path) -> tuple[int, Path]:
    """Make a temporary file next to a path, with a lock on it."""
    while True:
        try:
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        if sys.platform != "win32":
            with contextlib.suppress(OSError):  # no locks here
                fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # swept away before it was locked


def _sync(paths: Iterable[Path]) -> None:
    """Wait until files, or a folder's names, are on the disk; give files the permissions of any new file."""
    for path in paths:
        if path.is_dir():
            if sys.platform == "win32":
                continue
            handle = os.open(path, os.O_RDONLY)
        else:
            path.chmod(0o666 & ~_umask())  # temporary files are private, results are not
            handle = os.open(path, os.O_RDWR)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno in DISK:
                raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            os.close(handle)


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
