"""States and steps of state space models."""

import math

import pytest
import torch
from samples import assert_moments
from torch.nn import functional

import initframe
from initializers.drawing import drawn, fill_of


def test_mambas_states_are_minus_one_minus_two_and_so_on():
    states = -drawn("mamba_a_log", (6, 16)).exp()
    torch.testing.assert_close(states, -torch.arange(1.0, 17).expand(6, 16))


def test_softplus_gives_mambas_steps_back():
    steps = functional.softplus(drawn("mamba_dt_bias", (50_000,)).double())
    assert 0.001 * (1 - 1e-4) <= steps.min() < 0.00101
    assert 0.0999 < steps.max() <= 0.1 * (1 + 1e-4)
    spread = math.log(100)
    assert_moments(steps.log(), math.log(0.001) + spread / 2, spread / math.sqrt(12))


def test_no_step_is_below_the_floor():
    steps = functional.softplus(drawn("mamba_dt_bias", (5000,), floor=0.02).double())
    assert steps.min().item() == pytest.approx(0.02, rel=1e-4)


def test_mambas_step_bias_states_its_moments():
    fill = fill_of("mamba_dt_bias", (50_000,))
    assert_moments(drawn("mamba_dt_bias", (50_000,)), fill.mean, fill.std)


def test_mambas_step_bias_is_comparable_data():
    assert fill_of("mamba_dt_bias", (8,)) == fill_of("mamba_dt_bias", (8,))
    assert fill_of("mamba_dt_bias", (8,)) != fill_of("mamba_dt_bias", (8,), low=0.01)
    data = {"kind": "step_bias", "low": 0.001, "high": 0.1, "floor": 1e-4}
    assert fill_of("mamba_dt_bias", (8,)).to_dict() == data


@pytest.mark.parametrize("steps", [{"low": 0}, {"low": 0.2}, {"floor": 0}])
def test_steps_are_positive_and_in_order(steps):
    with pytest.raises(initframe.ResolveError, match="0 < low < high"):
        fill_of("mamba_dt_bias", (8,), **steps)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("lin", lambda n: complex(-0.5, math.pi * n)),
        ("inv", lambda n: complex(-0.5, 16 / math.pi * (16 / (2 * n + 1) - 1))),
        ("real", lambda n: complex(-(n + 1), 0)),
    ],
)
def test_s4d_is_its_formula(form, expected):
    real = -drawn("s4d", (3, 8), part="log_real", form=form).exp()
    imaginary = drawn("s4d", (3, 8), part="imag", form=form)
    table = torch.tensor([expected(n) for n in range(8)])
    torch.testing.assert_close(torch.complex(real, imaginary), table.to(torch.complex64).expand(3, 8))


def test_the_number_of_states_is_not_negative():
    with pytest.raises(initframe.ResolveError, match="states must be positive"):
        fill_of("s4d", (3, 8), part="imag", form="inv", states=-3)


def test_scalars_have_no_states():
    with pytest.raises(initframe.ResolveError, match="last dimension"):
        fill_of("mamba_a_log", ())
