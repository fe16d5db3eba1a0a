import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from initframe.stream import DISTRIBUTIONS, check, constants
from initframe.stream.distributions import kernel_constants
from initframe.stream.formulas import constant_names
from tests.refusals import refused

from . import oracle

WRONG = [
    ("uniform", (1.0, 0.0), "low is above high"),
    ("uniform", (-3e38, 3e38), "beyond float32"),
    ("uniform", (0.0, math.inf), "high not finite"),
    ("uniform", (0.0,), "takes 2 arguments"),
    ("normal", (0.0, -1e-3), "std is negative"),
    ("normal", (math.nan, 1e39), "mean and std not finite"),
    ("normal", (0.0, 1e38), "beyond float32"),
    ("truncated_normal", (0.0, 0.0, -1.0, 1.0), "scale is not positive"),
    ("truncated_normal", (0.0, 1e-60, -1.0, 1.0), "scale is not positive"),
    ("truncated_normal", (0.0, 1.0, 2.0, 1.0), "low is above high"),
    ("truncated_normal", (0.0, 1.0, 7.5, 20.0), "more than 7 scales"),
    ("truncated_normal", (0.0, 1.0, -50.0, -40.0), "more than 7 scales"),
    ("bits", (1.0,), "takes 0 arguments"),
    ("gauss", (), "there is no distribution 'gauss'"),
]


@pytest.mark.parametrize(("distribution", "args", "fact"), WRONG)
def test_what_cannot_be_drawn_is_said(distribution, args, fact):
    problem = check(distribution, args)
    assert fact in problem.fact
    assert refused(constants, distribution, args, kind=ValueError) == (problem,)


@pytest.mark.parametrize(("distribution", "args"), oracle.DISTRIBUTIONS)
def test_what_can_be_drawn_has_constants_in_float32_bits(distribution, args):
    assert check(distribution, args) is None
    assert all(len(bits) == 8 and int(bits, 16) >= 0 for bits in constants(distribution, args).values())
    assert constants(distribution, args).keys() == kernel_constants(distribution, args).keys()
    assert tuple(constants(distribution, args)) == constant_names(distribution)  # kernels take them in this order


def test_an_unknown_distribution_is_told_the_closest():
    assert "truncated_normal" in check("trunc_normal", ()).options
    assert list(DISTRIBUTIONS) == ["uniform", "normal", "truncated_normal", "bits"]


def test_zeros_keep_their_sign():
    assert constants("normal", (-0.0, 1.0))["mean"] == "80000000"
    assert constants("normal", (0.0, 1.0))["mean"] == "00000000"


wide = st.floats(-12, 12)


@given(wide, wide)
def test_masses_of_a_truncation_mirror(a, b):
    low, high = sorted((a, b))
    assume(check("truncated_normal", (0.0, 1.0, low, high)) is None)
    one, other = (kernel_constants("truncated_normal", (0.0, 1.0, *ends)) for ends in ((low, high), (-high, -low)))
    assert one["left"] == other["right"]
    assert one["right"] == other["left"]
    assert one["step"] == other["step"] >= 0
