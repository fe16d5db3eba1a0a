"""The preset auto: every way to use it finds its factors, or refuses."""

import pytest
import torch
from torch import nn

import initframe
from initframe.signal.auto import auto, is_auto
from initframe.signal.compare import compare
from tests.refusals import refused


def narrowing():
    return nn.Sequential(*[layer for _ in range(6) for layer in (nn.Linear(128, 128), nn.ReLU())])


def resolve_and_apply(model, recipe):
    initframe.apply(initframe.resolve(recipe, model))


@pytest.mark.parametrize("write", [initframe.reinit, resolve_and_apply])
def test_auto_without_its_factors_is_refused_before_anything_is_written(write):
    model = narrowing()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    (problem,) = refused(write, model, "auto")
    assert "auto.auto(model)" in problem.options
    assert "initframe.calibrate" in problem.options
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.slow
def test_what_auto_finds_is_applied():
    model, batch = narrowing(), torch.randn(64, 128)
    recipe = auto(model)
    assert not is_auto(recipe)
    initframe.reinit(model, recipe, seed=0)
    last = [row.rms for row in initframe.propagate(model, batch).rows if row.depth][-1]
    assert last == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize("predicted", [False, True])
def test_compare_finds_the_factors_of_auto(predicted):
    found = compare(narrowing, ["auto", "torch_default"], torch.randn(64, 128), predicted=predicted)
    last = {name: [row.rms for row in signal.rows if row.depth][-1] for name, signal in found.signals.items()}
    assert last["auto"] == pytest.approx(1, rel=0.2)
    assert last["torch_default"] < 0.3


def test_what_is_written_over_auto_stands_and_the_rest_gets_factors():
    model = narrowing()
    over = ["auto", {"rules": {"first": {"match": "0.weight", "init": "normal", "std": 0.5}}}]
    recipe = auto(model, over)
    plan = initframe.resolve(recipe, model)
    assert plan["0.weight"].fill.std == 0.5
    assert plan["0.weight"].factor == 1
    assert plan["10.weight"].factor != 1
    initframe.apply(plan, 0)
    last = [row.rms for row in initframe.propagate(model, torch.randn(64, 128)).rows if row.depth][-1]
    assert last == pytest.approx(1, rel=0.2)
