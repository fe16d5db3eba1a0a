"""Fans: torch's own counts, and the counts by meaning."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import Conv1D
from torch import nn
from torch.nn.init import _calculate_fan_in_and_fan_out

from initframe.model.fans import Meaning, fans, meaning
from initframe.model.survey import survey

shapes = st.lists(st.integers(1, 9), min_size=2, max_size=5)
meanings = st.builds(
    Meaning,
    groups=st.integers(1, 4),
    stride=st.integers(1, 8),
    blocks=st.integers(1, 4),
    transposed=st.booleans(),
)


@given(shapes, meanings)
def test_torchs_counts_are_torchs_whatever_the_meaning(shape, how):
    counted = fans(shape, how)
    assert (counted.fan_in, counted.fan_out) == _calculate_fan_in_and_fan_out(torch.empty(shape))


@given(shapes)
def test_without_a_meaning_both_counts_agree(shape):
    counted = fans(shape)
    assert counted.effective_in == counted.fan_in
    assert counted.effective_out == counted.fan_out


@pytest.mark.parametrize("shape", [(), (5,)])
def test_fewer_than_two_dimensions_have_no_fans(shape):
    assert fans(shape) is None


# layer, shape of its weight, effective forward, effective backward
TABLE = [
    (nn.Linear(5, 7), "weight", 5, 7),
    (nn.Conv1d(6, 8, 3), "weight", 6 * 3, 8 * 3),
    (nn.Conv2d(6, 8, 3, groups=2), "weight", 3 * 9, 4 * 9),
    (nn.Conv2d(64, 64, 3, groups=8), "weight", 72, 72),
    (nn.Conv2d(6, 6, 3, groups=6, stride=2), "weight", 9, 9),
    (nn.Conv3d(2, 4, (1, 2, 3)), "weight", 2 * 6, 4 * 6),
    (nn.ConvTranspose1d(6, 8, 4, stride=2), "weight", 6 * 4 / 2, 8 * 4),
    (nn.ConvTranspose2d(64, 32, 4, stride=2), "weight", 256, 512),
    (nn.ConvTranspose2d(6, 8, 3, stride=2, groups=2), "weight", 3 * 9 / 4, 4 * 9),
    (nn.ConvTranspose3d(2, 4, 2, stride=(1, 2, 2)), "weight", 2 * 8 / 4, 4 * 8),
    (nn.Bilinear(3, 4, 5), "weight", 12, 20),
    (nn.Embedding(9, 4), "weight", 4, 9),
    (nn.EmbeddingBag(9, 4), "weight", 4, 9),
    (nn.MultiheadAttention(8, 2), "in_proj_weight", 8, 8),
    (nn.MultiheadAttention(8, 2), "out_proj.weight", 8, 8),
    (nn.MultiheadAttention(8, 2, kdim=5, vdim=6), "k_proj_weight", 5, 8),
    (nn.LSTM(3, 6), "weight_ih_l0", 3, 6),
    (nn.LSTM(3, 6, proj_size=2), "weight_hr_l0", 6, 2),
    (nn.GRU(3, 6, 2, bidirectional=True), "weight_hh_l1_reverse", 6, 6),
    (nn.RNN(3, 6), "weight_ih_l0", 3, 6),
    (nn.LSTMCell(3, 6), "weight_hh", 6, 6),
    (nn.GRUCell(3, 6), "weight_ih", 3, 6),
]


def slot_of(layer, name):
    return next(slot for slot in survey(layer).slots if slot.name == name)


@pytest.mark.parametrize(("layer", "name", "forward", "backward"), TABLE, ids=lambda value: str(value)[:40])
def test_effective_counts_of_torchs_layers(layer, name, forward, backward):
    slot = slot_of(layer, name)
    assert (slot.effective_fan_in, slot.effective_fan_out) == (forward, backward)
    assert (slot.fan_in, slot.fan_out) == _calculate_fan_in_and_fan_out(layer.get_parameter(name))


@pytest.mark.parametrize("layer", [layer for layer, *_ in TABLE], ids=str)
def test_a_bias_has_the_fans_of_its_weight(layer):
    slots = {slot.name: slot for slot in survey(layer).slots}
    for name, slot in slots.items():
        weight = slots.get(name.replace("bias", "weight"))
        if slot.ndim == 1 and weight is not None:
            assert (slot.fan_in, slot.effective_fan_out) == (weight.fan_in, weight.effective_fan_out)


def test_the_bias_of_separate_projections_belongs_to_no_single_weight():
    assert slot_of(nn.MultiheadAttention(8, 2, kdim=5, vdim=6), "in_proj_bias").fan_in is None


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.PReLU(4)])
def test_norms_and_slopes_have_no_fans(norm):
    assert all(slot.fan_in is None and slot.effective_fan_out is None for slot in survey(norm).slots)


def test_fused_tells_how_many_weights_share_a_tensor():
    assert slot_of(nn.LSTM(3, 6), "weight_ih_l0").fused == 4
    assert slot_of(nn.GRUCell(3, 6), "bias_ih").fused == 3
    assert slot_of(nn.MultiheadAttention(8, 2), "in_proj_weight").fused == 3
    assert slot_of(nn.Linear(3, 6), "weight").fused == 1


def test_the_transformers_conv1d_is_a_transposed_linear():
    weight, bias = survey(Conv1D(outputs=12, inputs=4)).slots
    assert (weight.fan_in, weight.fan_out) == (12, 4)
    assert (weight.effective_fan_in, weight.effective_fan_out) == (4, 12)
    assert (bias.effective_fan_in, bias.effective_fan_out) == (4, 12)
    assert (weight.output_dim, bias.output_dim) == (1, 1)
    assert weight.layer is None


def test_the_effective_forward_count_is_the_variance_of_a_convolutions_output():
    """Var(y) = effective fan_in · Var(w) for white input, away from the border, for every kind of convolution."""
    generator = torch.Generator().manual_seed(0)
    for layer in (nn.Conv2d(16, 16, 3, groups=4), nn.ConvTranspose2d(32, 8, 4, stride=2)):
        with torch.no_grad():
            layer.weight.normal_(generator=generator)
            layer.bias.zero_()
            outputs = layer(torch.randn(64, layer.in_channels, 12, 12, generator=generator))[..., 4:-4, 4:-4]
        # the weights are few: their own sample variance carries the relative error sqrt(2 / numel)
        error = math.sqrt(2 / layer.weight.numel()) + math.sqrt(2 / outputs.numel()) * 3
        expected = survey(layer).slots[0].effective_fan_in
        assert abs(outputs.var().item() / expected - 1) < 5 * error


def test_a_layer_of_ones_own_has_the_meaning_of_its_base():
    class Mine(nn.ConvTranspose1d):
        pass

    assert survey(Mine(4, 6, 2, stride=2)).slots[0].effective_fan_in == 4
    assert meaning(None, "weight") == Meaning()


@pytest.mark.parametrize("change", [{"stride": (0, 2)}, {"stride": "no"}, {"groups": 0}, {"groups": -1.5}])
def test_settings_that_no_convolution_can_run_with_are_none(change):
    layer = nn.ConvTranspose2d(4, 6, 3)
    vars(layer).update(change)
    weight = survey(layer).slots[0]
    assert (weight.effective_fan_in, weight.effective_fan_out) == (36, 54)
