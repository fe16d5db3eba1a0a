"""Where rows lie, in memory and in the stream, and how they are cut: arithmetic, no memory is touched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

PIECE = 1 << 20
"""Elements of a piece: a fraction of a millisecond for one thread."""
SEGMENT = 34
"""A piece lies between two multiples of 2**SEGMENT elements, where the counter's second word is the same."""


class Place(NamedTuple):
    """Rows of elements: the arguments by which a kernel finds them.

    Attributes:
        address: of the first element.
        rows: how many.
        length: elements of a row.
        pitch: bytes from one row to the next.
        start: index of the first element.
        stride: distance of two rows' indices.
    """

    address: int
    rows: int
    length: int
    pitch: int
    start: int
    stride: int


def check_place(shape: Sequence[int], start: int, stride: int) -> None:
    """Refuse places that a stream does not have: its indices are [0, 2**64).

    Args:
        shape: how many rows, and elements of a row.
        start: index of the first element.
        stride: distance of two rows' indices.

    Raises:
        ValueError: start or stride is negative, or the last index is 2**64 or more.
    """
    if start < 0 or stride < 0:
        raise ValueError(f"start {start} and stride {stride} must not be negative.")
    rows, length = shape
    last = start + (rows - 1) * stride + length - 1
    if rows and length and last >> 64:
        raise ValueError(f"the last element would have the index {last}. A stream has the indices 0 to 2**64 - 1.")


def place_of(rows: Tensor, start: int, stride: int) -> Place:
    """Say where the rows of a 2-D tensor lie; rows that follow each other everywhere are one.

    Raises:
        ValueError: they lie nowhere: the tensor is a fake one.
    """
    count, length = rows.shape
    size, address = rows.element_size(), rows.data_ptr()
    if not address and rows.numel():
        raise ValueError(f"a {type(rows).__name__} has no memory to draw into.")
    if rows.is_contiguous() and stride == length:
        count, length = 1, count * length
    return Place(address, count, length, rows.stride(0) * size, start, stride)


def pieces(place: Place, size: int) -> Iterator[Place]:
    """Cut rows of elements of ``size`` bytes into pieces of at most `PIECE` elements, each in one segment.

    >>> [(p.address, p.length, p.start) for p in pieces(Place(0, 1, 5, 0, (1 << 34) - 2, 0), size=4)]
    [(0, 2, 17179869182), (8, 3, 17179869184)]
    """
    height = max(1, PIECE // max(1, place.length))
    for r in range(0, place.rows, height):
        for c in range(0, place.length, PIECE):
            rows, length = min(height, place.rows - r), min(PIECE, place.length - c)
            yield from _by_segment(_part(place, size, (r, rows), (c, length)), size)


def _by_segment(place: Place, size: int) -> Iterator[Place]:
    """Cut where the index passes a multiple of 2**SEGMENT: between rows, or inside of one."""
    row = 0
    while row < place.rows:
        start = place.start + row * place.stride
        room = (1 << SEGMENT) - start % (1 << SEGMENT)
        if room < place.length:
            yield _part(place, size, (row, 1), (0, room))
            yield _part(place, size, (row, 1), (room, place.length - room))
            row += 1
        else:
            fitting = (room - place.length) // place.stride + 1 if place.stride else place.rows
            count = min(fitting, place.rows - row)
            yield _part(place, size, (row, count), (0, place.length))
            row += count


def _part(place: Place, size: int, rows: tuple[int, int], columns: tuple[int, int]) -> Place:
    """Give some rows and columns, each as where they begin and how many they are."""
    (r, count), (c, length) = rows, columns
    address, start = place.address + r * place.pitch + c * size, place.start + r * place.stride + c
    return Place(address, count, length, place.pitch, start, place.stride)
