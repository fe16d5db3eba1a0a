"""What a tensor can hold is known before the first write: every fill says it."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import initframe
from initframe.fills import (
    Blocks,
    Constant,
    Dirac,
    Elementwise,
    Fill,
    Identity,
    Keep,
    Masked,
    Normal,
    Orthogonal,
    Scale,
    Shift,
    ShrinkPerturb,
    Sparse,
    TruncatedNormal,
    Uniform,
)
from initframe.fills.derived import Chrono, Repeated
from initframe.fills.structured import DeltaOrthogonal, PartialHadamard
from initframe.fills.table import Rows, SineCosine

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Stranger(Fill):
    mean = 0.0
    std = 0.0


GOOD = [
    Constant(8),
    Uniform(0, 3),
    Normal(0, 0),
    TruncatedNormal(0, 1, -2, 2),
    Elementwise(lambda u: u, 0.5, 0.3),
    Identity((4, 6)),
    Orthogonal((4, 6)),
    Sparse((4, 6), 0.1),
    Keep(),
    Shift(1),
    Scale(-1),
    ShrinkPerturb(0.5, 0.1),
    Masked(Normal(), (4, 6), (3,), 0.0),
    Masked(Keep(), (4, 6), (3, 5), 0.0),
    Blocks((Normal(), Constant(1)), (1, 3)),
    Blocks((Normal(), Identity((4, 5))), (1, 5), dim=1),
    Constant(math.inf),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fill", GOOD, ids=str)
def test_what_fits_fits(fill, dtype):
    assert fill.problem((4, 6), dtype) is None
    assert fill.trial(CPU) is None


@pytest.mark.parametrize(
    ("fill", "fact"),
    [
        (Identity((1, 6)), "for the shape [1, 6]; the tensor has [4, 6]"),
        (Orthogonal((6, 4)), "for the shape [6, 4]"),
        (Dirac((4, 6, 3)), "for the shape [4, 6, 3]"),
        (Masked(Normal(), (6, 4), (0,), 0.0), "for the shape [6, 4]"),
        (Masked(Normal(), (4, 6), (4,), 0.0), "outside of the shape [4, 6]"),
        (Masked(Normal(), (4, 6), (0, -1), 0.0), "outside of the shape"),
        (Masked(Normal(), (4, 6), (), 0.0), "outside of the shape"),
        (Masked(Normal(), (4, 6), (0, 0, 0), 0.0), "outside of the shape"),
        (Blocks((Normal(),), (3,)), "blocks of [3] are not dimension 0 of [4, 6]"),
        (Blocks((Normal(), Normal()), (4,)), "blocks of"),
        (Blocks((Normal(),), (4,), dim=2), "blocks of"),
        (Blocks((Identity((4, 6)), Normal()), (2, 2)), "for the shape [4, 6]; the tensor has [2, 6]"),
        (Normal(0, -1), "std is negative"),
        (Uniform(1, 0), "low is above high"),
        (TruncatedNormal(0, 1, 20, 30), "too little mass"),
        (Sparse((4, 6), 0.1, 1e39), "cannot be drawn"),
        (Masked(Normal(0, -1), (4, 6), (0,), 0.0), "cannot be drawn"),
        (Stranger(), "does not say how its values are made"),
        (Blocks((Stranger(),), (4,)), "does not say how its values are made"),
    ],
)
def test_what_does_not_fit_is_said(fill, fact):
    assert fact in fill.problem((4, 6), torch.float32).fact


@pytest.mark.parametrize(
    "fill",
    [
        Constant(1e5),
        Constant(-1e5),
        Uniform(-1e5, 0),
        Normal(6e4, 2e3),
        Normal(0, 1e4),
        TruncatedNormal(0, 1e5, -1e5, 1e5),
        Shift(-1e5),
        Orthogonal((4, 6), -1e5),
        Sparse((4, 6), 0.5, 1e5),
        ShrinkPerturb(0.5, 1e5),
        Masked(Constant(0), (4, 6), (0,), 1e5),
        Blocks((Constant(0), Constant(1e5)), (2, 2)),
    ],
    ids=str,
)
def test_what_a_narrow_dtype_cannot_hold(fill):
    assert "torch.float16 ends at 6.55e+04" in fill.problem((4, 6), torch.float16).fact
    assert fill.problem((4, 6), torch.bfloat16) is None


@given(st.floats(0, 3e4), st.floats(0, 1e4), st.integers(0, 2**64 - 1))
def test_what_is_said_to_fit_stays_finite(mean, std, seed):
    fill = Normal(mean, std)
    if fill.problem((1000,), torch.float16) is None:
        out = initframe.fill_(torch.empty(1000, dtype=torch.float16), fill, name="w", seed=seed)
        assert out.isfinite().all()


@pytest.mark.parametrize(
    ("fn", "fact"),
    [
        (lambda u: u.mean(), "values of shape [] for [3]"),
        (lambda u: u[:2], "values of shape [2] for [3]"),
        (lambda u: 0.5, "gives a float"),
        (lambda u: u + torch.zeros(5), "fails with RuntimeError"),
        (lambda u: 1 / 0, "fails with ZeroDivisionError: division by zero"),
        (lambda u: u * 1j, "torch.complex64"),
    ],
)
def test_a_law_of_ones_own_is_tried(fn, fact):
    fill = Elementwise(fn, 0, 1)
    assert fact in fill.trial(CPU).fact
    assert fact in Masked(fill, (3, 3), (0,), 0.0).trial(CPU).fact


@pytest.mark.parametrize("value", ["a", [1], None, 1j, torch.tensor(0.1), torch.ones(2), 10**400])
@pytest.mark.parametrize("kind", [Constant, lambda value: Normal(0.0, value), lambda value: Uniform(value, 1.0)])
def test_numbers_of_a_fill_are_numbers(kind, value):
    problem = kind(value).problem((2, 2), torch.float32)
    assert problem.fix == "Give a real number."
    inside = initframe.Blocks((Constant(0), kind(value)), (1, 1), 0)
    assert inside.problem((2, 2), torch.float32) == problem


NARROW = [
    (Rows((4, 6), (1e5,) * 6), True),
    (DeltaOrthogonal((4, 4, 3), 1e5), True),
    (Repeated((4, 6), Normal(0, 1e5), 2), True),
    (Chrono((8,), 1e300), False),
    (PartialHadamard((6, 2)), False),
    (SineCosine((1, 5, 8), 1), False),
]


@pytest.mark.parametrize(("fill", "refused"), NARROW, ids=str)
def test_every_kind_says_how_far_it_reaches(fill, refused):
    assert (fill.problem(fill.shape, torch.float16) is not None) == refused
    assert fill.problem(fill.shape, torch.float32) is None


@pytest.mark.parametrize(
    ("fill", "fact"),
    [
        (Identity((2, 2, 2)), "2 dimensions"),
        (Orthogonal((3,)), "2 or more dimensions"),
        (Sparse((3, 3, 3), 0.5), "2 dimensions"),
        (Dirac((3, 3)), "3 to 5 dimensions"),
        (Dirac((4, 2, 3), groups=3), "3 groups"),
        (DeltaOrthogonal((4, 4, 3), groups=0), "0 groups"),
        (PartialHadamard((5, 2), groups=2), "2 groups"),
        (Rows((2, 3), (1.0, 2.0)), "a row has 2 numbers"),
        (Repeated((5, 3), Normal(), 2), "2 does not divide"),
        (Repeated((4, 3), Constant(1), 2), "cannot be repeated"),
        (Repeated((4, 3), Normal(0, -1), 2), "std is negative"),
        (Chrono((6,), 10.0), "four gates"),
        (Chrono((8,), 1.5), "more than 2 steps"),
    ],
    ids=str,
)
def test_every_kind_says_which_shape_it_needs(fill, fact):
    assert fact in fill.problem(fill.shape, torch.float32).fact


@given(st.sampled_from([Uniform(-3, 1), Normal(0.5, 2), TruncatedNormal(0, 2, -1, 3)]), st.integers(0, 2**64 - 1))
def test_nothing_is_farther_than_the_reach(fill, seed):
    out = initframe.fill_(torch.empty(10_000), fill, name="w", seed=seed)
    assert out.abs().max() <= fill.reach
