"""Layers that are predicted as a whole: recurrent ones, spectral and weight norm, attention over channels."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import initframe
from initframe.signal.predict import predict
from initframe.signal.propagate import propagate
from initframe.signal.simulate import Kernel, Start, Weights, run
from tests.signals.test_predict import assert_near, both

DRAWN = {
    "rules": {
        "weights": {"match": "*weight*", "init": "uniform", "a": -0.2, "b": 0.2},
        "biases": {"match": "*bias*", "init": "uniform", "a": -0.2, "b": 0.2},
    },
    "unused": "warn",
}
FORGET = {
    "rules": {
        "weights": {"match": "*weight*", "init": "normal", "std": 0.2},
        "*bias*": "zeros",
        "*bias_ih*": "lstm_forget",
    },
    "unused": "warn",
}


class Recurrent(nn.Module):
    """A recurrent layer, and a head on what is picked of its outputs."""

    def __init__(self, layer, pick):
        super().__init__()
        size = (layer.proj_size or layer.hidden_size) * (2 if layer.bidirectional and pick == "all" else 1)
        self.layer, self.pick, self.head = layer, pick, nn.Linear(size, 48)

    def forward(self, x):
        out, last = self.layer(x)
        if self.pick == "last":
            out = out[:, -1]
        elif self.pick == "state":
            out = (last[0] if isinstance(last, tuple) else last)[-1]
        elif self.pick == "cell":
            out = last[1][-1]
        return self.head(out)


LAYERS = {
    "LSTM": (lambda: nn.LSTM(32, 64, batch_first=True), "last", DRAWN),
    "LSTM that remembers": (lambda: nn.LSTM(32, 64, 2, batch_first=True), "cell", FORGET),
    "LSTM in both directions": (lambda: nn.LSTM(32, 64, 2, batch_first=True, bidirectional=True), "all", DRAWN),
    "LSTM with projections": (lambda: nn.LSTM(32, 64, 2, batch_first=True, proj_size=24), "all", DRAWN),
    "LSTM with time first": (lambda: nn.LSTM(32, 64), "state", DRAWN),
    "GRU": (lambda: nn.GRU(32, 64, 2, batch_first=True), "last", DRAWN),
    "GRU in both directions": (lambda: nn.GRU(32, 64, batch_first=True, bidirectional=True), "all", DRAWN),
    "RNN": (lambda: nn.RNN(32, 64, 2, batch_first=True), "state", DRAWN),
    "RNN of rectifiers": (lambda: nn.RNN(32, 64, batch_first=True, nonlinearity="relu"), "last", DRAWN),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", LAYERS)
def test_recurrent_layers(name):
    make, pick, recipe = LAYERS[name]
    torch.manual_seed(0)
    model = Recurrent(make(), pick).eval()
    batch = torch.randn(4, 20, 32)
    predicted, squares = both(model, batch, recipe, seeds=16)
    assert not predicted.notes
    assert [(r.name, r.call, r.op, r.shape, r.depth, r.weight) for r in predicted.rows] == [
        (r.name, r.call, r.op, r.shape, r.depth, r.weight) for r in propagate(model, batch).rows
    ]
    assert_near(predicted, squares, 0.03)


def test_a_recurrent_model_is_as_before():
    model, batch = Recurrent(nn.GRU(8, 8, batch_first=True), "last"), torch.randn(2, 5, 8)
    before = model(batch)
    predict(initframe.resolve(DRAWN, model), batch)
    assert torch.equal(model(batch), before)


def test_units_without_recurrent_weights_see_each_step_alone():
    steps = torch.eye(5, dtype=torch.float64)
    alone = run("rnn_relu", Kernel(steps, steps / 2), Weights(2.0, 0.0, torch.zeros(2, 1, 2)), Start(), Start())
    assert alone.kernel.own.diagonal().tolist() == pytest.approx([1] * 5, rel=0.03)
    arccosine = (math.sqrt(1 - 0.25) + 0.5 * (math.pi - math.acos(0.5))) / math.pi  # Cho & Saul 2009
    assert alone.kernel.cross.diagonal().tolist() == pytest.approx([arccosine] * 5, rel=0.03)


def test_a_cell_that_forgets_nothing_adds_up():
    open_gates = torch.tensor(
        [[[50.0, 0], [50.0, 0], [0, 0], [50.0, 0]], [[0.0, 0]] * 4]
    )  # input, forget, cell, output
    small = Kernel(torch.eye(6, dtype=torch.float64) * 1e-4, torch.zeros(6, 6, dtype=torch.float64))
    found = run("lstm", small, Weights(1.0, 0.0, open_gates), Start(), Start())
    assert found.kernel.own.diagonal().tolist() == pytest.approx([1e-4 * t for t in range(1, 7)], rel=0.03)
    assert found.cell[1] == pytest.approx(6e-4, rel=0.03)


NORMS = {
    "spectral norm": lambda: nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(96, 128)),
        nn.ReLU(),
        parametrizations.spectral_norm(nn.Linear(128, 64)),
    ),
    "older spectral norm": lambda: nn.Sequential(spectral_norm(nn.Linear(96, 96)), nn.ReLU()),
    "weight norm": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(96, 128)), nn.ReLU()),
    "weight norm of columns": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(96, 128), dim=1)),
    "weight norm of the whole": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(96, 128), dim=None)),
    "older weight norm": lambda: nn.Sequential(weight_norm(nn.Linear(96, 128)), nn.ReLU()),
    "pruning": lambda: nn.Sequential(prune.random_unstructured(nn.Linear(96, 128), "weight", 0.5), nn.ReLU()),
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`")
@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("init", [{"init": "normal", "std": 0.3}, {"init": "orthogonal", "gain": 0.3}])
@pytest.mark.parametrize("name", NORMS)
def test_computed_weights(name, init, mode):
    torch.manual_seed(0)
    model = NORMS[name]().train(mode == "training")
    recipe = {"rules": {"*weight": {"match": "*weight", **init}, "*bias": "zeros"}}
    predicted, squares = both(model, torch.randn(16, 96), recipe, seeds=8)
    assert not predicted.notes
    assert_near(predicted, squares, 0.03)


def test_spectral_norm_of_convolutions():
    torch.manual_seed(0)
    wrap = parametrizations.spectral_norm
    model = nn.Sequential(wrap(nn.Conv2d(8, 48, 3, padding=1)), nn.ReLU(), wrap(nn.ConvTranspose2d(48, 32, 4, 2, 1)))
    recipe = {"rules": {"*weight": {"match": "*weight", "init": "normal", "std": 0.3}, "*bias": "zeros"}}
    predicted, squares = both(model, torch.randn(4, 8, 10, 10), recipe, seeds=10)
    assert_near(predicted, squares, 0.03)


class CrossCovariance(nn.Module):
    """Attention over channels, as in XCiT, or with scores that are not normalized, as in DaViT."""

    def __init__(self, width, heads, normal):
        super().__init__()
        self.heads, self.normal = heads, normal
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1) for t in self.qkv(self.norm(x)).chunk(3, -1))
        if self.normal:
            q, k = functional.normalize(q, dim=-1), functional.normalize(k, dim=-1)
        else:
            q = q * q.shape[-1] ** -0.5
        mixed = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return x + self.out(mixed.permute(0, 3, 1, 2).flatten(2))


@pytest.mark.parametrize("normal", [True, False])
def test_attention_over_channels(normal):
    torch.manual_seed(0)
    model = nn.Sequential(CrossCovariance(96, 4, normal), CrossCovariance(96, 4, normal))
    recipe = {
        "rules": {
            "weights": {"match": "*.weight", "where": "ndim > 1", "init": "xavier_normal"},
            "*.bias": {"init": "normal", "std": 0.3},
            "*.norm.*": "torch_default",
        }
    }
    predicted, squares = both(model, torch.randn(3, 40, 96), recipe, seeds=10)
    assert not predicted.notes
    scores = [row for row in predicted.rows if "/" in row.name and row.shape[-2:] == (24, 24)]
    assert scores
    assert all(row.approximate for row in scores)
    assert_near(replace(predicted, rows=scores), squares, 0.15)
    assert_near(replace(predicted, rows=[row for row in predicted.rows if row not in scores]), squares, 0.06)


class Experts(nn.Module):
    """The two best of eight experts for each row, with weights that add up to 1."""

    def __init__(self):
        super().__init__()
        self.gate, self.mix = nn.Linear(64, 8, bias=False), nn.Linear(2, 32, bias=False)

    def forward(self, x):
        best, _ = self.gate(x).softmax(-1).topk(2, -1)
        return self.mix(best / best.sum(-1, keepdim=True))


class Padded(nn.Module):
    """A mean over keys that are mostly padding."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Linear(16, 64), nn.Linear(64, 32)

    def forward(self, x):
        return self.out(functional.pad(self.embed(x), (0, 0, 0, 30)).mean(1))


