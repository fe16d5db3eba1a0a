"""A safetensors file before its numbers: the header, where each tensor lies, and room for all of them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What is written here, by the format's names."""
ALIGNMENT = 64
"""Of the first tensor in a file; those after it follow by falling size of their elements."""


@dataclass(frozen=True)
class Form:
    """One tensor of a file.

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
        """In bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


AnyForm = TypeVar("AnyForm", bound=Form)


def in_order(forms: Iterable[AnyForm]) -> list[AnyForm]:
    """Sort tensors as they lie in a file: the widest elements first, so that all are aligned.

    >>> [form.name for form in in_order([Form("half", (3,), torch.float16), Form("wide", (2,), torch.float64)])]
    ['wide', 'half']
    """
    return sorted(forms, key=lambda form: -form.dtype.itemsize)


def begin(path: Path, forms: Sequence[Form]) -> int:
    """Write a file's header, and take the disk's room for all that follows.

    A mapped file that met a full disk later would kill the process.

    Args:
        path: a file, made anew.
        forms: what will follow, in order.

    Returns:
        Where the first tensor begins.

    Raises:
        OSError: there is no room.
    """
    head = _header(forms)
    size = len(head) + sum(form.size for form in forms)
    with path.open("wb") as file:
        file.write(head)
        file.flush()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return len(head)


def _header(forms: Sequence[Form]) -> bytes:
    """The length of the JSON, and the JSON: where each tensor lies after it."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for form in forms:
        offsets = [start, start + form.size]
        table[form.name] = {"dtype": DTYPES[form.dtype], "shape": list(form.shape), "data_offsets": offsets}
        start += form.size
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
