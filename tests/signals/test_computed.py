"""Weights that parametrizations and hooks compute: named in rows, calibrated if a factor comes out, else said."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

import initframe
from initframe.signal.calibrate import calibration
from initframe.signal.predict import predict
from initframe.signal.propagate import propagate
from tests.signals.test_predict import assert_near, both

RECIPE = {
    "rules": {
        "weights": {"match": "*weight", "init": "kaiming_normal"},
        "*bias": {"init": "uniform", "a": -0.1, "b": 0.1},
    }
}
BATCH = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))

pytestmark = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`")


class Doubled(nn.Module):
    """A parametrization of its own, whose right_inverse is one."""

    def forward(self, x):
        return 2 * x

    def right_inverse(self, x):
        return x / 2


def doubled(layer):
    parametrize.register_parametrization(layer, "weight", Doubled())
    return layer


LINEAR = {
    "weight norm": parametrizations.weight_norm,
    "weight norm of the whole": lambda layer: parametrizations.weight_norm(layer, dim=None),
    "older weight norm": weight_norm,
    "pruning": lambda layer: prune.random_unstructured(layer, "weight", 0.3),
}
OTHERS = {
    "spectral norm": (parametrizations.spectral_norm, "scale"),
    "older spectral norm": (spectral_norm, "scale"),
    "orthogonal": (parametrizations.orthogonal, "orthogonal"),
    "one of its own": (doubled, "Doubled"),
}


class Twice(nn.Module):
    """A layer whose weight is computed, called twice, and a plain one."""

    def __init__(self, wrap):
        super().__init__()
        self.layer, self.out = wrap(nn.Linear(32, 32)), nn.Linear(32, 32)

    def forward(self, x):
        return self.out(self.layer(self.layer(x).relu()))


@pytest.mark.parametrize("name", LINEAR)
def test_a_factor_on_a_computed_weight_gives_the_target_size(name):
    model = Twice(LINEAR[name])
    found = calibration(model, RECIPE, BATCH, seed=3)
    assert [row.name for row in found.rows] == ["layer.weight", "out.weight"]
    assert not found.unused
    initframe.reinit(model, found.recipe, seed=3)
    rows = {(row.name, row.call): row for row in propagate(model, BATCH).rows}
    assert rows["layer", 0].rms == pytest.approx(1, rel=1e-4)
    assert rows["out", 0].rms == pytest.approx(1, rel=1e-4)
    assert rows["layer", 0].weight == "layer.weight"
    assert rows["layer", 0].depth == 1


@pytest.mark.parametrize("name", LINEAR)
def test_a_predicted_factor_is_that_of_the_predicted_output(name):
    model = Twice(LINEAR[name])
    found = calibration(model, RECIPE, BATCH, method="predict")
    rows = {(row.name, row.call): row for row in predict(initframe.resolve(found.recipe, model), BATCH).rows}
    assert rows["layer", 0].rms == pytest.approx(1, rel=1e-3)
    assert rows["out", 0].rms == pytest.approx(1, rel=1e-3)
    assert rows["layer", 0].weight == "layer.weight"


@pytest.mark.parametrize("method", ["measure", "predict"])
@pytest.mark.parametrize("name", OTHERS)
def test_weights_on_which_a_factor_is_lost_say_so(name, method):
    wrap, word = OTHERS[name]
    found = calibration(Twice(wrap), RECIPE, BATCH, method=method)
    assert [row.factor == 1 for row in found.rows] == [True, False]
    (left,) = found.left
    assert left.startswith("layer.weight: ")
    assert word in left


@pytest.mark.parametrize("name", ["orthogonal", "one of its own"])
def test_a_parametrization_without_a_rule_is_predicted_from_the_plan(name):
    """Its current values are of no importance; what is assumed of it is said, unless it is known."""
    model = nn.Sequential(OTHERS[name][0](nn.Linear(32, 32)), nn.ReLU(), nn.Linear(32, 32))
    predicted, squares = both(model, BATCH, RECIPE, seeds=12)
    assert_near(predicted.__class__(**{**vars(predicted), "rows": predicted.rows[-4:]}), squares, 0.05)
    assert bool(predicted[""].approximate) == (name != "orthogonal")
    assert not predicted.notes


def test_a_model_is_as_before_after_its_weights_were_named():
    model = Twice(parametrizations.weight_norm)
    before = model(BATCH)
    propagate(model, BATCH)
    predict(initframe.resolve(RECIPE, model), BATCH)
    calibration(model, RECIPE, BATCH)
    assert torch.equal(model(BATCH), before)
