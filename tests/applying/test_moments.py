"""On the stream every initializer has the moments that its plan states."""

import math

import pytest
import torch
from nets import rules
from samples import assert_moments

import initframe

# A fan of 400 and one of 100, or what the initializer takes.
MATRIX = (100, 400)
LAWS = {
    "uniform": {"a": -1, "b": 3},
    "normal": {"mean": 0.5, "std": 0.02},
    "trunc_normal": {"std": 0.02, "a": "-2 * std", "b": "2 * std"},
    "trunc_normal far": {"mean": 1, "std": 0.5, "a": 2, "b": 3},
    "constant": {"val": 0.1},
    "ones": {},
    "zeros": {},
    "eye": {},
    "dirac": {"groups": 2},
    "xavier_uniform": {"gain": "relu"},
    "xavier_normal": {"gain": "tanh"},
    "kaiming_uniform": {"a": 0.3},
    "kaiming_normal": {"mode": "fan_out", "nonlinearity": "gelu"},
    "orthogonal": {"gain": "relu"},
    "sparse": {"sparsity": 0.25, "std": 2},
    "variance_scaling": {"scale": 2, "mode": "fan_geo_avg"},
    "variance_scaling uniform": {"mode": "fan_avg", "distribution": "uniform"},
    "variance_scaling normal": {"mode": "fan_out", "distribution": "normal"},
    "lecun_uniform": {},
    "lecun_normal": {},
}


def shape(name):
    return (40, 20, 5, 5) if name == "dirac" else MATRIX


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", LAWS)
def test_moments(name, seed):
    state = {"w": torch.empty(shape(name))}
    rule = {"init": name.split()[0], **LAWS[name]}
    (result,) = initframe.reinit(state, rules(w=rule), seed=seed, measure=True).results
    fill = result.assignment.fill
    assert_moments(state["w"], fill.mean, fill.std)
    assert result.after.moments == pytest.approx(
        (state["w"].double().mean().item(), state["w"].double().std(correction=0).item()), rel=1e-6, abs=1e-7
    )


STATED = {
    "xavier_uniform": math.sqrt(2) * math.sqrt(2 / 500),
    "xavier_normal": 5 / 3 * math.sqrt(2 / 500),
    "kaiming_uniform": math.sqrt(2 / (1 + 0.09) / 400),
    "orthogonal": math.sqrt(2) / math.sqrt(400),
    "sparse": 2 * math.sqrt(0.75),
    "variance_scaling": math.sqrt(2 / math.sqrt(100 * 400)),
    "variance_scaling uniform": math.sqrt(2 / 500),
    "variance_scaling normal": math.sqrt(1 / 100),
    "lecun_uniform": math.sqrt(1 / 400),
    "lecun_normal": math.sqrt(1 / 400),
    "uniform": 4 / math.sqrt(12),
    "normal": 0.02,
    "trunc_normal": 0.02 * 0.87962566103423978,
}


@pytest.mark.parametrize("name", STATED)
def test_stated_stds_are_the_papers(name):
    plan = initframe.resolve(rules(w={"init": name.split()[0], **LAWS[name]}), {"w": torch.empty(shape(name))})
    assert plan["w"].fill.std == pytest.approx(STATED[name], rel=1e-9)


@pytest.mark.parametrize("name", ["uniform", "trunc_normal", "trunc_normal far", "xavier_uniform", "lecun_normal"])
def test_bounds_hold(name):
    state = {"w": torch.empty(300, 400)}
    (result,) = initframe.reinit(state, rules(w={"init": name.split()[0], **LAWS[name]})).results
    fill = result.assignment.fill
    low, high = torch.tensor([fill.low, fill.high])  # in float32, as the values are
    assert low <= state["w"].min() < state["w"].max() <= high
    assert state["w"].max() > 0.9 * high  # and are reached
