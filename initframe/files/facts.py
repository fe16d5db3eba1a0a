"""What a manifest says of a file: its size, and a SHA-256."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

LENGTH = 8
"""Bytes at the beginning of a safetensors file that say how long the JSON after them is."""


def file_facts(path: Path) -> dict[str, Any]:
    """Return a file's size and SHA-256.

    Args:
        path: a file.

    Raises:
        OSError: it cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "plan.txt"
    ...     _ = path.write_text("a plan")
    ...     file_facts(path)["size"]
    6
    """
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def header_facts(path: Path) -> dict[str, Any]:
    """Return the size of a safetensors file, and the SHA-256 of its header: every tensor has a digest of its own.

    Args:
        path: a file.

    Raises:
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(LENGTH)
        head += file.read(min(int.from_bytes(head, "little"), size))
    return {"size": size, "header_sha256": hashlib.sha256(head).hexdigest()}
