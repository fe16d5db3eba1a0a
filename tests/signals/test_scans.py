"""Predictions of running sums, and of images that are read between their pixels."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import initframe
from initframe.signal.predict import predict
from tests.signals.test_kinship import ALIKE, features
from tests.signals.test_predict import assert_near, both
from tests.signals.test_written_by_hand import RECIPE, Net, drawn, line

STEPS = torch.arange(1, 13)[:, None]
LONG = 0.3 * drawn(4, 50, 64) + drawn(4, 1, 64)


def causal(net, x):
    """Sums of what causal attention has mixed, which differs from position to position."""
    return functional.scaled_dot_product_attention(*(layer(x) for layer in net.qkv), is_causal=True).cumsum(1)


SCANS = {
    "of positions that agree": (lambda net, x: features(net, x).cumsum(1), ALIKE),
    "of independent positions": (lambda net, x: net.first(x).cumsum(1), drawn(4, 12, 64)),
    "of many positions": (lambda net, x: features(net, x).cumsum(1), LONG),
    "backwards and forwards": (lambda net, x: net.first(x).cumsum(1).cumsum(1), ALIKE),
    "along channels": (lambda net, x: features(net, x).cumsum(-1), drawn(8, 64)),
    "running means": (lambda net, x: features(net, x).cumsum(1) / STEPS, ALIKE),
    "discounted": (lambda net, x: features(net, x).cumsum(1) * 0.9**STEPS, ALIKE),
    "decays": (lambda net, x: torch.exp(-features(net, x).sigmoid().cumsum(1)), ALIKE),
    "a head": (lambda net, x: net.second(net.first(x).cumsum(1)), ALIKE),
}


@pytest.mark.parametrize("name", SCANS)
def test_running_sums(name):
    forward, batch = SCANS[name]
    model = Net(forward, first=line(64, 256), second=line(256, 256))
    predicted, squares = both(model, batch, RECIPE, seeds=10)
    assert not [note for note in predicted.notes if "rule" in note]
    assert_near(predicted, squares, tolerance=0.05)
    assert bool(predicted[""].approximate) == (name == "along channels")


def test_running_sums_after_causal_attention():
    model = Net(causal, qkv=nn.ModuleList(line(64, 64) for _ in range(3)))
    predicted, squares = both(model, drawn(4, 16, 64), RECIPE, seeds=12)
    assert_near(predicted, squares, tolerance=0.08)


def test_two_inputs_of_running_sums_agree_as_their_elements_do():
    x = torch.cat([ALIKE[:1], ALIKE[:1]])
    row = predict(initframe.resolve(RECIPE, Net(lambda net, x: net.first(x).cumsum(1), first=line(64, 64))), x)[""]
    assert row.correlation == pytest.approx(1.0, abs=1e-6)


IMAGES = drawn(4, 3, 16, 16)


def places(height, width):
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack([x, y], -1)[None]


def deformed(net, x):
    h = net.features(x).relu()
    grid = places(16, 16) + 0.2 * net.offsets(h).permute(0, 2, 3, 1)
    return functional.grid_sample(h, grid, align_corners=False)


def at(grid, **options):
    def read(net, x):
        return functional.grid_sample(net.features(x).relu(), grid.expand(4, -1, -1, -1), **options)

    return read


SAMPLED = {
    "offsets from the image": deformed,
    "a larger image": at(places(31, 31), align_corners=True),
    "half outside": at(2 * places(20, 20), align_corners=False),
    "half beyond the border": at(2 * places(20, 20), align_corners=False, padding_mode="border"),
    "the nearest pixel": at(0.7 * places(9, 9), align_corners=False, mode="nearest"),
    "between all pixels": at(places(16, 16) * 15 / 16 - 1 / 16, align_corners=False),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_images_read_between_their_pixels(name):
    model = Net(SAMPLED[name], features=nn.Conv2d(3, 32, 3, padding=1), offsets=nn.Conv2d(32, 2, 3, padding=1))
    predicted, squares = both(model, IMAGES, {**RECIPE, "unused": "warn"}, seeds=10)
    measured = math.fsum(squares["", 0]) / 10
    assert predicted[""].rms ** 2 == pytest.approx(measured, rel=0.12)
    assert predicted[""].approximate


def test_a_cubic_interpolation_is_not_guessed():
    model = Net(at(places(8, 8), align_corners=True, mode="bicubic"), features=nn.Conv2d(3, 8, 3))
    assert predict(initframe.resolve(RECIPE, model), IMAGES)[""].rms is None
