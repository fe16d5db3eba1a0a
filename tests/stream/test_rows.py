import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from initframe.stream.rows import PIECE, SEGMENT, Rows, check_indices, pieces, rows_of

CARRY = 1 << SEGMENT


def elements(rows, size):
    """Where each element lies, in memory and in the stream."""
    return [
        (rows.address + r * rows.pitch + c * size, rows.start + r * rows.stride + c)
        for r in range(rows.number)
        for c in range(rows.length)
    ]


@given(
    st.integers(0, 12),
    st.integers(0, 30),
    st.integers(CARRY - 300, CARRY + 10),
    st.one_of(st.integers(0, 50), st.integers(CARRY - 5, CARRY + 5)),
)
def test_pieces_hold_every_element_once_and_none_a_carry(number, length, start, stride):
    whole = Rows(1000, number, length, 200, start, stride)
    cut = list(pieces(whole, 4))
    assert [e for piece in cut for e in elements(piece, 4)] == elements(whole, 4)
    for piece in cut:
        indices = [index for _, index in elements(piece, 4)]
        assert min(indices) >> SEGMENT == max(indices) >> SEGMENT


def test_pieces_are_bounded():
    for number, length in ((1, 5 * PIECE + 1), (3, PIECE + 7), (PIECE, 3), (0, 3), (3, 0)):
        cut = list(pieces(Rows(0, number, length, 8 * length, 0, length), 8))
        assert sum(p.number * p.length for p in cut) == number * length
        assert all(0 < p.number * p.length <= PIECE for p in cut)


def test_a_narrow_window_of_a_tall_tensor_is_cut_between_its_rows():
    assert len(list(pieces(Rows(0, PIECE, 1, 8, 0, 1 << 16), 4))) == PIECE >> (SEGMENT - 16)


def test_rows_that_follow_each_other_everywhere_are_one():
    x = torch.empty(6, 10)
    assert rows_of(x, 5, 10)[1:] == (1, 60, 0, 5, 0)
    assert rows_of(x, 5, 11)[1:] == (6, 10, 40, 5, 11)
    assert rows_of(x[:, 2:], 5, 8)[1:] == (6, 8, 40, 5, 8)


FAR = st.one_of(st.integers(0, 9), st.integers((1 << 64) - 9, (1 << 64) + 9))


@given(st.integers(0, 3), st.integers(0, 3), FAR, FAR)
def test_indices_that_an_element_cannot_have_are_refused(number, length, start, stride):
    there = [start + r * stride + c for r in range(number) for c in range(length)]
    if max(there, default=0) < 1 << 64:
        check_indices((number, length), start, stride)
    else:
        with pytest.raises(ValueError, match=r"2\*\*64 - 1"):
            check_indices((number, length), start, stride)
