"""The backend for every device: torch operations, one at a time, in pieces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from initframe.stream.distributions import kernel_constants
from initframe.stream.draws import Draw
from initframe.stream.formulas import FORMULAS, mix, signed64
from initframe.stream.philox import philox

PIECE_ON_CPU = 1 << 18
PIECE_ELSEWHERE = 1 << 22
"""Elements at a time: on a CPU as many as fit its cache, elsewhere enough to keep a GPU busy."""
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
NO_FLOAT64 = frozenset({"mps"})
"""Devices without an exact square root: their values are computed on the CPU and copied."""


class TensorLanes:
    """Tensors as lanes: int32 words, float32 values."""

    def to_float(self, word: Tensor) -> Tensor:
        """Convert to the nearest float32."""
        return word.to(torch.float32)

    def bits(self, value: Tensor) -> Tensor:
        """Read as int32."""
        return value.view(torch.int32)

    def from_bits(self, word: Tensor) -> Tensor:
        """Read as float32."""
        return word.view(torch.float32)

    def sqrt(self, value: Tensor) -> Tensor:
        """Take the root in float64, whose rounding to float32 is the exact root's."""
        # torch's float32 root on CPUs (MKL) is not always the nearest.
        return torch.sqrt(value.to(torch.float64)).to(torch.float32)

    def select(self, mask: Tensor, chosen: Tensor | float, other: Tensor | float) -> Tensor:
        """Choose element by element."""
        return torch.where(mask, chosen, other)

    def select_rarely(self, mask: Tensor, chosen: Tensor, other: Callable[[], Tensor]) -> Tensor:
        """Choose element by element; both are computed."""
        return torch.where(mask, chosen, other())


LANES = TensorLanes()


def piece_size(device: torch.device) -> int:
    """Return how many elements to compute at a time."""
    return PIECE_ON_CPU if device.type == "cpu" else PIECE_ELSEWHERE


@torch.no_grad()
def fill(draw: Draw, on_done: Callable[[int], None] | None = None) -> None:
    """Fill a draw's memory, piece by piece.

    Args:
        draw: what to draw.
        on_done: called with the number of elements after each piece.
    """
    formula, constants = FORMULAS[draw.distribution], kernel_constants(draw.distribution, draw.args)
    size = piece_size(draw.out.device)
    for aligned in _aligned(draw):
        for piece in _parts(aligned, size):
            words = _words(piece)
            values = torch.stack(formula(LANES, (words[..., 0::2], words[..., 1::2]), **constants), -1)
            lead = piece.start & 3
            piece.out.copy_(values.flatten(1)[:, lead : lead + piece.out.shape[1]])
            if on_done:
                on_done(piece.out.numel())


def _aligned(draw: Draw) -> Iterator[Draw]:
    """Split rows by their position in a block of four, so that every row of a part begins at the same word."""
    period = 4 // math.gcd(draw.stride, 4)
    for r in range(min(period, draw.out.shape[0])):
        yield draw.part(draw.out[r::period], r * draw.stride, period * draw.stride)


def _parts(draw: Draw, size: int) -> Iterator[Draw]:
    """Cut into parts of about a size."""
    for rows, columns in _cuts(draw.out.shape, size):
        yield draw.part(draw.out[rows, columns], rows.start * draw.stride + columns.start, draw.stride)


def _cuts(shape: torch.Size, size: int) -> Iterator[tuple[slice, slice]]:
    """Cut rows into many short ones, or a part of a long one."""
    height = max(1, size // max(shape[1], 1))
    for r in range(0, shape[0], height):
        for c in range(0, shape[1], size):
            yield slice(r, r + height), slice(c, c + size)


def _words(draw: Draw) -> Tensor:
    """Return the words of the blocks that the rows touch: int32, (rows, blocks, 4)."""
    rows, length = draw.out.shape
    blocks = ((draw.start & 3) + length + 3) // 4
    device = torch.device("cpu") if draw.out.device.type in NO_FLOAT64 else draw.out.device
    step = draw.stride // 4 if rows > 1 else 0
    first = torch.arange(rows, dtype=torch.int64, device=device) * step + (draw.start >> 2)
    counter = first[:, None] + torch.arange(blocks, dtype=torch.int64, device=device)
    # All words of a counter are tensors, because Python's integers do not wrap.
    upper = [torch.full_like(first[:1], word) for word in draw.key[2:]]
    words = philox((counter, counter >> 32, upper[0], upper[1]), draw.key[:2])
    return torch.stack([word.to(torch.int32) for word in words], -1)


@torch.no_grad()
def digest(rows: Tensor, start: int, stride: int) -> int:
    """Sum the mixed elements of rows, piece by piece; element (r, c) has index ``start + r * stride + c``."""
    total = 0
    for r, c in _cuts(rows.shape, piece_size(rows.device)):
        bits = _bits(rows[r, c])
        index = torch.arange(bits.shape[0], device=rows.device)[:, None] * signed64(stride)
        first = signed64(start + r.start * stride + c.start)
        index = index + torch.arange(bits.shape[1], device=rows.device) + first
        total += int(mix(index, bits).sum())
    return total


def _bits(rows: Tensor) -> Tensor:
    """Read elements as their own bits in int64, extended by zeros."""
    size = rows.element_size()
    words = rows.contiguous().view(INTEGERS[size]).to(torch.int64)
    return words if size == 8 else words & ((1 << 8 * size) - 1)
