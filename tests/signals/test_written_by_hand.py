"""Predictions of what people write in their own forward functions: gates, graphs, routers, windows, resizing."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import initframe
from initframe.signal.predict import predict
from tests.signals.test_predict import assert_near, both

RECIPE = {
    "rules": {
        "matrices": {"match": "*", "where": "ndim > 1", "init": "kaiming_normal"},
        "biases": {"match": ["*bias", "*bias_[ih]h"], "init": "zeros", "optional": True},
    }
}


class Net(nn.Module):
    """Layers by name, and a forward function that is given them."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.function = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def line(*sizes):
    return nn.Linear(*sizes, bias=False)


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def picked(high, *shape):
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(0))


EDGES = picked(40, 2, 160)
DEGREES = torch.bincount(EDGES[1], minlength=40).clamp_min(1)


def gru(net, x):
    h = torch.zeros(len(x), 96)
    for t in range(x.shape[1]):
        h = net.cell(x[:, t], h)
    return net.out(h)


def gated(net, x):
    for new, gate in zip(net.new, net.gate, strict=True):
        x = x + gate(x).sigmoid() * (new(x).tanh() - x)
    return x


def graph(net, x):
    for layer in net.layers:
        x = torch.zeros(40, 96).index_add(0, EDGES[1], layer(x)[EDGES[0]]).relu()
    return x


def graph_means(net, x):
    rows = EDGES[1][:, None].expand(-1, 96)
    return net.out(
        torch.zeros(40, 96).scatter_reduce(0, rows, net.first(x).relu()[EDGES[0]], "mean", include_self=False)
    )


def router(net, x):
    weights, experts = net.router(x).softmax(-1).topk(2, -1)
    outputs = torch.stack([expert(x) for expert in net.experts], -2)
    chosen = torch.gather(outputs, 1, experts[..., None].expand(-1, -1, 64))
    return net.out((chosen * weights[..., None]).sum(1))


def scattered_router(net, x):
    scores = net.router(x)
    largest, experts = scores.topk(2, -1)
    gates = torch.zeros_like(scores).scatter(1, experts, largest.softmax(-1))
    return net.out((gates[..., None] * torch.stack([expert(x) for expert in net.experts], 1)).sum(1))


def expected_place(net, x):
    places = net.conv(x).flatten(2).softmax(-1).unflatten(-1, (16, 16))
    along = torch.linspace(-1, 1, 16)
    return net.out(torch.cat([(places.sum(2) * along).sum(-1), (places.sum(3) * along).sum(-1)], 1))


def softmax_over_places(net, x):
    return net.out((net.score(x).softmax(1) * net.value(x)).sum(1))


def linear_attention(net, x):
    q, k, v = functional.elu(net.q(x)) + 1, functional.elu(net.k(x)) + 1, net.v(x)
    return net.out((q @ (k.transpose(1, 2) @ v)) / (q @ k.sum(1).unsqueeze(-1)))


def rotary(net, x):
    q, k, v = (layer(x).unflatten(-1, (4, 16)) for layer in (net.q, net.k, net.v))
    angles = torch.arange(32.0)[:, None] * 10000 ** (-torch.arange(8.0) / 8)
    turned = torch.polar(torch.ones(32, 8), angles)[None, :, None]
    q, k = (torch.view_as_real(torch.view_as_complex(one.unflatten(-1, (8, 2))) * turned).flatten(3) for one in (q, k))
    q, k, v = (one.transpose(1, 2) for one in (q, k, v))
    return net.out(functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


def masked_by_hand(net, x):
    q, k, v = net.q(x), net.k(x), net.v(x)
    hidden = torch.ones(32, 32, dtype=torch.bool).triu(1)
    return net.out((q @ k.transpose(1, 2) / 8).masked_fill(hidden, -math.inf).softmax(-1) @ v)


def halved(net, x):
    return net.out((net.q(x) @ net.k(x).transpose(1, 2) / 16).softmax(-1) * 0.5 @ net.v(x))


def token_shift(net, x):
    before = functional.pad(x, (0, 0, 1, -1))
    return net.out(net.key(x + (before - x) * 0.3).relu())


def coupling(net, x):
    for layer in net.layers:
        a, b = x.chunk(2, 1)
        scale, shift = layer(a).chunk(2, 1)
        x = torch.cat([b * scale.tanh().exp() + shift, a], 1)
    return x


def twice(net, x):
    return net.out(net.first(x) + net.first(x).relu())


def every_other(net, x):
    y = x.new_zeros(len(x), 128)
    y[:, 0::2] = net.even(x)
    y[:, 1::2] = net.odd(x).relu()
    return net.out(y)


def similarities(net, x):
    y = net.first(x)
    return y @ y.t()


def windows(net, x):
    y = x.view(4, 2, 4, 2, 4, 64).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 64)
    q, k, v = (layer(y) for layer in (net.q, net.k, net.v))
    y = functional.scaled_dot_product_attention(q, k, v).view(4, 2, 2, 4, 4, 64)
    return x + net.out(y.permute(0, 1, 3, 2, 4, 5).reshape(x.shape))


