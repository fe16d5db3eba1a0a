"""A tensor's digest: a sum over its elements, so that the digests of shards add up."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from initframe.stream.eager import piece_size

GOLDEN = 0x9E3779B97F4A7C15
FACTORS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
SHIFTS = 30, 27, 31
SIGNED = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@torch.no_grad()
def digest(tensor: Tensor, start: int = 0, stride: int = 0) -> int:
    """Sum a hash of every element's index and bits, modulo 2**64.

    ``Σ mix(mix((i + 1) · 0x9E3779B97F4A7C15) ^ bits_i)`` with splitmix64's mix (Steele et al., 2014), where
    i counts elements in logical order and bits are the element's own, extended by zeros. Memory layout and
    device do not matter; dtype does.

    Args:
        tensor: any tensor whose elements have 1, 2, 4 or 8 bytes.
        start: the index of its first element in the whole tensor.
        stride: 0 where its elements follow each other in the whole tensor; else the tensor is 2-D, and
            element (r, c) has the index ``start + r * stride + c``, as in `Draw`.

    Returns:
        The sum, in [0, 2**64). Sums of the parts of a tensor, modulo 2**64, are the sum of the whole.

    Raises:
        ValueError: elements of another size, or a stride for a tensor that is not 2-D.

    >>> whole = torch.arange(12.0).view(3, 4)
    >>> parts = digest(whole[:, :1], 0, stride=4) + digest(whole[:, 1:], 1, stride=4)
    >>> parts % 2**64 == digest(whole)
    True
    """
    if tensor.element_size() not in SIGNED:
        raise ValueError(f"there is no digest of {tensor.dtype}: its elements have {tensor.element_size()} bytes.")
    if stride and tensor.ndim != 2:
        raise ValueError(f"a digest with a stride needs a 2-D tensor, not {tuple(tensor.shape)}.")
    rows = [(tensor, start)] if stride else _dense(tensor, start)
    pieces = (piece for part, first in rows for piece in _pieces(part, first, stride))
    return sum(_sum(piece, first, stride) for piece, first in pieces) % 2**64


def _dense(tensor: Tensor, start: int) -> Iterator[tuple[Tensor, int]]:
    """Give the elements in logical order as dense rows, copying no more than a piece at a time."""
    size = piece_size(tensor.device)
    if tensor.is_contiguous() or tensor.numel() <= size:
        yield tensor.reshape(1, -1), start
        return
    inner = tensor[0].numel()
    step = max(1, size // inner)
    for i in range(0, len(tensor), step):
        part = tensor[i] if step == 1 else tensor[i : i + step]
        yield from _dense(part, start + i * inner)


def _pieces(rows: Tensor, start: int, stride: int) -> Iterator[tuple[Tensor, int]]:
    """Cut rows into pieces of about the backend's size, with the index of each piece's first element."""
    size = piece_size(rows.device)
    height = max(1, size // max(rows.shape[1], 1))
    for r in range(0, rows.shape[0], height):
        for c in range(0, rows.shape[1], size):
            yield rows[r : r + height, c : c + size], start + r * stride + c


def _sum(rows: Tensor, start: int, stride: int) -> int:
    """Sum over one piece, in int64 that wraps."""
    index = torch.arange(rows.shape[0], device=rows.device)[:, None] * stride
    index = index + torch.arange(start + 1, start + 1 + rows.shape[1], device=rows.device)
    mixed = _mix(_mix(index * _signed(GOLDEN)) ^ _bits(rows))
    return int(mixed.sum())


def _bits(rows: Tensor) -> Tensor:
    """Read elements as their own bits in int64, extended by zeros."""
    size = rows.element_size()
    words = rows.contiguous().view(SIGNED[size]).to(torch.int64)
    return words if size == 8 else words & ((1 << 8 * size) - 1)


def _mix(z: Tensor) -> Tensor:
    """Finish a splitmix64 step; shifts bring in zeros."""
    for shift, factor in zip(SHIFTS, FACTORS, strict=False):
        z = (z ^ _shift(z, shift)) * _signed(factor)
    return z ^ _shift(z, SHIFTS[2])


def _shift(z: Tensor, n: int) -> Tensor:
    return (z >> n) & ((1 << 64 - n) - 1)


def _signed(word: int) -> int:
    """Read 64 bits as a signed number, as int64 tensors need it."""
    return word - (1 << 64) if word >> 63 else word
