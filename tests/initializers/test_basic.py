"""The plain initializers: the fill they promise, and what they refuse."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from initframe.errors import ResolveError
from initframe.fills import Constant, Keep, Masked, Normal, Scale, Shift, ShrinkPerturb, TruncatedNormal, Uniform
from initframe.initializers import get
from initframe.model.slot import Slot

W = Slot("w", (5, 4))


@pytest.mark.parametrize(
    ("name", "arguments", "fill"),
    [
        ("uniform", {}, Uniform(0.0, 1.0)),
        ("uniform", {"a": 0, "b": 3}, Uniform(0, 3)),
        ("uniform", {"a": 2, "b": 2}, Uniform(2, 2)),
        ("normal", {}, Normal(0.0, 1.0)),
        ("normal", {"mean": 1, "std": 0}, Normal(1, 0)),
        ("trunc_normal", {}, TruncatedNormal(0.0, 1.0, -2.0, 2.0)),
        ("trunc_normal", {"std": 0}, Constant(0)),
        ("trunc_normal", {"std": 0, "mean": 5}, Constant(2)),
        ("trunc_normal", {"std": 0, "mean": -5, "a": -3}, Constant(-3)),
        ("constant", {"val": 8}, Constant(8)),
        ("ones", {}, Constant(1.0)),
        ("zeros", {}, Constant(0.0)),
        ("keep", {}, Keep()),
        ("shift", {"by": 1}, Shift(1)),
        ("scale", {"by": 0.5}, Scale(0.5)),
        ("shrink_perturb", {}, ShrinkPerturb(0.4, 0.01)),
    ],
)
def test_initializers_give_their_fill(name, arguments, fill):
    assert get(name)(W, **arguments) == fill


@pytest.mark.parametrize(
    ("name", "arguments", "facts"),
    [
        ("uniform", {"a": 2, "b": 1}, ("a = 2", "b = 1")),
        ("normal", {"std": -1}, ("std", "-1")),
        ("normal", {"std": math.nan}, ("std", "nan")),
        ("trunc_normal", {"std": -0.5}, ("std", "-0.5")),
        ("trunc_normal", {"a": 1, "b": 1}, ("a = 1", "b = 1")),
        ("shrink_perturb", {"std": -1}, ("std", "-1")),
        ("constant", {"val": 1, "index": []}, ("0 numbers", "2 dimensions")),
        ("constant", {"val": 1, "index": [0, 0, 0]}, ("3 numbers", "2 dimensions")),
        ("constant", {"val": 1, "index": [5, 0]}, ("index [5, 0]", "shape [5, 4]")),
        ("constant", {"val": 1, "index": [0, -5]}, ("index [0, -5]", "shape [5, 4]")),
    ],
)
def test_numbers_out_of_range_are_refused(name, arguments, facts):
    (problem,) = refused(get(name), W, **arguments, kind=ResolveError)
    assert all(fact in problem.fact for fact in facts)


@given(st.integers(-5, 4), st.integers(-4, 3))
def test_an_index_counts_from_either_end(row, column):
    assert get("constant")(W, val=42, index=[row, column]) == Masked(Keep(), (5, 4), (row % 5, column % 4), 42)
    assert get("constant")(W, val=42, index=[row]) == Masked(Keep(), (5, 4), (row % 5,), 42)


def test_a_scalar_has_no_index():
    (problem,) = refused(get("constant"), Slot("s", ()), val=1, index=[0], kind=ResolveError)
    assert "0 dimensions" in problem.fact
