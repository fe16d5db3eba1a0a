"""Caches of functions that a model fills while it is predicted, or built without memory, serve real models after."""

import functools

import pytest
import torch
from torch import nn

import initframe
from initframe import models
from initframe.errors import InitframeError
from initframe.signal import shapes
from initframe.signal.inputs import example


def positions(count):
    return torch.arange(count, dtype=torch.float32)


def in_parts(count):
    return {"both": [positions(count), (positions(count),)]}


class Net(nn.Module):
    """A layer, plus positions from a function with a cache, as libraries keep them."""

    def __init__(self, table):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.table = table

    def forward(self, x):
        found = self.table(4)
        return self.layer(x) + (found["both"][0] if isinstance(found, dict) else found)


class Built(nn.Module):
    """A layer, and positions that the constructor keeps as a buffer."""

    def __init__(self, table):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("positions", table(4))

    def forward(self, x):
        return self.layer(x) + self.positions


CACHES = {
    "bounded": functools.lru_cache(maxsize=8),
    "unbounded": functools.cache,
    "one": functools.lru_cache(maxsize=1),
}
ZEROS = {"rules": {"*": "zeros"}}


@pytest.fixture(params=CACHES.values(), ids=CACHES)
def cached(request):
    return request.param


@pytest.mark.parametrize("table", [positions, in_parts])
def test_a_predicted_model_still_runs(cached, table):
    net = Net(cached(table))
    initframe.predict(initframe.resolve(ZEROS, net), torch.randn(2, 4))
    initframe.reinit(net, ZEROS)
    assert net(torch.zeros(2, 4)).tolist() == [[0.0, 1.0, 2.0, 3.0]] * 2


def test_calibration_by_prediction_leaves_caches_usable(cached):
    net = Net(cached(positions))
    initframe.calibrate(
        net, {"rules": {"*.weight": "xavier_normal", "*.bias": "zeros"}}, torch.randn(8, 4), method="predict"
    )
    assert net(torch.randn(2, 4)).isfinite().all()


def test_a_prediction_that_fails_leaves_caches_usable(cached):
    class Failing(Net):
        def forward(self, x):
            super().forward(x)
            raise ValueError("on purpose")

    net = Failing(cached(positions))
    with pytest.raises(InitframeError):
        initframe.predict(initframe.resolve(ZEROS, net), torch.randn(2, 4))
    assert type(net.table(4)) is torch.Tensor


def test_caches_of_others_keep_what_they_have():
    other = functools.cache(positions)
    kept = other(5)
    net = Net(functools.cache(positions))
    initframe.predict(initframe.resolve(ZEROS, net), torch.randn(2, 4))
    assert other(5) is kept


def test_a_prediction_without_caches_looks_for_none(monkeypatch):
    monkeypatch.setattr(shapes, "empty_caches", lambda _: pytest.fail("looked for caches"))
    net = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.MultiheadAttention(4, 2).out_proj)
    initframe.predict(initframe.resolve(ZEROS, net), torch.randn(2, 4))


def test_a_comparison_by_prediction_leaves_caches_usable(cached):
    table = cached(positions)
    initframe.compare(lambda: Built(table), [ZEROS], torch.empty(2, 4, device="meta"), predicted=True)
    assert not Built(table).positions.is_meta


def test_a_model_whose_size_was_looked_at_is_built_with_memory(cached):
    table = cached(positions)
    models._check_size("built", lambda: Built(table))
    assert not Built(table).positions.is_meta


def test_a_model_whose_input_was_looked_for_still_runs(cached):
    class Image(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.table = nn.Conv2d(3, 4, 1), cached(positions)

        def forward(self, x):
            return self.layer(x).mean((2, 3)) + self.table(4)

    net = Image()
    batch, _ = example(net, 2)
    assert net(batch).isfinite().all()


def test_tables_of_a_deferred_model_are_real(cached):
    table = cached(positions)
    with initframe.deferred():
        net = Built(table)
    assert net.layer.weight.is_meta
    assert net.positions.tolist() == table(4).tolist() == [0.0, 1.0, 2.0, 3.0]
