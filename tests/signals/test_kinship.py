"""Predictions of what is computed from several parts of one tensor, or from a tensor and its own mean."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap
from torch.nn import functional

import initframe
from initframe.signal.dependence import agreement
from initframe.signal.grid import gaussian
from initframe.signal.kinship import part_of
from initframe.signal.layout import plain
from initframe.signal.moments import moments_of
from initframe.signal.predict import predict
from tests.signals.test_predict import assert_near, both
from tests.signals.test_written_by_hand import RECIPE, Net, drawn, line

INPUTS = drawn(8, 64)
ALIKE = 0.3 * drawn(4, 12, 64) + drawn(4, 1, 64)
"""Sequences whose positions agree."""


def features(net, x):
    return net.second(net.first(x).relu()).relu()


def on(join, batch):
    """A function of the features of a batch."""
    return lambda net, x: join(features(net, x)), batch


def on_halves(join, batch=INPUTS):
    return on(lambda h: join(*h.chunk(2)), batch)


def part_of_a_sum(net, x):
    return (net.first(x) + x)[:4] - x[4:]


def nothing(net, x):
    h = net.first(x)
    return h[:, 0] - h[:, 0]


PARTS = {
    "a difference of halves": on_halves(lambda a, b: a - b),
    "a sum of halves": on_halves(lambda a, b: a + b),
    "a product of halves": on_halves(lambda a, b: a * b),
    "products of all pairs of two halves": on_halves(lambda a, b: a @ b.T),
    "similarities of two halves": on_halves(
        lambda a, b: functional.normalize(a, dim=-1) @ functional.normalize(b, dim=-1).T
    ),
    "cosines of pairs": on_halves(lambda a, b: functional.cosine_similarity(a, b)[:, None]),
    "inner products of pairs": on_halves(lambda a, b: torch.einsum("bd,bd->b", a, b)[:, None]),
    "a correlation volume": on_halves(lambda a, b: a @ b.transpose(1, 2), ALIKE),
    "slices": on(lambda h: h[:4] - h[4:], INPUTS),
    "positions with positions": on(lambda h: h[:, :6] @ h[:, 6:].transpose(1, 2), ALIKE),
    "steps": on(lambda h: h[:, 1:] - h[:, :-1], ALIKE),
    "rolled": on(lambda h: h - h.roll(1, 1), ALIKE),
    "rolled over inputs": on(lambda h: (h * h.roll(1, 0)).sum(-1, keepdim=True), INPUTS),
    "flipped": on(lambda h: h + h.flip(1), ALIKE),
    "shifted by padding": on(lambda h: functional.pad(h, (0, 0, 1, -1)) - h, ALIKE),
    "the first position": on(lambda h: h - h[:, :1], ALIKE),
    "rows by number": on(lambda h: h[torch.tensor([0, 1, 2])] - h[torch.tensor([3, 4, 5])], INPUTS),
    "a mean over positions": on(lambda h: h - h.mean(1, keepdim=True), ALIKE),
    "a mean over inputs": on(lambda h: h - h.mean(0, keepdim=True), INPUTS),
    "a mean of the other positions": on(lambda h: h[:, 0] + h[:, 1:].mean(1), ALIKE),
    "put together again": on(lambda h: torch.cat([h[:, 6:], h[:, :6]], 1).mean(1), ALIKE),
    "parts of a sum": (part_of_a_sum, INPUTS),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_one_tensor_agree_as_its_elements_do(name):
    forward, batch = PARTS[name]
    square = name == "parts of a sum"
    layers = {"first": line(64, 64 if square else 256), "second": line(256, 256)}
    predicted, squares = both(Net(forward, **layers), batch, {**RECIPE, "unused": "warn"}, seeds=12)
    assert not [note for note in predicted.notes if "rule" in note]
    assert_near(predicted, squares, tolerance=0.08)


def test_all_pairs_of_positions_are_no_position_with_itself():
    forward, batch = on(lambda h: h[:, :, None] - h[:, None], ALIKE)
    predicted, squares = both(Net(forward, first=line(64, 256), second=line(256, 256)), batch, RECIPE, seeds=8)
    assert_near(predicted, squares, tolerance=0.08)
    assert predicted[""].approximate


def test_the_same_part_is_the_same_tensor():
    model = Net(nothing, first=line(64, 64))
    assert predict(initframe.resolve(RECIPE, model), ALIKE)[""].rms == 0


@pytest.mark.parametrize(
    ("apart", "expected"),
    [
        ({"batch"}, (0.5, 0.5, 0.125, 0.125)),
        ({"position"}, (0.25, 0.125, 0.25, 0.125)),
        ({"batch", "position"}, (0.125, 0.125, 0.125, 0.125)),
        ({"channel"}, (0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_what_two_parts_have_in_common(apart, expected):
    x = gaussian(moments_of(0.0, 1.0, 0.5, 0.25, 0.125), plain((4, 6, 8), ("batch", "position", "channel")))
    assert agreement(part_of(x, apart), part_of(x, apart)) == pytest.approx(expected)
    assert agreement(x, part_of(x, apart)) == pytest.approx(expected)


def stacked(net, x, dim=0):
    return torch.stack([member(x) for member in net.members], dim)


def mapped(net, x):
    """The members as one, with their weights stacked."""
    members = [dict(member.named_parameters()) for member in net.members]
    weights = {name: torch.stack([member[name] for member in members]) for name in members[0]}
    return vmap(lambda own, given: functional_call(net.members[0], own, (given,)), in_dims=(0, None))(weights, x)


def multiplied(net, x):
    return (x @ net.first).relu() @ net.second


def summed_up(net, x):
    hidden = torch.einsum("bi,eio->ebo", x, net.first).relu()
    return torch.einsum("ebi,eio->ebo", hidden, net.second)


ENSEMBLES = {"stacked": stacked, "under vmap": mapped, "one product of matrices": multiplied, "einsum": summed_up}
JOINED = {
    "mean": lambda h: h.mean(0),
    "sum": lambda h: h.sum(0),
    "std": lambda h: h.std(0),
    "apart from the mean": lambda h: h - h.mean(0),
    "a head on the mean": lambda h: h.mean(0).relu(),
}


class Ensemble(nn.Module):
    """Four members, as modules or as one weight for each layer of all."""

    def __init__(self, kind, join):
        super().__init__()
        self.function, self.join = ENSEMBLES[kind], join
        if kind in ("stacked", "under vmap"):
            self.members = nn.ModuleList(nn.Sequential(line(64, 128), nn.ReLU(), line(128, 64)) for _ in range(4))
        else:
            self.first, self.second = nn.Parameter(torch.zeros(4, 64, 128)), nn.Parameter(torch.zeros(4, 128, 64))

    def forward(self, x):
        return self.join(self.function(self, x))


KAIMING = {
    "rules": {
        "members": {"match": "members.*.weight", "init": "kaiming_normal", "optional": True},
        "stacks": {
            "match": ["first", "second"],
            "init": "kaiming_normal",
            "axes": ["batch", "in", "out"],
            "optional": True,
        },
    }
}


@pytest.mark.parametrize("join", JOINED)
@pytest.mark.parametrize("kind", ENSEMBLES)
def test_members_of_an_ensemble_are_independent(kind, join):
    model = Ensemble(kind, JOINED[join])
    predicted, squares = both(model, INPUTS, KAIMING, seeds=8)
    last = predicted[""]
    assert not last.approximate
    measured = math.fsum(squares["", 0]) / len(squares["", 0])
    assert last.rms**2 == pytest.approx(measured, rel=0.16)


def test_an_ensembles_outputs_agree_as_inputs_do_not_as_members():
    whole = predict(initframe.resolve(KAIMING, Ensemble("stacked", JOINED["mean"])), INPUTS)
    member = whole["members.0"]
    assert whole[""].correlation == pytest.approx(member.correlation, rel=1e-6)
    eight = drawn(4, 64)  # as many inputs as members, so that their outputs are compared
    pairs = predict(initframe.resolve(KAIMING, Ensemble("stacked", lambda h: h)), eight)[""]
    assert pairs.correlation == pytest.approx(0.0, abs=1e-6)


def test_inputs_with_weights_of_their_own_have_nothing_in_common():
    model = Net(lambda net, x: (x[:, None] @ net.each)[:, 0].mean(0, keepdim=True), each=nn.ParameterList())
    model.each = nn.Parameter(torch.zeros(8, 64, 64))
    recipe = {"rules": {"each": {"init": "normal", "std": 0.125}}}
    predicted, squares = both(model, torch.ones(8, 64), recipe, seeds=16)
    measured = math.fsum(squares["", 0]) / 16
    assert predicted[""].rms ** 2 == pytest.approx(measured, rel=0.2)
