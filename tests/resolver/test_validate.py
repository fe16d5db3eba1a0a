"""What a tensor can hold is known before the first write."""

import math
import re
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
from initframe.resolver.validate import failure, misfit

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
    assert misfit(fill, (4, 6), dtype) is None
    assert failure(fill, CPU) is None


@pytest.mark.parametrize(
    ("fill", "fact"),
    [
        (Identity((1, 6)), r"identity\(\) is made for the shape \[1, 6\], and the tensor has \[4, 6\]"),
        (Orthogonal((6, 4)), r"made for the shape \[6, 4\]"),
        (Dirac((4, 6, 3)), r"made for the shape \[4, 6, 3\]"),
        (Masked(Normal(), (6, 4), (0,), 0.0), r"made for the shape \[6, 4\]"),
        (Masked(Normal(), (4, 6), (4,), 0.0), r"index lies outside of the shape \[4, 6\]"),
        (Masked(Normal(), (4, 6), (0, -1), 0.0), "index lies outside"),
        (Masked(Normal(), (4, 6), (), 0.0), "index lies outside"),
        (Masked(Normal(), (4, 6), (0, 0, 0), 0.0), "index lies outside"),
        (Blocks((Normal(),), (3,)), r"blocks of \[3\] are not dimension 0 of \[4, 6\]"),
        (Blocks((Normal(), Normal()), (4,)), "blocks of"),
        (Blocks((Normal(),), (4,), dim=2), "blocks of"),
        (Blocks((Identity((4, 6)), Normal()), (2, 2)), r"made for the shape \[4, 6\], and the tensor has \[2, 6\]"),
        (Normal(0, -1), "cannot be drawn: .*std is negative"),
        (Uniform(1, 0), "cannot be drawn: .*low is above high"),
        (TruncatedNormal(0, 1, 20, 30), "cannot be drawn: .*too little mass"),
        (Sparse((4, 6), 0.1, 1e39), "cannot be drawn"),
        (Masked(Normal(0, -1), (4, 6), (0,), 0.0), "cannot be drawn"),
        (Stranger(), "Stranger is no fill that apply knows"),
        (Blocks((Stranger(),), (4,)), "Stranger is no fill"),
    ],
)
def test_what_does_not_fit_is_said(fill, fact):
    assert re.search(fact, misfit(fill, (4, 6), torch.float32))


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
    assert "and torch.float16 only to 6.55e+04" in misfit(fill, (4, 6), torch.float16)
    assert misfit(fill, (4, 6), torch.bfloat16) is None


@given(st.floats(0, 3e4), st.floats(0, 1e4), st.integers(0, 2**64 - 1))
def test_what_is_said_to_fit_stays_finite(mean, std, seed):
    fill = Normal(mean, std)
    if misfit(fill, (1000,), torch.float16) is None:
        out = initframe.fill_(torch.empty(1000, dtype=torch.float16), fill, name="w", seed=seed)
        assert out.isfinite().all()


@pytest.mark.parametrize(
    ("fn", "fact"),
    [
        (lambda u: u.mean(), r"a value of shape \[\] from 3 uniforms"),
        (lambda u: u[:2], r"a value of shape \[2\]"),
        (lambda u: 0.5, "makes a float from uniforms"),
        (lambda u: u + torch.zeros(5), "fails with RuntimeError"),
        (lambda u: 1 / 0, "fails with ZeroDivisionError: division by zero"),
    ],
)
def test_a_law_of_ones_own_is_tried(fn, fact):
    law = Elementwise(fn, 0, 1)
    assert re.search(fact, failure(law, CPU))
    assert re.search(fact, failure(Masked(law, (3, 3), (0,), 0.0), CPU))


@pytest.mark.parametrize("value", ["a", [1], None, 1j, torch.tensor(0.1), torch.ones(2), 10**400])
@pytest.mark.parametrize("kind", [Constant, lambda value: Normal(0.0, value), lambda value: Uniform(value, 1.0)])
def test_numbers_of_a_fill_are_numbers(kind, value):
    fact = misfit(kind(value), (2, 2), torch.float32)
    assert fact.endswith("Give a real number.")
    inside = initframe.Blocks((Constant(0), kind(value)), (1, 1), 0)
    assert misfit(inside, (2, 2), torch.float32) == fact