class Selected(nn.Module):
    """Masked tokens, gates by glu, and the largest of several positions."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Linear(16, 256), nn.Linear(128, 32)

    def forward(self, x):
        hidden = torch.arange(x.shape[1])[None, :, None] % 4 == 0
        gated = functional.glu(self.embed(x).masked_fill(hidden, 0.0), -1)
        return self.out(gated.unflatten(1, (-1, 4)).amax(2))


OTHERS = {
    "experts": (Experts, (256, 64)),
    "padding": (Padded, (16, 10, 16)),
    "selection": (Selected, (8, 20, 16)),
    "mean of some positions": (
        lambda: nn.Sequential(nn.Conv2d(3, 64, 3), nn.AvgPool2d((10, 1)), nn.Flatten(2)),
        (4, 3, 12, 12),
    ),
    "log softmax": (lambda: nn.Sequential(nn.Linear(64, 100), nn.LogSoftmax(-1)), (16, 64)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_operations(name):
    make, shape = OTHERS[name]
    torch.manual_seed(0)
    recipe = {"rules": {"*.weight": "kaiming_normal", "*.bias": "zeros"}, "unused": "warn"}
    predicted, squares = both(make(), torch.randn(shape), recipe, seeds=12)
    assert not predicted.notes
    assert_near(predicted, squares, 0.05)


def test_what_is_broadcast_is_the_same_for_all_inputs():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.empty(1, 1, 256))

        def forward(self, x):
            return x + self.token

    plan = initframe.resolve({"rules": {"token": "normal"}}, Net())
    signal = predict(plan, torch.empty(8, 10, 256, device="meta"))
    assert signal["/add" if "/add" in [row.name for row in signal.rows] else ""].correlation == pytest.approx(0.5)


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_steps_that_are_all_but_equal(layer):
    """Their covariance is nearly singular, and the simulation draws from it step by step."""
    model = layer(192, 48, batch_first=True)
    batch = torch.randn(8, 64, 192) * 0.02 + torch.randn(1, 1, 192)
    rules = {"*weight*": {"init": "normal", "std": 0.02}, "*bias*": "ones"}
    predicted, squares = both(model, batch, {"rules": rules}, seeds=6)
    assert_near(predicted, squares, tolerance=0.05)