def resize(**how):
    def forward(net, x):
        return net.out(functional.interpolate(net.conv(x).relu(), **how))

    return forward


def attention_layers(width=64):
    return {name: line(width, width) for name in ("q", "k", "v", "out")}


def experts():
    return {"router": line(64, 8), "experts": nn.ModuleList(line(64, 64) for _ in range(8)), "out": line(64, 64)}


def convolutions(conv=nn.Conv2d):
    return {"conv": conv(3, 32, 3, padding=1), "out": conv(32, 16, 3)}


NETS = {
    "a GRU cell": (gru, lambda: {"cell": nn.GRUCell(48, 96), "out": line(96, 64)}, drawn(32, 9, 48)),
    "gates between old and new": (
        gated,
        lambda: {name: nn.ModuleList(line(64, 64) for _ in range(4)) for name in ("new", "gate")},
        drawn(16, 64),
    ),
    "a graph": (graph, lambda: {"layers": nn.ModuleList(line(96, 96) for _ in range(2))}, drawn(40, 96)),
    "means over a graph": (graph_means, lambda: {"first": line(64, 96), "out": line(96, 64)}, drawn(40, 64)),
    "a router": (router, experts, drawn(32, 64)),
    "a router that scatters": (scattered_router, experts, drawn(32, 64)),
    "expected places": (
        expected_place,
        lambda: {"conv": nn.Conv2d(3, 32, 1), "out": line(64, 32)},
        drawn(8, 3, 16, 16),
    ),
    "a softmax over places": (
        softmax_over_places,
        lambda: {"score": line(64, 64), "value": line(64, 64), "out": line(64, 64)},
        drawn(8, 30, 64),
    ),
    "rotary embeddings of complex numbers": (rotary, attention_layers, drawn(4, 32, 64)),
    "a mask by hand": (masked_by_hand, attention_layers, drawn(4, 32, 64)),
    "attention's weights that add up to a half": (halved, attention_layers, drawn(4, 32, 64)),
    "a token shift": (token_shift, lambda: {"key": line(64, 128), "out": line(128, 64)}, drawn(4, 20, 64)),
    "couplings": (coupling, lambda: {"layers": nn.ModuleList(line(64, 128) for _ in range(3))}, drawn(64, 128)),
    "the same layer twice": (twice, lambda: {"first": line(64, 64), "out": line(64, 64)}, drawn(16, 64)),
    "every other channel": (
        every_other,
        lambda: {"even": line(64, 64), "odd": line(64, 64), "out": line(128, 64)},
        drawn(16, 64),
    ),
    "similarities": (similarities, lambda: {"first": line(64, 64)}, drawn(16, 64)),
    "windows with channels last": (windows, attention_layers, drawn(4, 8, 8, 64)),
    "two inputs together": (
        lambda net, x: net.out(net.both(x, x.flip(0))),
        lambda: {"both": nn.Bilinear(32, 32, 64), "out": line(64, 64)},
        drawn(32, 32),
    ),
    "a bag of words": (
        lambda net, x: net.out(net.bag(x)),
        lambda: {"bag": nn.EmbeddingBag(100, 64), "out": line(64, 64)},
        picked(100, 32, 7),
    ),
    "borders of its own": (
        lambda net, x: net.out(net.conv(x).relu()),
        lambda: {
            "conv": nn.Conv2d(3, 32, 3, padding=1, padding_mode="circular"),
            "out": nn.Conv2d(32, 16, 5, padding=2, padding_mode="reflect"),
        },
        drawn(4, 3, 12, 12),
    ),
    "nearest": (resize(scale_factor=2, mode="nearest"), convolutions, drawn(4, 3, 16, 16)),
    "bilinear": (resize(scale_factor=2, mode="bilinear"), convolutions, drawn(4, 3, 16, 16)),
    "bicubic, with corners": (
        resize(size=(20, 20), mode="bicubic", align_corners=True),
        convolutions,
        drawn(4, 3, 16, 16),
    ),
    "smaller": (resize(size=(7, 7), mode="bilinear", antialias=True), convolutions, drawn(4, 3, 16, 16)),
    "a longer line": (
        resize(scale_factor=2, mode="linear"),
        lambda: convolutions(nn.Conv1d),
        drawn(8, 3, 32),
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_predictions_agree_with_measurements(name):
    forward, layers, batch = NETS[name]
    predicted, squares = both(Net(forward, **layers()), batch, RECIPE, seeds=16)
    assert not predicted.notes
    assert_near(predicted, squares, tolerance=0.05)


def test_linear_attention_is_near():
    predicted, squares = both(Net(linear_attention, **attention_layers()), drawn(4, 32, 64), RECIPE, seeds=16)
    assert_near(predicted, squares, tolerance=0.15)
    assert predicted["out"].approximate


def test_a_gate_that_is_shared_by_both_sides_is_exact():
    """x + g·(y − x) is (1 − g)·x + g·y, however it is written."""

    def gate(net, x):
        g, y = net.gate(x).sigmoid(), net.new(x)
        return x + g * (y - x), (1 - g) * x + g * y

    model = Net(lambda net, x: gate(net, x)[0], gate=line(64, 64), new=line(64, 64))
    other = Net(lambda net, x: gate(net, x)[1], gate=line(64, 64), new=line(64, 64))
    one, two = (predict(initframe.resolve(RECIPE, net), drawn(8, 64))[""] for net in (model, other))
    assert (one.rms, one.mean, one.correlation) == pytest.approx((two.rms, two.mean, two.correlation), abs=1e-9)


def test_numbers_that_cancel():
    """(a + b) − a is b, and a sum over what adds up to zero is no more than what varies."""
    model = Net(lambda net, x: net.a(x) + net.b(x) - net.a(x), a=line(64, 64), b=line(64, 64))
    plan = initframe.resolve(RECIPE, model)
    signal = predict(plan, drawn(8, 64))
    assert signal[""].rms == pytest.approx(signal["b"].rms, rel=1e-6)


def test_coordinates_that_were_moved_many_times_are_where_they_were_moved_to():
    """Optical flow adds to coordinates again and again, and takes the first ones off at the end."""

    def moved(net, x):
        at = torch.arange(40.0)[:, None].expand(40, 64)
        for layer in net.layers:
            at = at + layer(x)
        return at - torch.arange(40.0)[:, None].expand(40, 64)

    model = Net(moved, layers=nn.ModuleList(line(64, 64) for _ in range(7)))
    predicted, squares = both(model, drawn(40, 64), RECIPE, seeds=8)
    assert_near(predicted, squares, tolerance=0.05)


def test_weights_that_are_used_again_on_other_inputs_are_marked():
    model = Net(lambda net, x: net.layer(net.layer(x).relu()), layer=line(64, 64))
    rows = predict(initframe.resolve(RECIPE, model), drawn(8, 64)).rows
    assert [bool(row.approximate) for row in rows if row.name == "layer"] == [False, True]


def test_shares_of_sums_by_number_are_not_guessed():
    """Attention over a graph's neighbours divides by a sum that holds what is divided."""

    def attention(net, x):
        score = net.score(x)[EDGES[0]].exp()
        return score / torch.zeros(40, 1).index_add(0, EDGES[1], score)[EDGES[1]]

    signal = predict(initframe.resolve(RECIPE, Net(attention, score=line(32, 1))), drawn(40, 32))
    assert signal[""].rms is None
    assert any("div" in note for note in signal.notes)
