"""A grid's sines and cosines."""

import math

import pytest

import initframe
from initializers.drawing import drawn, fill_of


def test_the_table_is_its_definition():
    side, width, prefix = 3, 8, 2
    table = drawn("sincos_pos_embed", (1, prefix + side**2, width), prefix=prefix)
    assert not table[0, :prefix].any()
    for row in range(side):
        for column in range(side):
            angles = [10000 ** (-2 * j / (width / 2)) for j in range(width // 4)]
            expected = [f(p * w) for p in (column, row) for f in (math.sin, math.cos) for w in angles]
            assert table[0, prefix + side * row + column].tolist() == pytest.approx(expected, abs=1e-6)


def test_distances_show_in_products():
    """The product of two positions' vectors depends on their distance alone."""
    table = drawn("sincos_pos_embed", (16, 32)).reshape(4, 4, 32)
    assert (table[0, 0] @ table[1, 2]).item() == pytest.approx((table[2, 1] @ table[3, 3]).item(), rel=1e-5)


def test_a_prefix_is_a_count():
    with pytest.raises(initframe.ResolveError, match="prefix counts tokens, got -8"):
        fill_of("sincos_pos_embed", (1, 17, 8), prefix=-8)


@pytest.mark.parametrize("shape", [(1, 15, 8), (1, 16, 6), (2, 16, 8), (16,)])
def test_no_square_no_table(shape):
    with pytest.raises(initframe.ResolveError, match="sincos_pos_embed needs"):
        fill_of("sincos_pos_embed", shape)
