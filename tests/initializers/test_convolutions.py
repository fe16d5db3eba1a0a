"""Isometry, and upsampling that is what it says."""

import pytest
import torch
from samples import assert_moments
from torch import nn
from torch.nn import functional

import initframe
from initializers.drawing import drawn, fill_of


@pytest.mark.parametrize("size", [1, 3, 4, 5])
@pytest.mark.parametrize("channels", [(8, 8), (12, 8)])
def test_delta_orthogonal_keeps_every_signals_norm(size, channels):
    outputs, inputs = channels
    weight = drawn("delta_orthogonal", (outputs, inputs, size, size), gain=1.5)
    signal = torch.randn(4, inputs, 9, 9, generator=torch.Generator().manual_seed(0))
    before, after = size // 2, (size - 1) // 2
    padded = functional.pad(signal, (before, after, before, after), mode="circular")
    result = functional.conv2d(padded, weight)
    torch.testing.assert_close(result.flatten(1).norm(dim=1), 1.5 * signal.flatten(1).norm(dim=1))


def test_delta_orthogonal_states_its_moments():
    fill = fill_of("delta_orthogonal", (64, 64, 3, 3), gain=2)
    weight = drawn("delta_orthogonal", (64, 64, 3, 3), gain=2)
    assert weight.square().mean().sqrt().item() == pytest.approx(fill.std)


def test_delta_orthogonal_of_blocks_draws_each_for_itself():
    model = nn.Conv1d(4, 8, 1)
    initframe.reinit(model, {"rules": {"weight": {"init": "delta_orthogonal", "split": 2}}}, seed=0)
    one, other = model.weight.detach().split(4)
    assert not torch.equal(one, other)


def test_delta_orthogonal_needs_enough_outputs():
    with pytest.raises(initframe.ResolveError, match="no fewer outputs than inputs, got 4 and 8"):
        fill_of("delta_orthogonal", (4, 8, 3))
    with pytest.raises(initframe.ResolveError, match="3 to 5 dimensions"):
        fill_of("delta_orthogonal", (4, 4))


@pytest.mark.parametrize("factor", [2, 3])
def test_icnr_makes_pixel_shuffle_the_nearest_neighbour(factor):
    weight = drawn("icnr", (5 * factor**2, 4, 3, 3), factor=factor)
    image = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    shuffled = functional.pixel_shuffle(functional.conv2d(image, weight, padding=1), factor)
    small = functional.conv2d(image, weight[:: factor**2], padding=1)
    torch.testing.assert_close(shuffled, functional.interpolate(small, scale_factor=factor, mode="nearest"))


def test_icnr_draws_its_filters_by_the_law_that_was_asked_for():
    fill = fill_of("icnr", (400, 64, 3, 3), factor=2)
    assert fill.std == pytest.approx((2 / (64 * 9)) ** 0.5)
    assert_moments(drawn("icnr", (400, 64, 3, 3), factor=2)[::4], 0.0, fill.std)
    by_outputs = fill_of("icnr", (400, 64, 3, 3), factor=2, mode="fan_out", gain=1, distribution="uniform")
    assert by_outputs.std == pytest.approx((1 / (100 * 9)) ** 0.5)


@pytest.mark.parametrize("factor", [0, 3])
def test_icnr_needs_outputs_to_repeat(factor):
    with pytest.raises(initframe.ResolveError, match="must divide the outputs"):
        fill_of("icnr", (8, 4, 3, 3), factor=factor)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("stride", [2, 3, 4])
def test_bilinear_upsample_is_interpolation(stride, groups):
    size = 2 * stride - stride % 2
    layer = nn.ConvTranspose2d(3, 3, size, stride, padding=(stride - 1 + 1) // 2, groups=groups, bias=False)
    initframe.reinit(layer, {"rules": {"weight": "bilinear_upsample"}}, seed=0)
    image = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = functional.interpolate(image, scale_factor=stride, mode="bilinear", align_corners=False)
    inner = (..., slice(stride, -2 * stride), slice(stride, -2 * stride))  # the border has no outer neighbours
    torch.testing.assert_close(layer(image)[inner], smooth[inner])


def test_bilinear_upsample_keeps_channels_apart():
    with pytest.raises(initframe.ResolveError, match="keeps channels apart"):
        fill_of("bilinear_upsample", (4, 3, 4, 4))
