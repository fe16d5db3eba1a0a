"""Moments and digests of what is here; worlds of processes add up theirs in tests/distributed."""

import math

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from initframe import stream
from initframe.applying import measure
from initframe.applying.measure import Sample, bits, combine, digest_of, sample
from initframe.applying.placements import sharded
from initframe.applying.replicas import demand_agreement


@pytest.mark.parametrize("piece", [1, 7, 1000, 1 << 24])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_pieces_change_no_moment(piece, dtype, monkeypatch):
    values = torch.linspace(-1, 3, 1000).to(dtype).view(10, 100)
    monkeypatch.setattr(measure, "PIECE", piece)
    for tensor in (values, values.T):
        found = sample(tensor).measured
        assert found.moments == pytest.approx((tensor.double().mean().item(), tensor.double().std(correction=0).item()))
        assert found.digest == stream.digest(tensor)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e30])
def test_a_constant_has_no_spread_in_any_pieces(value, monkeypatch):
    monkeypatch.setattr(measure, "PIECE", 13)
    assert sample(torch.full((100,), value)).measured.moments == (torch.tensor(value).item(), 0.0)


def test_a_small_spread_about_a_large_mean_is_seen(monkeypatch):
    monkeypatch.setattr(measure, "PIECE", 64)
    tensor = 1e6 + torch.arange(256.0, dtype=torch.float64) / 256
    assert sample(tensor).measured.moments.std == pytest.approx(tensor.std(correction=0).item(), rel=1e-6)


@pytest.mark.parametrize("mean", [0.0, 0.5, 3.0, 5.0, 1e3])
@pytest.mark.parametrize("std", [1.0, 1e-25, 1e-13, 1e18])
@pytest.mark.parametrize("count", [1 << 16, (1 << 17) + 1, (1 << 18) - 5])
def test_sums_over_rows_measure_what_torch_does(mean, std, count):
    normal = torch.randn(count, generator=torch.Generator().manual_seed(0))
    tensor = (normal + mean) * std
    wide = tensor.double()
    found = sample(tensor).measured.moments
    scale = wide.square().mean().sqrt().item()
    assert found.mean == pytest.approx(wide.mean().item(), rel=1e-6, abs=1e-7 * scale)
    assert found.std == pytest.approx(wide.std(correction=0).item(), rel=1e-6)


def test_what_sums_over_rows_cannot_measure_is_measured_by_torch():
    few = torch.zeros(1 << 16)
    assert sample(few + 0.1).measured.moments == (torch.tensor(0.1).item(), 0.0)


STRANGE = {
    "one": [math.inf],
    "several": [-math.inf, -math.inf, -math.inf],
    "cancelling": [math.inf, -math.inf],
    "NaN": [math.nan],
    "NaN and infinite": [math.nan, math.inf],
}


@pytest.mark.parametrize("values", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("count", [5, 1 << 17])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("piece", [2, 1 << 24])
def test_infinite_values_have_the_mean_of_ieee_754_and_are_counted(values, count, dtype, piece, monkeypatch):
    monkeypatch.setattr(measure, "PIECE", max(piece, count // 8))
    tensor = torch.zeros(count, dtype=dtype)
    tensor[1 : 1 + len(values)] = torch.tensor(values, dtype=dtype)
    found = sample(tensor).measured
    assert found.moments == pytest.approx((tensor.mean().item(), math.nan), nan_ok=True)
    assert found.nonfinite == len(values)


def test_a_complex_number_counts_once():
    values = [complex(math.inf, 1), complex(math.nan, math.inf), complex(1, 2)]
    assert sample(torch.tensor(values)).measured.nonfinite == 2


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("values", STRANGE.values(), ids=STRANGE)
def test_a_mesh_measures_infinite_values_as_one_process_does(values):
    tensor = torch.tensor([1.0, 2.0, *values])
    spread = distribute_tensor(tensor, init_device_mesh("cpu", (1,)), [Shard(0)])
    alone, together = combine([sample(tensor), sample(spread)])
    assert repr(together) == repr(alone)  # NaN is NaN there


@pytest.mark.parametrize("values", [[1e200, -1e200], [1e200] * 5, [1e200, 0.0, -3e250]])
def test_squares_beyond_float64_are_no_error(values):
    tensor = torch.tensor(values, dtype=torch.float64)
    for one in (tensor, tensor.repeat(1 << 16)):
        found = sample(one).measured
        assert found.moments.mean == pytest.approx(one.mean().item(), rel=1e-9, abs=1e190)
        assert not found.moments.std < one.std(correction=0).item()
        assert found.nonfinite == 0


@pytest.mark.parametrize("tensor", [torch.zeros(0, 3), torch.zeros(2, device="meta")])
def test_nothing_has_no_moments(tensor):
    (measured,) = combine([sample(tensor)])
    assert math.isnan(measured.moments.mean)
    assert math.isnan(measured.moments.std)
    assert measured.digest == 0


def test_digests_of_regions_add_up():
    whole = torch.randn(13, 6, generator=torch.Generator().manual_seed(0))
    regions = [sharded(whole.shape, (3, 2), (i, j), (Shard(0), Shard(1))) for i in range(3) for j in range(2)]
    assert sum(digest_of(region.pick(whole), region) for region in regions) % 2**64 == stream.digest(whole)


def test_samples_without_a_mesh_stand_for_themselves():
    assert combine([Sample(4, 1.0, 4.0, 7), Sample(1, 2.0, 0.0, 8)]) == [((1.0, 1.0), 7, 0), ((2.0, 0.0), 8, 0)]


def test_one_process_agrees_with_itself():
    demand_agreement({"a": 1}, ["a", "b"])


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint16, torch.complex64, torch.float8_e4m3fn])
def test_any_numbers_have_bits_to_compare(dtype):
    one, other = torch.zeros(5).to(dtype), torch.ones(5).to(dtype)
    assert combine([bits(one)]) == combine([bits(one.clone())])
    assert bits(one) != bits(other)


FORMLESS = {
    "lazy": lambda: nn.LazyLinear(3).weight,
    "meta": lambda: torch.zeros(2, device="meta"),
    "sparse": lambda: torch.eye(2).to_sparse(),
    "quantized": lambda: torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8),
    "of 16 bytes": lambda: torch.zeros(2, dtype=torch.complex128),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("make", FORMLESS.values(), ids=FORMLESS)
def test_what_has_no_bits_is_not_compared(make):
    assert combine([bits(make())]) == [None]
