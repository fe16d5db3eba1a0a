"""A draw: one distribution for one piece of memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from initframe.errors import Problem, StreamError
from initframe.frozen import opened
from initframe.stream.philox import Key
from initframe.stream.rows import check_indices

BITS = (torch.int32,)
DTYPES = torch.float32, torch.bfloat16, torch.float16, torch.float64
"""What numbers are drawn as."""


@dataclass(frozen=True, slots=True)
class Draw:
    """A distribution, to be drawn into memory row by row.

    Element (r, c) of `out` becomes element ``start + r * stride + c`` of the distribution's values under the key.
    So a whole tensor, a shard of it and a window into its columns hold the same numbers.

    Args:
        out: the memory: 2-D, the last dimension dense, rows at any distance. Its dtype is float32, bfloat16 or float16
            (the float32 value rounded to nearest even) or float64 (the float32 value widened); for the distribution
            ``bits`` it is int32.
        distribution: a name in `DISTRIBUTIONS`.
        args: the distribution's arguments, in their order.
        key: the address of the stream, from `key`.
        start: the index of element (0, 0).
        stride: the distance of two rows' indices.

    Raises:
        StreamError: the memory is not of this form, or its indices are not in [0, 2**64).

    >>> from initframe.stream import execute, key
    >>> out = torch.empty(2, 3)
    >>> execute([Draw(out, "uniform", (0.0, 1.0), key("w", seed=0), start=10, stride=3)])
    >>> bool(((0 <= out) & (out < 1)).all())
    True
    """

    out: Tensor
    distribution: str
    args: tuple[float, ...]
    key: Key
    start: int = 0
    stride: int = 0

    def __post_init__(self) -> None:
        out = self.out
        if out.ndim != 2 or (out.shape[1] > 1 and out.stride(1) != 1):
            fact = f"out must be 2-D with dense rows, not {tuple(out.shape)} strided {out.stride()}."
            raise StreamError(Problem("", fact))
        if out.is_neg():
            fact = "out must not be a negated view: its memory holds other numbers than it shows."
            raise StreamError(Problem("", fact))
        if out.dtype not in (dtypes := BITS if self.distribution == "bits" else DTYPES):
            fact, options = f"it cannot be drawn as {out.dtype}.", f"Options: {', '.join(map(str, dtypes))}."
            raise StreamError(Problem(self.distribution, fact, options))
        check_indices(out.shape, self.start, self.stride)

    def part(self, out: Tensor, offset: int, stride: int) -> Draw:
        """Return the draw of a part of the same memory that begins ``offset`` elements later in the stream."""
        return replace(self, out=out, start=self.start + offset, stride=stride)


OpenDraw = opened(Draw)
"""What becomes a draw when it is given the class; its memory is not checked."""
