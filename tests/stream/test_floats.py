import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from initframe.stream.floats import F32_MAX, below, f32, hex_bits


@given(st.floats(allow_nan=False))
def test_rounding_and_bits_are_those_of_numpy(x):
    with np.errstate(over="ignore"):
        expected = np.float32(x)
    assert hex_bits(f32(x)) == f"{expected.view(np.uint32):08x}"


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_below_is_the_neighbour_of_numpy(x):
    with np.errstate(over="ignore"):
        expected = float(np.nextafter(np.float32(x), np.float32(-np.inf)))
    assert below(x) == expected


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_below_zero_is_the_smallest_negative_number(zero):
    assert below(zero) == -(2.0**-149)


def test_the_range_is_float32s():
    assert float(np.finfo(np.float32).max) == F32_MAX
    assert math.isinf(f32(F32_MAX * (1 + 2**-24)))
