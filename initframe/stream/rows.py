"""Rows of elements, in memory and in the stream, and how they are cut. This is arithmetic: no memory is touched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from initframe.errors import Problem, StreamError

PIECE = 1 << 20
"""Elements of a piece: a fraction of a millisecond for one thread."""
SEGMENT = 34
"""A piece stays between two multiples of 2**SEGMENT elements, where the counter's second word is the same."""


class Rows(NamedTuple):
    """The position of rows of elements: the arguments that a kernel takes.

    Attributes:
        address: of the first element.
        number: how many rows.
        length: elements of a row.
        pitch: bytes from one row to the next.
        start: index of the first element.
        stride: distance of two rows' indices.
    """

    address: int
    number: int
    length: int
    pitch: int
    start: int
    stride: int


def check_indices(shape: Sequence[int], start: int, stride: int) -> None:
    """Refuse indices that a stream does not have: its indices are [0, 2**64).

    Args:
        shape: the number of rows, and the elements of a row.
        start: index of the first element.
        stride: distance of two rows' indices.

    Raises:
        StreamError: start or stride is negative, or the last index is 2**64 or more.
    """
    if start < 0 or stride < 0:
        raise StreamError(Problem("", f"start {start} and stride {stride} must not be negative."))
    number, length = shape
    last = start + (number - 1) * stride + length - 1
    if number and length and last >> 64:
        fact = f"the last element would have the index {last}."
        raise StreamError(Problem("", fact, "A stream has the indices 0 to 2**64 - 1."))


def address_of(tensor: Tensor) -> int:
    """Return the address of a tensor's first element; 0 if there is none.

    Raises:
        StreamError: it is a fake one, which has elements and no memory.

    >>> import torch
    >>> address_of(torch.empty(0))
    0
    """
    address = tensor.data_ptr()
    if not address and tensor.numel():
        raise StreamError(Problem("", f"a {type(tensor).__name__} has no memory to draw into."))
    return address


def rows_of(tensor: Tensor, start: int, stride: int) -> Rows:
    """Return the position of a 2-D tensor's rows; rows that follow each other everywhere become one.

    Of one row, pitch and stride are 0.

    Raises:
        StreamError: the tensor is a fake one, which has no memory.
    """
    number, length = tensor.shape
    size, address = tensor.element_size(), address_of(tensor)
    if tensor.is_contiguous() and stride == length:
        number, length = 1, number * length
    pitch, stride = (tensor.stride(0) * size, stride) if number > 1 else (0, 0)
    return Rows(address, number, length, pitch, start, stride)


def pieces(rows: Rows, size: int) -> Sequence[Rows]:
    """Cut rows of elements of ``size`` bytes into pieces of at most `PIECE` elements, each within one segment.

    >>> [(p.address, p.length, p.start) for p in pieces(Rows(0, 1, 5, 0, (1 << 34) - 2, 0), size=4)]
    [(0, 2, 17179869182), (8, 3, 17179869184)]
    """
    last = rows.start + rows.length - 1
    if rows.number == 1 and 0 < rows.length <= PIECE and rows.start >> SEGMENT == last >> SEGMENT:
        return (rows,)
    return tuple(_cut(rows, size))


def _cut(rows: Rows, size: int) -> Iterator[Rows]:
    """Cut rows into pieces in both directions, and each where a segment ends."""
    height = max(1, PIECE // max(1, rows.length))
    for r in range(0, rows.number, height):
        for c in range(0, rows.length, PIECE):
            number, length = min(height, rows.number - r), min(PIECE, rows.length - c)
            yield from _by_segment(_part(rows, size, (r, number), (c, length)), size)


def _by_segment(rows: Rows, size: int) -> Iterator[Rows]:
    """Cut where the index passes a multiple of 2**SEGMENT: between rows, or inside of one."""
    row = 0
    while row < rows.number:
        start = rows.start + row * rows.stride
        room = (1 << SEGMENT) - start % (1 << SEGMENT)
        if room < rows.length:
            yield _part(rows, size, (row, 1), (0, room))
            yield _part(rows, size, (row, 1), (room, rows.length - room))
            row += 1
        else:
            fitting = (room - rows.length) // rows.stride + 1 if rows.stride else rows.number
            number = min(fitting, rows.number - row)
            yield _part(rows, size, (row, number), (0, rows.length))
            row += number


def _part(rows: Rows, size: int, taken: tuple[int, int], columns: tuple[int, int]) -> Rows:
    """Return some rows and columns, each given by their first and their number."""
    (r, number), (c, length) = taken, columns
    address, start = rows.address + r * rows.pitch + c * size, rows.start + r * rows.stride + c
    return Rows(address, number, length, rows.pitch, start, rows.stride)
