"""What every backend must hold; a backend is a function that fills a draw."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from initframe.stream import Draw, cpu, digest, eager, key

from . import oracle

KEY = key("features.0.weight", 1)
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
FEATURES = cpu.llvm.get_host_cpu_features()
PROCESSORS = {
    "host": cpu.host(),
    "avx512": cpu.Processor("x86-64-v4", "", 512),
    "avx2": cpu.Processor("x86-64-v3", "", 256),
    "sse": cpu.Processor("x86-64", "", 128),
}
NEEDED = {"avx512": "avx512dq", "avx2": "avx2", "sse": "sse2"}


def compiled(name):
    """Fill with kernels that are compiled for a processor, where the one at hand can run them."""

    def fill(draw):
        if name in NEEDED and not FEATURES.get(NEEDED[name]):
            pytest.skip(f"this processor has no {NEEDED[name]}")
        for task in cpu.prepare(draw, PROCESSORS[name]).tasks(draw.key, draw.out):
            assert task.run() == task.size

    return fill


def on_gpu(fill):
    """Fill memory of a GPU that is laid out as the draw's, and bring it back."""

    def filled(draw):
        out = torch.empty_strided(draw.out.shape, draw.out.stride(), dtype=draw.out.dtype, device="cuda")
        fill(replace(draw, out=out.copy_(draw.out)))
        draw.out.copy_(out)

    return filled


BACKENDS = {"eager": eager.fill} | {name: compiled(name) for name in PROCESSORS}
if torch.cuda.is_available():
    from initframe.stream import cuda

    BACKENDS |= {"eager on CUDA": on_gpu(eager.fill), "triton": on_gpu(cuda.fill)}


@pytest.fixture(params=BACKENDS)
def fill(request):
    return BACKENDS[request.param]


def dtype_of(distribution, dtype=torch.float32):
    return torch.int32 if distribution == "bits" else dtype


def drawn(fill, distribution, args, start, count, *, dtype=torch.float32, key=KEY):
    out = torch.full((1, count), -77, dtype=dtype_of(distribution, dtype))
    fill(Draw(out, distribution, args, key, start))
    return out[0]


def same(a, b):
    """Equal bits, signs of zeros included."""
    ints = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    return a.dtype == b.dtype and torch.equal(a.contiguous().view(ints), b.contiguous().view(ints))


@pytest.mark.parametrize("distribution", ["uniform", "normal", "truncated_normal"])
def test_the_vectors_of_version_1(fill, distribution):
    for v in oracle.VECTORS:
        if v["law"] == distribution:
            address = key(v["name"], int(v["seed"]), v["purpose"])
            x = drawn(fill, distribution, tuple(v["args"]), v["start"], 8, key=address)
            assert hexadecimal(x) == v["float32"]


@pytest.mark.parametrize("v", oracle.EDGES, ids=lambda v: f"{v['law']}({', '.join(map(str, v['args']))})")
def test_the_edges_of_version_1(fill, v):
    address = key(v["name"], int(v["seed"]), v["purpose"])
    x = drawn(fill, v["law"], tuple(v["args"]), v["start"], v["count"], key=address)
    assert hexadecimal(x[:8]) == v["float32"]
    assert f"{digest(x, v['start']):016x}" == v["digest"]


def hexadecimal(values):
    """The bits of float32 values, as known answers have them."""
    return [f"{bits & 0xFFFFFFFF:08x}" for bits in values.view(torch.int32).tolist()]


