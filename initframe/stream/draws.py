"""A draw: one law, drawn into one piece of memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from initframe.stream.philox import Key
from initframe.stream.places import check_place

DTYPES = torch.float32, torch.bfloat16, torch.float16, torch.float64


@dataclass(frozen=True, slots=True)
class Draw:
    """One job of the stream: a law drawn into memory, row by row.

    Element (r, c) of `out` becomes element ``start + r * stride + c`` of the law's values under the key,
    so a whole tensor, a shard of it and a window into its columns hold the same numbers.

    Args:
        out: the memory, 2-D, its last dimension dense, its rows anywhere. float32, bfloat16 and float16
            (the float32 value rounded to nearest even) or float64 (the float32 value widened); int32 for
            the law ``bits``.
        law: a name in `LAWS`.
        args: the law's arguments, in their order.
        key: the address of the stream, from `key`.
        start: the index of element (0, 0).
        stride: the distance of two rows' indices.

    Raises:
        ValueError: the memory is not of this form, or its indices are not in [0, 2**64).

    >>> from initframe.stream import execute, key
    >>> out = torch.empty(2, 3)
    >>> execute([Draw(out, "uniform", (0.0, 1.0), key("w", seed=0), start=10, stride=3)])
    >>> bool(((0 <= out) & (out < 1)).all())
    True
    """

    out: Tensor
    law: str
    args: tuple[float, ...]
    key: Key
    start: int = 0
    stride: int = 0

    def __post_init__(self) -> None:
        out = self.out
        if out.ndim != 2 or (out.shape[1] > 1 and out.stride(1) != 1):
            raise ValueError(f"out must be 2-D with dense rows, not {tuple(out.shape)} strided {out.stride()}.")
        if out.is_neg():
            raise ValueError("out must not be a negated view: its memory holds other numbers than it does.")
        dtypes = (torch.int32,) if self.law == "bits" else DTYPES
        if out.dtype not in dtypes:
            options = ", ".join(map(str, dtypes))
            raise ValueError(f"{self.law} cannot be drawn as {out.dtype}. Options: {options}.")
        check_place(out.shape, self.start, self.stride)

    def part(self, out: Tensor, offset: int, stride: int) -> Draw:
        """Give the draw of a part of the same memory, which begins offset elements further on."""
        return replace(self, out=out, start=self.start + offset, stride=stride)
