"""Values that a constructor computed without drawing a number."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from initframe.fills.whole import Fixed


@dataclass(frozen=True, eq=False)
class Table(Fixed):
    """A table of values, known by its digest; made by :func:`table`.

    >>> table(torch.tensor([1.0, 2.0])) == table(torch.tensor([1.0, 2.0]))
    True
    """

    digest: str
    held: Tensor = field(repr=False)

    def values(self) -> Tensor:
        """The table."""
        return self.held

    def to_dict(self) -> dict[str, Any]:
        """Return the fill as plain data, which has no values: only the constructor makes them again.

        >>> table(torch.zeros(2)).to_dict()["needs"]
        'constructor'
        """
        return {**super().to_dict(), "needs": "constructor"}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and (self.shape, self.digest) == (other.shape, other.digest)

    def __hash__(self) -> int:
        return hash((self.shape, self.digest))

    def __str__(self) -> str:
        return f"table({self.digest[:12]})"


def table(values: Tensor) -> Table:
    """Keep values as a fill.

    Args:
        values: any floating-point tensor; it is copied.

    Returns:
        The fill; its digest is the SHA-256 of its values in float32 (float64 if that is what they are), little-endian.
    """
    wide = torch.float64 if values.dtype == torch.float64 else torch.float32
    held = values.detach().to("cpu", wide, copy=True).contiguous()
    return Table(tuple(held.shape), hashlib.sha256(_bytes(held)).hexdigest(), held)


def _bytes(held: Tensor) -> memoryview:
    """The memory of a dense tensor on the CPU, without a copy."""
    import ctypes  # noqa: PLC0415 - torch gives memory without numpy in no other way

    return memoryview((ctypes.c_char * held.nbytes).from_address(held.data_ptr())).cast("B")
