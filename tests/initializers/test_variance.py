"""Variance scaling: one law, std = gain / √n, under every name it goes by."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from initframe.errors import ResolveError
from initframe.fills import Normal, TruncatedNormal, Uniform
from initframe.initializers import GAINS, get
from initframe.initializers.variance import TRUNCATED_STD
from initframe.model.slot import Slot

MODES = ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
DISTRIBUTIONS = ["uniform", "normal", "truncated_normal"]
FANS = st.integers(1, 10_000)


def slot(fan_in, fan_out, shape=(2, 2)):
    return Slot("w", shape, fan_in=fan_in, fan_out=fan_out)


def mean_fan(mode, fan_in, fan_out):
    """What n is."""
    return {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "fan_avg": (fan_in + fan_out) / 2,
        "fan_geo_avg": math.sqrt(fan_in * fan_out),
    }[mode]


@given(FANS, FANS, st.floats(0, 100), st.sampled_from(MODES), st.sampled_from(DISTRIBUTIONS))
def test_the_realized_std_is_the_one_asked_for(fan_in, fan_out, scale, mode, distribution):
    fill = get("variance_scaling")(slot(fan_in, fan_out), scale=scale, mode=mode, distribution=distribution)
    assert fill.std == pytest.approx(math.sqrt(scale / mean_fan(mode, fan_in, fan_out)), rel=1e-9)
    assert fill.mean == pytest.approx(0, abs=1e-12)


@given(FANS, FANS, st.floats(0, 100))
def test_each_distribution_is_what_it_says(fan_in, fan_out, scale):
    uniform, normal, cut = (
        get("variance_scaling")(slot(fan_in, fan_out), scale=scale, distribution=name) for name in DISTRIBUTIONS
    )
    assert isinstance(uniform, Uniform)
    assert uniform.low == -uniform.high
    assert isinstance(normal, Normal)
    assert isinstance(cut, TruncatedNormal)
    assert cut.high == -cut.low == 2 * cut.scale


def test_the_correction_of_the_cut_is_the_cut_normals_std():
    assert TruncatedNormal(0, 1, -2, 2).std == pytest.approx(TRUNCATED_STD, rel=1e-15)


@given(FANS, FANS, st.floats(0, 10))
def test_families_are_the_kernel_by_other_names(fan_in, fan_out, gain):
    here, scaling = slot(fan_in, fan_out), get("variance_scaling")

    def same(one, other):
        assert type(one) is type(other)
        assert one.args == pytest.approx(other.args, rel=1e-12)

    for name in ("uniform", "normal"):
        same(get(f"xavier_{name}")(here, gain=gain), scaling(here, scale=gain**2, mode="fan_avg", distribution=name))
        same(get(f"kaiming_{name}")(here, a=1.0, mode="fan_out"), scaling(here, mode="fan_out", distribution=name))
    same(get("lecun_normal")(here), scaling(here))
    same(get("lecun_uniform")(here), scaling(here, distribution="uniform"))


@given(st.lists(st.integers(1, 6), min_size=2, max_size=5).map(tuple), st.floats(0, 10), st.floats(-3, 3))
def test_stds_are_torchs_to_the_last_bit(shape, gain, slope):
    fan_in, fan_out = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    here = slot(fan_in, fan_out, shape)
    assert get("xavier_normal")(here, gain=gain).std == gain * math.sqrt(2.0 / float(fan_in + fan_out))
    assert get("xavier_uniform")(here, gain=gain).high == math.sqrt(3.0) * (
        gain * math.sqrt(2.0 / float(fan_in + fan_out))
    )
    kaiming = torch.nn.init.calculate_gain("leaky_relu", slope) / math.sqrt(fan_in)
    assert get("kaiming_normal")(here, a=slope).std == kaiming
    assert get("kaiming_uniform")(here, a=slope).high == math.sqrt(3.0) * kaiming


@pytest.mark.parametrize("nonlinearity", sorted(set(GAINS) - {"leaky_relu"}))
def test_kaiming_takes_every_gain_by_name_and_ignores_a_slope(nonlinearity):
    fill = get("kaiming_normal")(slot(4, 9), nonlinearity=nonlinearity, a=7.0)
    assert fill.std == GAINS[nonlinearity] / 2


def test_kaimings_default_is_relu():
    assert get("kaiming_normal")(slot(4, 9)).std == GAINS["relu"] / 2


WEIGHTS = ["variance_scaling", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"]
WEIGHTS += ["lecun_uniform", "lecun_normal"]


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("shape", [(), (5,)])
def test_a_bias_has_no_fans_of_its_own(name, shape):
    with pytest.raises(ResolveError, match=rf"2 or more dimensions, this one has {len(shape)}. .*where: ndim > 1"):
        get(name)(slot(5, 5, shape))


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("fans", [(0, 3), (3, 0), (-1, 3)])
def test_fans_are_positive(name, fans):
    with pytest.raises(ResolveError, match="fans must be positive"):
        get(name)(slot(*fans))


@pytest.mark.parametrize("name", ["xavier_uniform", "xavier_normal"])
def test_a_negative_gain_is_refused(name):
    with pytest.raises(ResolveError, match=r"gain must not be negative, got -1\."):
        get(name)(slot(3, 3), gain=-1.0)


def test_a_negative_scale_is_refused():
    with pytest.raises(ResolveError, match=r"scale must not be negative, got -1\."):
        get("variance_scaling")(slot(3, 3), scale=-1.0)


@pytest.mark.parametrize("name", ["kaiming_uniform", "kaiming_normal"])
def test_an_unknown_nonlinearity_is_told_the_closest(name):
    with pytest.raises(ResolveError, match=r"unknown nonlinearity 'rellu'. Closest: relu"):
        get(name)(slot(3, 3), nonlinearity="rellu")
