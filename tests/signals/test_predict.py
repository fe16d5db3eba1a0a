"""Predictions beside measurements, and beside closed forms."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune

import initframe
from initframe.signal.predict import predict
from initframe.signal.propagate import propagate
from tests.nets import bits, same_bits
from tests.refusals import refused

KAIMING = {
    "rules": {"weights": {"match": "*.weight", "where": "ndim > 1", "init": "kaiming_normal"}, "*.bias": "zeros"},
    "unused": "warn",
}


def both(model, batch, recipe=KAIMING, seeds=24):
    """Predicted rows, and the measured mean squares of each."""
    plan = initframe.resolve(recipe, model)
    predicted = predict(plan, batch)
    squares = {}
    for seed in range(seeds):
        initframe.apply(plan, seed)
        for row in propagate(model, batch).rows:
            squares.setdefault((row.name, row.call), []).append(row.rms**2)
    return predicted, squares


def assert_near(predicted, squares, tolerance=0.02):
    """Every row is measured, and agrees within 4 standard errors or the tolerance."""
    assert predicted.rows
    for row in predicted.rows:
        several = torch.tensor(squares[row.name, row.call], dtype=torch.float64)
        slack = 4 * several.std() / math.sqrt(len(several)) + 2 * tolerance * several.mean()
        assert abs(row.rms**2 - several.mean()) <= slack, (row.label, row.rms, several.mean().sqrt().item())


class Block(nn.Module):
    """A pre-norm transformer block, causal or not."""

    def __init__(self, width, causal):
        super().__init__()
        self.norm, self.causal = nn.LayerNorm(width), causal
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.gate, self.up, self.down = (nn.Linear(width, width, bias=False) for _ in range(3))

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (4, -1)).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        y = self.norm(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class Shifted(nn.Linear):
    """A layer that adds its bias by itself."""

    def __init__(self, width):
        super().__init__(width, width, bias=False)
        self.weights = nn.ParameterDict({"weight": torch.empty(1, width)})

    def forward(self, x):
        return super().forward(x) + self.weights["weight"]


MODELS = {
    "mlp": (
        lambda: nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 10)),
        (8, 128),
    ),
    "convolutions": (
        lambda: nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, stride=2, padding=1)),
        (4, 3, 12, 12),
    ),
    "max pooling": (
        lambda: nn.Sequential(nn.Conv2d(3, 48, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        (4, 3, 24, 24),
    ),
    "mean pooling": (
        lambda: nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 8)),
        (4, 3, 16, 16),
    ),
    "grouped": (
        lambda: nn.Sequential(nn.Conv2d(8, 32, 3, groups=4), nn.GELU(), nn.ConvTranspose2d(32, 8, 2, 2)),
        (4, 8, 12, 12),
    ),
    "batch norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.Hardswish(), nn.Conv2d(32, 16, 1)),
        (8, 3, 12, 12),
    ),
    "group norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 32, 3), nn.GroupNorm(4, 32), nn.SiLU(), nn.Conv2d(32, 16, 1)),
        (8, 3, 12, 12),
    ),
    "attention": (lambda: nn.Sequential(Block(64, False), Block(64, False)), (4, 32, 64)),
    "causal attention": (lambda: nn.Sequential(Block(64, True), Block(64, True)), (4, 32, 64)),
    "max pooling in three dimensions": (
        lambda: nn.Sequential(nn.Conv3d(3, 48, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(48, 32, 1)),
        (2, 3, 8, 12, 12),
    ),
    "pooling in one dimension": (
        lambda: nn.Sequential(nn.Conv1d(3, 64, 3), nn.ReLU(), nn.MaxPool1d(3, 2, 1), nn.AvgPool1d(2)),
        (4, 3, 40),
    ),
    "mean pooling in three dimensions": (
        lambda: nn.Sequential(nn.Conv3d(3, 48, 3), nn.AvgPool3d(2), nn.ReLU(), nn.AdaptiveAvgPool3d(1)),
        (4, 3, 8, 12, 12),
    ),
    "biases of their own": (
        lambda: nn.Sequential(Shifted(96), nn.ReLU(), nn.Linear(96, 32)),
        (8, 96),
    ),
    "one dimension": (
        lambda: nn.Sequential(nn.Conv1d(4, 32, 5, padding=2), nn.ELU(), nn.Conv1d(32, 32, 3)),
        (4, 4, 40),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_predictions_agree_with_measurements(name):
    make, shape = MODELS[name]
    torch.manual_seed(0)
    model = make()
    predicted, squares = both(model, torch.randn(shape))
    assert not [note for note in predicted.notes if "no rule" in note]
    assert_near(predicted, squares, 0.06 if "attention" in name else 0.03)


def test_relu_halves_the_square_exactly():
    plan = initframe.resolve(KAIMING, nn.Sequential(nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 100)))
    signal = predict(plan, torch.empty(4, 100, device="meta"))
    assert signal["0"].rms == pytest.approx(math.sqrt(2), rel=1e-6)
    assert signal["1"].rms == pytest.approx(1.0, rel=1e-9)
    assert signal["1"].zeros == pytest.approx(0.5, rel=1e-9)
    arccosine = 1 / math.pi  # of two independent inputs (Cho & Saul 2009)
    assert signal["1"].correlation == pytest.approx(arccosine, rel=1e-9)


class Gated(nn.Module):
    """Squeezing, as gated images do it, behind max pooling; then a residual branch and stochastic depth."""

    def __init__(self):
        super().__init__()
        self.first, self.gate, self.second = nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 1), nn.Conv2d(64, 64, 1)

    def forward(self, x):
        x = functional.max_pool2d(self.first(x).relu(), 2)
        x = x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()
        drawn = torch.empty(x.shape[0], 1, 1, 1).bernoulli_(0.7)
        return (x + self.second(x) * drawn).relu()


def test_zeros_are_counted_through_pooling_products_and_sums():
    torch.manual_seed(0)
    model, x = Gated(), torch.randn(64, 3, 20, 20)
    plan = initframe.resolve({"rules": {"*.weight": "kaiming_normal", "*.bias": "zeros"}}, model)
    rows = predict(plan, x).rows
    initframe.apply(plan, 0)
    measured = {(row.name, row.call): row.zeros for row in propagate(model, x).rows}
    names = [row.name for row in rows if row.zeros > 0.01]
    assert {"/relu", "/max_pool", "/mul"} <= set(names)
    for row in rows:
        assert row.zeros == pytest.approx(measured[row.name, row.call], abs=0.05), row.name


class Weighed(nn.Module):
    """Positions of a signal, weighed by a softmax over them, and then multiplied with a signal of their own."""

    def __init__(self):
        super().__init__()
        self.scores, self.values, self.other = (nn.Linear(512, 64, bias=False) for _ in range(3))

    def forward(self, x):
        weights = self.scores(x).softmax(1) * self.values(x)
        return weights.transpose(1, 2) @ self.other(x)


def test_a_softmax_times_a_signal_is_no_attention():
    torch.manual_seed(0)
    model, x = Weighed(), torch.randn(16, 49, 512)
    plan = initframe.resolve({"rules": {"*.weight": "lecun_normal"}}, model)
    found = predict(plan, x)[""]
    initframe.apply(plan, 0)
    assert found.rms == pytest.approx(propagate(model, x)[""].rms, rel=0.1)


@pytest.mark.parametrize("std", [1e-30, 1e12, 1e37])
@pytest.mark.parametrize("act", [nn.ReLU(), nn.GELU(), nn.Tanh()], ids=["relu", "gelu", "tanh"])
def test_what_explodes_or_vanishes_is_predicted_as_far_as_numbers_go(act, std):
    model = nn.Sequential(*[layer for _ in range(6) for layer in (nn.Linear(32, 32, bias=False), act)])
    rows = predict(initframe.resolve({"rules": {"*": {"init": "normal", "std": std}}}, model), torch.randn(4, 32)).rows
    assert rows[0].rms == pytest.approx(std * 32**0.5, rel=0.2)
    assert not any(row.rms is not None and math.isnan(row.rms) for row in rows)


def test_layer_norm_and_rms_norm_give_one():
    model = nn.Sequential(nn.Linear(64, 256), nn.LayerNorm(256), nn.Linear(256, 256), nn.RMSNorm(256))
    signal = predict(initframe.resolve(KAIMING, model), torch.empty(4, 64, device="meta"))
    assert signal["1"].rms == pytest.approx(1, rel=1e-3)
    assert signal["3"].rms == pytest.approx(1, rel=1e-3)


def test_a_meta_model_is_predicted_like_a_real_one():
    make, shape = MODELS["causal attention"]
    with torch.device("meta"):
        absent = make()
    recipe = {
        "rules": {
            "*": {"match": "*.weight", "where": "ndim > 1", "init": "kaiming_normal"},
            "norms": {"match": "*norm.*", "init": "torch_default"},
        }
    }
    one, other = (predict(initframe.resolve(recipe, m), torch.empty(shape, device="meta")) for m in (absent, make()))
    assert [(row.name, row.rms) for row in one.rows] == [(row.name, row.rms) for row in other.rows]


def test_rows_are_those_of_a_measurement():
    model, batch = MODELS["causal attention"][0](), torch.randn(4, 32, 64)
    predicted, measured = predict(initframe.resolve(KAIMING, model), batch), propagate(model, batch)
    assert [(r.name, r.call, r.op, r.shape, r.depth) for r in predicted.rows] == [
        (r.name, r.call, r.op, r.shape, r.depth) for r in measured.rows
    ]


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
@pytest.mark.parametrize(
    "look", [predict, lambda plan, batch: propagate(plan.model, batch)], ids=["predict", "propagate"]
)
@pytest.mark.parametrize(
    "wrap",
    [nn.utils.weight_norm, nn.utils.spectral_norm, lambda layer: prune.l1_unstructured(layer, "weight", 0.5)],
    ids=["weight norm", "spectral norm", "pruning"],
)
def test_what_hooks_show_as_an_attribute_is_as_before(wrap, look):
    model = nn.Sequential(wrap(nn.Linear(6, 4)))
    plan = initframe.resolve(KAIMING, model)
    shown = vars(model[0])["weight"]
    before = shown.clone()
    look(plan, torch.ones(2, 6))
    assert vars(model[0])["weight"] is shown
    assert torch.equal(shown, before)


def test_the_model_is_as_before():
    model = MODELS["batch norm"][0]()
    before, rng = bits(model), torch.get_rng_state()
    predict(initframe.resolve(KAIMING, model), torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(same_bits(value, before[name]) for name, value in model.state_dict().items())


class Caching(nn.Module):
    """A model that keeps what it has computed, as some attention layers do."""

    def __init__(self):
        super().__init__()
        self.layer, self.bias = nn.Linear(8, 8), nn.Parameter(torch.zeros(8))
        self.biases, self.steps, self.seen, self.sizes = {}, 0, [], {0}

    def forward(self, x):
        if "bias" not in self.biases:
            self.biases["bias"] = self.bias * 2
        self.steps += 1
        self.sizes.discard(0)
        self.sizes.add(len(x))
        self.last = self.layer(x) + self.biases["bias"]
        self.seen.append(self.last)
        return self.last


def test_what_a_model_keeps_is_as_before():
    model, batch = Caching(), torch.randn(4, 8)
    predict(initframe.resolve(KAIMING, model), batch)
    propagate(model, batch)
    assert (model.biases, model.steps, model.seen, model.sizes) == ({}, 0, [], {0})
    assert not hasattr(model, "last")
    assert model(batch).shape == (4, 8)


def test_equal_predictions_whenever_they_are_made():
    plan = initframe.resolve(KAIMING, MODELS["max pooling"][0]())
    batch = torch.empty(2, 3, 24, 24, device="meta")
    assert predict(plan, batch) == predict(plan, batch)


def test_an_operation_without_a_rule_ends_the_prediction_and_says_so():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.after = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            return self.after(self.before(x).logcumsumexp(1))

    signal = predict(initframe.resolve(KAIMING, Net()), torch.randn(4, 8))
    assert signal["before"].rms is not None
    assert signal["after"].rms is None
    assert signal["after"].approximate
    assert any("no rule" in note for note in signal.notes)


def test_decisions_by_value_are_refused():
    class Net(nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    (problem,) = refused(predict, initframe.resolve(KAIMING, Net(4, 4)), torch.randn(2, 4))
    assert "decides by values" in problem.fact
    assert problem.fix


def test_decisions_by_masks_and_positions_are_followed():
    class Net(nn.Linear):
        def forward(self, x):
            mask = torch.ones(x.shape[0], dtype=torch.bool)
            return super().forward(x) if mask.all() else x

    recipe = {"rules": {"weight": "kaiming_normal", "bias": "zeros"}}
    assert predict(initframe.resolve(recipe, Net(8, 8)), torch.randn(2, 8))[""].rms is not None


def test_a_plan_of_a_state_dict_has_no_forward_pass():
    plan = initframe.resolve({"rules": {"w": "ones"}}, {"w": torch.empty(3)})
    (problem,) = refused(predict, plan, torch.randn(2, 3))
    assert problem.fix


def test_equal_tokens_share_their_rows():
    model = nn.Sequential(nn.Embedding(100, 64))
    plan = initframe.resolve({"rules": {"*.weight": "normal"}}, model)
    signal = predict(plan, torch.tensor([[1, 2, 3, 4], [1, 2, 7, 8]]))
    assert signal["0"].correlation == pytest.approx(0.5)


def test_the_spread_over_seeds_is_told():
    torch.manual_seed(0)
    layers = [nn.Linear(48, 48, bias=False), nn.ReLU()] * 1
    model = nn.Sequential(*[layer for _ in range(6) for layer in (nn.Linear(48, 48, bias=False), nn.ReLU())], *layers)
    batch = torch.randn(64, 48)
    predicted, squares = both(model, batch, {"rules": {"*.weight": "kaiming_normal"}}, seeds=60)
    row = predicted.rows[-1]
    measured = torch.tensor(squares[row.name, row.call]).sqrt()
    assert row.spread == pytest.approx((measured.std() / measured.mean()).item(), rel=0.5)


def test_dropout_in_attention_and_elsewhere():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.3, batch_first=True, norm_first=True)
    predicted, squares = both(layer.train(), torch.randn(4, 16, 64))
    assert not predicted.notes
    assert_near(predicted, squares, 0.05)
