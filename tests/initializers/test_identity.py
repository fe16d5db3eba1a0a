"""Layers that start as the identity."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import initframe
from initializers.drawing import drawn, fill_of


def test_identity_passes_its_input_through():
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(x @ drawn("identity", (8, 8)).T, x)
    image = x.reshape(1, 3, 8)
    assert torch.equal(functional.conv1d(image, drawn("identity", (3, 3, 5)), padding=2), image)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.Conv1d(8, 8, 5, padding=2, groups=8),
        nn.ConvTranspose2d(8, 8, 3, padding=1),
        nn.ConvTranspose1d(8, 8, 3, padding=1, groups=4),
    ],
    ids=str,
)
@pytest.mark.parametrize("init", ["identity", "zero_init"])
@pytest.mark.parametrize("split", [None, 2])
def test_every_group_passes_its_own_channels(layer, init, split):
    rule = {"init": init} | ({"split": split} if split and layer.groups > 1 and not layer.transposed else {})
    initframe.reinit(layer, {"rules": {"weight": rule, "bias": "zeros"}}, seed=0)
    x = torch.randn(2, 8, *[7] * (layer.weight.ndim - 2), generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer(x), x)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.ConvTranspose1d])
def test_zero_init_is_an_isometry_of_every_group_either_way_round(kind, groups):
    layer = kind(5 * groups, 16 * groups, 1, groups=groups, bias=False)
    initframe.reinit(layer, {"rules": {"weight": "zero_init"}}, seed=0)
    x = torch.randn(4, 5 * groups, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x).norm(), x.norm())


@pytest.mark.parametrize("outputs", [16, 64, 128])
@pytest.mark.parametrize("kernel", [(), (3, 3)])
def test_zero_init_is_an_isometry_where_outputs_are_a_power_of_two(outputs, kernel):
    weight = (
        drawn("zero_init", (outputs, 12, *kernel)).flatten(2).sum(-1) if kernel else drawn("zero_init", (outputs, 12))
    )
    torch.testing.assert_close(weight.T @ weight, torch.eye(12), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(7, 7), (5, 9), (3, 8)])
def test_zero_init_is_the_identity_where_inputs_suffice(shape):
    assert torch.equal(drawn("zero_init", shape), torch.eye(*shape))


def test_zero_init_draws_nothing():
    assert torch.equal(drawn("zero_init", (24, 5), seed=1), drawn("zero_init", (24, 5), seed=2))
    fill = fill_of("zero_init", (24, 5))
    assert fill.std == pytest.approx(drawn("zero_init", (24, 5)).std(correction=0).item())


@pytest.mark.parametrize("init", ["identity", "zero_init"])
def test_vectors_are_no_layers(init):
    with pytest.raises(initframe.ResolveError, match="2 to 5 dimensions"):
        fill_of(init, (4,))
