"""Layers that are predicted where torch is asked for them: nothing of a signal tells it, and nothing else is."""

import pytest
import torch
from torch import nn

import initframe
from initframe.signal import functions
from tests.refusals import refused

RULES = {"rules": {"every": {"match": "*", "init": "torch_default", "optional": True}}}


class Asks(nn.Module):
    """A layer that asks torch for something, with the weights of a linear layer."""

    def __init__(self, ask, *, bias=True):
        super().__init__()
        self.ask, self.inner = ask, nn.Linear(6, 4, bias=bias)

    def forward(self, x):
        return self.ask(x, self.inner.weight, self.inner.bias)


def turned(x, weight, bias):
    return nn.functional.linear(x.transpose(1, 2), weight, bias)


CASES = {
    "rows": (lambda: nn.Linear(6, 4), (8, 6)),
    "sequences": (lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4, bias=False)), (3, 5, 6)),
    "one position": (lambda: nn.Linear(6, 4), (3, 1, 6)),
    "one input": (lambda: nn.Linear(6, 4), (1, 5, 6)),
    "images, channels last": (lambda: nn.Linear(6, 4), (2, 3, 3, 6)),
    "a vector": (lambda: nn.Linear(6, 4), (6,)),
    "positions mixed": (lambda: Asks(turned), (2, 6, 5)),
    "positions mixed, no bias": (lambda: Asks(turned, bias=False), (2, 6, 5)),
    "in a function": (
        lambda: Asks(lambda x, w, b: nn.functional.relu(nn.functional.linear(x, w, b)).mean(1)),
        (2, 5, 6),
    ),
    "by keyword": (lambda: Asks(lambda x, w, b: nn.functional.linear(bias=b, weight=w, input=x)), (2, 5, 6)),
    "a computed weight": (lambda: Asks(lambda x, w, b: nn.functional.linear(x, w * 2, b)), (2, 5, 6)),
    "weights of weights": (
        lambda: Asks(lambda x, w, b: nn.functional.linear(x, nn.functional.linear(w, w), None)),
        (2, 5, 4),
    ),
    "data as the weight": (lambda: Asks(lambda x, w, b: nn.functional.linear(w, x[0])), (2, 5, 6)),
    "batch norm": (lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()), (4, 3, 8, 8)),
    "batch norm without weights": (lambda: nn.Sequential(nn.BatchNorm1d(6, affine=False), nn.Tanh()), (8, 6)),
    "batch norm without statistics": (lambda: nn.BatchNorm1d(6, track_running_stats=False), (8, 6, 5)),
    "batch norm, channels last": (
        lambda: Asks(lambda x, w, b: nn.functional.batch_norm(x.mT, None, None, training=True)),
        (2, 6, 5),
    ),
    "standardized weights": (
        lambda: Asks(
            lambda x, w, b: nn.functional.linear(
                x, nn.functional.batch_norm(w[None], None, None, training=True)[0] + 0, b
            )
        ),
        (8, 6),
    ),
}


def predicted(build, size, *, train):
    torch.manual_seed(0)
    plan = initframe.resolve(RULES, build().train(train))
    return initframe.predict(plan, torch.randn(size))


@pytest.mark.parametrize("train", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", CASES)
def test_rows_are_those_of_the_parts(name, train, monkeypatch):
    whole = predicted(*CASES[name], train=train)
    monkeypatch.setattr(functions, "FUNCTIONS", {})
    parts = predicted(*CASES[name], train=train)
    assert whole.to_dict() == parts.to_dict()


@pytest.mark.parametrize("train", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", CASES)
def test_rows_are_those_of_a_measurement(name, train):
    build, size = CASES[name]
    whole = predicted(build, size, train=train)
    measured = initframe.propagate(build().train(train), torch.randn(size))
    assert [(row.name, row.shape, row.weight, row.depth) for row in whole.rows] == [
        (row.name, row.shape, row.weight, row.depth) for row in measured.rows
    ]


def test_layers_are_predicted_whole(monkeypatch):
    seen = []
    for function, one in list(functions.FUNCTIONS.items()):
        monkeypatch.setitem(
            functions.FUNCTIONS, function, lambda *args, one=one, **named: seen.append(one(*args, **named)) or seen[-1]
        )
    for name in ("rows", "sequences", "positions mixed", "batch norm"):
        seen.clear()
        predicted(*CASES[name], train=True)
        assert seen, name
        assert not any(one is None for one in seen), name


@pytest.mark.parametrize(
    ("build", "size"),
    [
        (lambda: nn.Linear(6, 4), (2, 5)),
        (lambda: nn.BatchNorm1d(6), (2, 5, 6)),
        (lambda: nn.BatchNorm1d(6), (1, 6)),
        (lambda: Asks(lambda x, w, b: nn.functional.batch_norm(x, None, None)), (2, 6)),
    ],
    ids=["features", "channels", "one value", "no statistics"],
)
def test_what_torch_refuses_is_refused(build, size):
    with pytest.raises((ValueError, RuntimeError)):
        build()(torch.randn(size))
    (problem,) = refused(initframe.predict, initframe.resolve(RULES, build()), torch.randn(size))
    assert problem.subject == "predict"


def test_casts_are_left_to_torch():
    asked = []

    class Cast(nn.Linear):
        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                out = super().forward(x)
            asked.append(out.dtype)
            return out

    initframe.predict(initframe.resolve(RULES, Cast(6, 4)), torch.randn(3, 6))
    assert asked == [torch.bfloat16]
