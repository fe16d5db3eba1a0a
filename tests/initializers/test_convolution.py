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


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_delta_orthogonal_states_its_moments(groups):
    layer = nn.Conv2d(64, 64, 3, groups=groups)
    report = initframe.reinit(layer, {"rules": {"weight": {"init": "delta_orthogonal", "gain": 2}}}, seed=0)
    assert layer.weight.square().mean().sqrt().item() == pytest.approx(report.plan["weight"].fill.std)


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.ConvTranspose1d])
def test_delta_orthogonal_keeps_norms_in_every_group_either_way_round(kind, groups):
    layer = kind(8, 16, 1, groups=groups, bias=False)
    initframe.reinit(layer, {"rules": {"weight": "delta_orthogonal"}}, seed=0)
    x = torch.randn(4, 8, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x).norm(), x.norm())
    first, *others = layer.weight.detach().chunk(groups)
    assert groups == 8 or not any(torch.equal(first, other) for other in others)  # 1 to 2 channels may agree


@pytest.mark.parametrize(
    ("layer", "fix"),
    [
        (nn.Conv2d(8, 4, 3), "got 4 and 8. Add where: d0 >= d1."),
        (nn.Conv2d(8, 4, 3, groups=2), "got 2 and 4 per group. Add where: d0 >= groups \\* d1."),
        (nn.ConvTranspose2d(16, 8, 3), "got 8 and 16. Add where: d0 <= d1."),
    ],
    ids=str,
)
def test_where_no_isometry_is_delta_orthogonal_says_so(layer, fix):
    rule = {"init": "delta_orthogonal"}
    with pytest.raises(initframe.ResolveError, match=fix):
        initframe.reinit(layer, {"rules": {"weight": rule}})
    condition = fix.partition("where: ")[2].replace("\\", "").rstrip(".")
    left = initframe.resolve({"rules": {"weight": rule | {"where": condition, "optional": True}}}, layer)
    assert left.untouched == ("weight", "bias")  # the fix does what it says


def test_delta_orthogonal_of_blocks_draws_each_for_itself():
    model = nn.Conv1d(4, 8, 1)
    initframe.reinit(model, {"rules": {"weight": {"init": "delta_orthogonal", "split": 2}}}, seed=0)
    one, other = model.weight.detach().split(4)
    assert not torch.equal(one, other)


def test_delta_orthogonal_needs_enough_outputs():
    with pytest.raises(initframe.ResolveError, match="got 4 and 8"):
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


def test_icnr_draws_its_filters_from_the_requested_distribution():
    fill = fill_of("icnr", (400, 64, 3, 3), factor=2)
    assert fill.std == pytest.approx((2 / (64 * 9)) ** 0.5)
    assert_moments(drawn("icnr", (400, 64, 3, 3), factor=2)[::4], 0.0, fill.std)
    by_outputs = fill_of("icnr", (400, 64, 3, 3), factor=2, mode="fan_out", gain=1, distribution="uniform")
    assert by_outputs.std == pytest.approx((1 / (100 * 9)) ** 0.5)


@pytest.mark.parametrize("factor", [0, 3])
def test_icnr_needs_outputs_to_repeat(factor):
    with pytest.raises(initframe.ResolveError, match="must divide the outputs"):
        fill_of("icnr", (8, 4, 3, 3), factor=factor)


@pytest.mark.parametrize(
    ("layer", "fact"),
    [(nn.Conv2d(4, 8, 3, groups=4), "must divide"), (nn.ConvTranspose2d(8, 8, 3), "transposed convolution")],
)
def test_icnr_repeats_outputs_of_one_group(layer, fact):
    with pytest.raises(initframe.ResolveError, match=fact):
        initframe.resolve({"rules": {"weight": {"init": "icnr", "factor": 2}}}, layer)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("stride", [2, 3, 4])
def test_bilinear_upsample_is_interpolation(stride, groups):
    size = 2 * stride - stride % 2
    layer = nn.ConvTranspose2d(4, 4, size, stride, padding=(stride - 1 + 1) // 2, groups=groups, bias=False)
    initframe.reinit(layer, {"rules": {"weight": "bilinear_upsample"}}, seed=0)
    image = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = functional.interpolate(image, scale_factor=stride, mode="bilinear", align_corners=False)
    inner = (..., slice(stride, -2 * stride), slice(stride, -2 * stride))  # the border has no outer neighbours
    torch.testing.assert_close(layer(image)[inner], smooth[inner])


@pytest.mark.parametrize("channels", [(4, 3, 1), (5, 1, 1), (4, 8, 4), (4, 8, 1)])
def test_bilinear_upsample_keeps_channels_apart(channels):
    inputs, outputs, groups = channels
    layer = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, groups=groups)
    with pytest.raises(initframe.ResolveError, match="keeps channels apart"):
        initframe.resolve({"rules": {"weight": "bilinear_upsample"}}, layer)


@pytest.mark.parametrize("outputs", [1, 5])
def test_bilinear_upsample_of_a_state_dict_takes_groups_on_trust(outputs):
    kernel = drawn("bilinear_upsample", (5, outputs, 4, 4))
    assert torch.equal(kernel.sum((2, 3)), 4 * torch.eye(outputs).expand(5, outputs))
