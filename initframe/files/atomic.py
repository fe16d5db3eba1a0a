"""Files that are complete or not there."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""Errors of a disk while a file is open; the system raises them without the file's name."""


@contextmanager
def replacing(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Write several files as one: under temporary names first, renamed when all of them are complete.

    Args:
        *paths: the files to write; their folders are made.

    Yields:
        A temporary path for each, in the same folder. If anything goes wrong, they are removed and the files stay as
        they were.

    Raises:
        OSError: a folder cannot be made or written to, or the disk is full; it names the file, not the temporary path.
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
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
