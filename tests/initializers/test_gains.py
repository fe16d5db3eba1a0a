"""Gains: torch's where torch has one, and otherwise what keeps a signal's second moment."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from initframe.initializers import GAINS
from initframe.initializers.gains import _COMPUTED, _TORCH, leaky_relu

FUNCTIONS = {
    "identity": lambda z: z,
    "celu": functional.celu,
    "elu": functional.elu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda z: functional.gelu(z, approximate="tanh"),
    "hardsigmoid": functional.hardsigmoid,
    "hardswish": functional.hardswish,
    "mish": functional.mish,
    "relu2": lambda z: functional.relu(z) ** 2,
    "relu6": functional.relu6,
    "silu": functional.silu,
    "sin": torch.sin,
    "softplus": functional.softplus,
    "swish": functional.silu,
}


def second_moment(function, points=240_001):
    """E[f(z)²] for z ~ N(0, 1), by the trapezoid rule."""
    z = torch.linspace(-12, 12, points, dtype=torch.float64)
    return torch.trapezoid(function(z) ** 2 * torch.exp(-(z**2) / 2), z).item() / math.sqrt(2 * math.pi)


@pytest.mark.parametrize("name", sorted(_TORCH))
def test_where_torch_has_a_gain_it_is_torchs(name):
    assert GAINS[name] == torch.nn.init.calculate_gain(name)


@given(st.floats(-10, 10))
def test_leaky_relu_at_any_slope(slope):
    assert leaky_relu(slope) == torch.nn.init.calculate_gain("leaky_relu", slope)
    assert GAINS["leaky_relu"](slope) == leaky_relu(slope)


def test_leaky_relu_as_a_number_has_torchs_slope():
    assert float(GAINS["leaky_relu"]) == torch.nn.init.calculate_gain("leaky_relu")


@pytest.mark.parametrize("name", sorted(_COMPUTED))
def test_computed_gains_keep_the_second_moment(name):
    assert GAINS[name] ** 2 * second_moment(FUNCTIONS[name]) == pytest.approx(1, rel=1e-7)


@given(st.floats(-3, 3))
def test_leaky_relu_keeps_the_second_moment(slope):
    moment = second_moment(lambda z: functional.leaky_relu(z, slope), 12_001)
    assert leaky_relu(slope) ** 2 * moment == pytest.approx(1, rel=1e-6)


def test_every_gain_is_torchs_or_computed():
    assert GAINS.keys() == _TORCH.keys() | _COMPUTED.keys() | {"leaky_relu"}
    assert _COMPUTED.keys() == FUNCTIONS.keys()
