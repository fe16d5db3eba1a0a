"""Scales, and what they keep."""

import math

import pytest
import torch

import initframe
from initializers.drawing import drawn, fill_of


def test_siren_keeps_the_law_of_every_layers_input():
    """sin(30·(Wx)) of inputs with the arcsine law: the argument is about N(0, 1), so the law returns."""
    generator = torch.Generator().manual_seed(0)
    x = torch.sin(math.pi * (torch.rand(2000, 512, generator=generator) - 0.5))
    for layer in range(6):
        before = 30 * x @ drawn("siren", (512, 512), name=f"{layer}.weight").T
        x = torch.sin(before)
        assert before.std().item() == pytest.approx(0.95, abs=0.06)
        assert x.std().item() == pytest.approx(math.sqrt(0.5 * (1 - math.exp(-2))), abs=0.05)


def test_sirens_first_layer_reads_coordinates():
    assert fill_of("siren", (256, 2), first=True).high == 0.5
    assert fill_of("siren", (256, 6), omega=1).high == 1.0


@pytest.mark.parametrize("shape", [(128, 512), (512, 128), (256, 256)])
def test_spectral_norms_are_as_the_fans_ratio(shape):
    fan_out, fan_in = shape
    norm = torch.linalg.matrix_norm(drawn("spectral", shape), 2).item()
    expected = fill_of("spectral", shape).std * (math.sqrt(fan_in) + math.sqrt(fan_out))
    assert norm == pytest.approx(expected, rel=0.05)
    assert 0.7 <= norm / math.sqrt(fan_out / fan_in) <= 2.1


def test_small_and_wang_scale_with_the_stream():
    assert fill_of("small_init", (4096, 1000)).std == pytest.approx(math.sqrt(2 / 5000))
    assert fill_of("small_init", (1000, 4000), dim=1000).std == pytest.approx(math.sqrt(2 / 5000))
    assert fill_of("wang_init", (100, 400), layers=8).std == pytest.approx(2 / 8 / 10)
    assert fill_of("wang_init", (100, 400), layers=8, dim=400).std == pytest.approx(2 / 8 / 20)


def test_wang_init_takes_the_depth_from_the_names():
    blocks = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(4))
    rules = {"out": {"match": "{layer}.weight", "init": "wang_init", "layers": "layers"}}
    plan = initframe.resolve({"rules": rules}, blocks)
    assert {a.fill.std for a in plan.assignments} == {2 / 4 / 4}


@pytest.mark.parametrize(
    ("init", "arguments", "message"),
    [
        ("siren", {"omega": 0}, "omega must be positive"),
        ("spectral", {"gain": -1}, "gain must not be negative"),
        ("small_init", {"dim": 0}, "dim must be positive"),
        ("wang_init", {"layers": 0}, "layers must be positive"),
    ],
)
def test_numbers_out_of_range_are_refused(init, arguments, message):
    with pytest.raises(initframe.ResolveError, match=message):
        fill_of(init, (4, 4), **arguments)


@pytest.mark.parametrize("init", ["siren", "spectral", "small_init"])
def test_scales_need_fans(init):
    with pytest.raises(initframe.ResolveError, match="2 or more dimensions"):
        fill_of(init, (4,))