@pytest.mark.parametrize(("distribution", "args"), oracle.DISTRIBUTIONS)
def test_a_thousand_elements_equal_the_oracles(fill, distribution, args):
    assert same(drawn(fill, distribution, args, 3, 1000), oracle.values(distribution, args, KEY, range(3, 1003)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("distribution", "args"), [*oracle.DISTRIBUTIONS[:-1], ("normal", (0.0, 2e4)), ("normal", (0.0, 1e-7))]
)
def test_other_dtypes_are_the_float32_values_converted(fill, distribution, args, dtype):
    values = drawn(fill, distribution, args, 5, 3001)
    assert same(drawn(fill, distribution, args, 5, 3001, dtype=dtype), values.to(dtype))


@pytest.mark.parametrize("distribution", ["bits", "normal", "truncated_normal"])
@pytest.mark.parametrize("start", [(1 << 34) - 6, (1 << 62) + 1, (1 << 63) - 7, (1 << 64) - 13])
def test_counters_carry_beyond_32_bits(fill, distribution, start):
    args = dict(oracle.DISTRIBUTIONS)[distribution]
    assert same(
        drawn(fill, distribution, args, start, 13), oracle.values(distribution, args, KEY, range(start, start + 13))
    )


@pytest.mark.parametrize(("rows", "stride"), [(4, (1 << 62) + 3), (2, (1 << 64) - 20), (3, 1 << 62), (1, 1 << 70)])
def test_rows_may_lie_far_apart(fill, rows, stride):
    out = torch.zeros(rows, 9)
    fill(Draw(out, "normal", (0.0, 1.0), KEY, 5, stride))
    indices = [5 + r * stride + c for r in range(rows) for c in range(9)]
    assert same(out.flatten(), oracle.values("normal", (0.0, 1.0), KEY, indices))


@pytest.mark.parametrize("dtype", DTYPES)
def test_long_rows_aligned_or_not(fill, dtype):
    whole = drawn(fill, "normal", (0.5, 2.0), 0, 300_004, dtype=dtype)
    assert same(whole, drawn(eager.fill, "normal", (0.5, 2.0), 0, 300_004, dtype=dtype))
    for start, length in ((0, 300_003), (1, 300_000), (4, 299_999), (4, 300_000), (7, 131_075)):
        assert same(drawn(fill, "normal", (0.5, 2.0), start, length, dtype=dtype), whole[start : start + length])
    for rows, length, stride in ((3, 70_000, 70_004), (3, 70_001, 80_000), (2, 70_002, 70_002)):
        memory = torch.zeros(rows, length + 4, dtype=dtype)
        fill(Draw(memory[:, :length], "normal", (0.5, 2.0), KEY, 8, stride))
        for r in range(rows):
            assert same(memory[r, :length], whole[8 + r * stride :][:length])
        assert not memory[:, length:].any()


@settings(max_examples=60, deadline=None)
@given(
    distribution=st.sampled_from(oracle.DISTRIBUTIONS),
    dtype=st.sampled_from(DTYPES),
    shape=st.tuples(st.integers(0, 9), st.integers(0, 150), st.integers(0, 3)),
    place=st.tuples(st.integers(0, 70), st.integers(0, 200)),
)
@pytest.mark.parametrize("fill", BACKENDS.values(), ids=BACKENDS)
def test_rows_lie_anywhere_in_the_stream_and_in_memory(fill, distribution, dtype, shape, place):
    (distribution, args), (rows, length, gap), (start, stride) = distribution, shape, place
    dtype = dtype_of(distribution, dtype)
    whole = drawn(fill, distribution, args, 0, start + rows * stride + length + 1, dtype=dtype)
    memory = torch.full((rows, length + gap), 99, dtype=dtype)
    fill(Draw(memory[:, :length], distribution, args, KEY, start, stride))
    for r in range(rows):
        assert same(memory[r, :length], whole[start + r * stride :][:length])
    assert bool((memory[:, length:] == 99).all())


@pytest.mark.parametrize(
    ("distribution", "args"), [("uniform", (-0.1, 0.1)), ("uniform", (1.0, 1.001)), ("uniform", (-1.0, 0.0))]
)
def test_uniforms_stay_below_high(fill, distribution, args):
    x = drawn(fill, distribution, args, 0, 1 << 18).double()
    low, high = (float(torch.tensor(a, dtype=torch.float32)) for a in args)
    assert low <= float(x.min())
    assert float(x.max()) < high


@pytest.mark.parametrize(
    "args", [(0.0, 1.0, -2.0, 2.0), (0.1, 2.0, 0.5, 3.0), (0.0, 1.0, 5.0, 6.0), (3.0, 1.0, -9.0, 0.0)]
)
def test_truncated_normals_follow_their_distribution(fill, args):
    loc, scale, low, high = args
    x = drawn(fill, "truncated_normal", args, 0, 1 << 18).double()
    assert low <= float(x.min())
    assert float(x.max()) <= high
    # The mass below a value is uniform: within 5 standard errors.
    upper = [math.erfc((edge - loc) / scale / math.sqrt(2)) for edge in (low, high)]
    z = (x - loc) / scale
    mass = (upper[0] - torch.special.erfc(z / math.sqrt(2))) / (upper[0] - upper[1])
    assert abs(float((mass < 0.5).double().mean()) - 0.5) < 5 * 0.5 / 512
    assert abs(float(mass.mean()) - 0.5) < 5 * 12**-0.5 / 512


def test_normals_have_their_moments(fill):
    n = 1 << 18
    x = (drawn(fill, "normal", (2.0, 3.0), 0, n).double() - 2) / 3
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(float((x**power).mean()) - expected) < 5 * math.sqrt(variance / n)


def test_the_two_normals_of_a_pair_are_uncorrelated(fill):
    n = 1 << 17
    x = drawn(fill, "normal", (0.0, 1.0), 0, 2 * n).double().view(n, 2)
    assert abs(float((x[:, 0] * x[:, 1]).mean())) < 5 / math.sqrt(n)
    assert abs(float(((x[:, 0] ** 2 - 1) * (x[:, 1] ** 2 - 1)).mean())) < 5 * 2 / math.sqrt(n)
