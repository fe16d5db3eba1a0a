"""Fills as data: the moments they state are those of what is written, and they print and pack as what they are."""

import copy
import json
import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from samples import assert_moments

import initframe
from initframe import stream
from initframe.applying.regions import Region
from initframe.files.archive import open_archive
from initframe.fills import (
    Blocks,
    Chain,
    Constant,
    Copied,
    Dirac,
    Elementwise,
    Fill,
    Fixed,
    Identity,
    Keep,
    Mapped,
    Masked,
    Normal,
    Norms,
    OnCurrent,
    Orthogonal,
    Partial,
    Scale,
    Scattered,
    Shift,
    ShrinkPerturb,
    Sparse,
    Stacked,
    TruncatedNormal,
    Uniform,
    Whole,
)
from initframe.fills.composed import Around
from initframe.fills.derived import Chrono, LogUniform, Mimetic, Repeated, StepBias
from initframe.fills.pretrained import Inflated, Rechanneled, Resampled, Selected, Stored
from initframe.fills.scaled import scaled
from initframe.fills.structured import DeltaOrthogonal, PartialHadamard
from initframe.fills.table import BilinearKernel, Rows, SineCosine, Sinusoids, table

NUMBERS = st.floats(-10, 10)
ELEMENTWISE = [
    Constant(8),
    Uniform(0, 3),
    Uniform(-0.2, 0.2),
    Normal(0, 2),
    Normal(-5, 0.02),
    TruncatedNormal(0, 1, -2, 2),
    TruncatedNormal(0, 0.02, -2, 2),
    TruncatedNormal(1, 2, 1.5, 3),
    TruncatedNormal(0, 1, 4, 9),
    TruncatedNormal(0, 1, -6, -5),
    Elementwise(lambda u: -torch.log(u), 1.0, 1.0),
    StepBias(0.001, 0.1, 1e-4),
    LogUniform(1.0, 16.0),
    Chain(Uniform(0.5, 1.0), (("log", "x"), ("mul", "#0", 2.0))),
    scaled(StepBias(0.001, 0.1, 1e-4), 2.0),
]
WHOLE = [Identity((2, 2)), Dirac((2, 2, 3)), Orthogonal((2, 2), 2.0), Sparse((4, 4), 0.5)]
ON_CURRENT = [Keep(), Shift(1.0), Scale(2.0), ShrinkPerturb(0.5, 0.1)]
LINKED = [DeltaOrthogonal((4, 2, 3)), Repeated((8, 3), Normal(), 4), Chrono((8,), 100.0), Mimetic((4, 4), "q", 2, "a")]
FIXED = [
    Rows((2, 3), (0.1, 0.2, 0.3)),
    PartialHadamard((6, 2)),
    BilinearKernel((2, 2, 3, 4)),
    SineCosine((1, 5, 8), 1),
    Sinusoids((3, 6)),
    table(torch.arange(6.0).view(2, 3)),
    scaled(Rows((2, 3), (0.1, 0.2, 0.3)), 2.0),
]
COMPOSED = [
    Masked(Normal(), (2, 2), (0, 1), 3.0),
    Blocks((Normal(), Uniform()), (1, 1)),
    Stacked(Orthogonal((3, 2)), (2, 3, 2), ("batch", "out", "in")),
    Copied("a", Normal()),
    Partial(Normal(), (0,)),
]


def written(fill, shape, seed=0, **options):
    """A tensor of the shape, filled."""
    return initframe.fill_(torch.empty(shape, **options), fill, name="w", seed=seed)


@pytest.mark.parametrize("fill", ELEMENTWISE, ids=str)
def test_stated_moments_are_those_of_what_is_drawn(fill):
    assert_moments(written(fill, (500, 400)), fill.mean, fill.std)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_moments_in_other_dtypes(dtype):
    assert_moments(written(Normal(0.5, 0.25), (500, 400), dtype=dtype), 0.5, 0.25)


@given(NUMBERS, st.floats(0.01, 10), st.floats(-4, 4), st.floats(0.05, 6))
def test_moments_of_a_cut_normal_by_integration(loc, scale, start, width):
    fill = TruncatedNormal(loc, scale, loc + scale * start, loc + scale * (start + width))
    x = torch.linspace(fill.low, fill.high, 20001, dtype=torch.float64)
    weight = torch.exp(-(((x - loc) / scale) ** 2) / 2)
    mass = torch.trapezoid(weight, x)
    mean = torch.trapezoid(weight * x, x) / mass
    variance = torch.trapezoid(weight * (x - mean) ** 2, x) / mass
    assert fill.mean == pytest.approx(mean.item(), abs=1e-6 * scale, rel=1e-6)
    assert fill.std == pytest.approx(math.sqrt(variance.item()), rel=1e-4)


@given(NUMBERS, st.floats(0.01, 10), st.floats(-9, 9), st.floats(0.1, 5))
def test_a_cut_normal_mirrors(loc, scale, start, width):
    one = TruncatedNormal(loc, scale, loc + start * scale, loc + (start + width) * scale)
    other = TruncatedNormal(-loc, scale, -one.high, -one.low)
    assume(not math.isnan(one.mean))
    assert (one.mean, one.std) == pytest.approx((-other.mean, other.std), rel=1e-6, abs=1e-9)


def test_a_cut_without_mass_has_no_moments():
    assert math.isnan(TruncatedNormal(0, 1, 50, 51).mean)
    assert math.isnan(TruncatedNormal(0, 1, 50, 51).std)


FACES = {Fill, Mapped, OnCurrent, Whole, Scattered, Fixed, Around}


def kinds(face=Fill):
    """All kinds of fill that the package has."""
    found = {kind for below in face.__subclasses__() for kind in kinds(below)} | {face}
    return {kind for kind in found - FACES if kind.__module__.startswith("initframe.") and kind.__name__[0] != "_"}


@pytest.fixture
def of_every_kind(tmp_path):
    torch.save(
        {"w": torch.arange(64.0).view(4, 4, 4), "p": torch.arange(20.0).view(5, 4), "rgb": torch.ones(4, 3, 4)},
        tmp_path / "w.pt",
    )
    path = str(tmp_path / "w.pt")
    archive = open_archive(path)
    stored = [
        Stored((4, 4, 4), path, "w", archive),
        Inflated((4, 4, 2, 4), path, "w", archive),
        Resampled((1, 10, 4), path, "p", archive),
        Selected((2, 3, 4), path, "w", archive),
        Rechanneled((4, 4, 4), path, "rgb", archive, "repeat"),
    ]
    fills = [*ELEMENTWISE, *WHOLE, *LINKED, *FIXED, *ON_CURRENT, *COMPOSED, *stored]
    assert {type(fill) for fill in fills} == kinds() - {Norms}  # read from a model: tests/resolver/test_norms.py
    return fills


@pytest.mark.parametrize("default", ["meta", torch.float64, torch.bfloat16], ids=str)
def test_fills_know_nothing_of_torchs_defaults(of_every_kind, default):
    def rewritten(fill):
        """A tensor of ones, filled; then all of it but the first row, as a shard."""
        shape = getattr(fill, "shape", (2, 2))
        region = Region(shape, Region.whole(shape).extent, (((1, shape[0]),), *(((0, size),) for size in shape[1:])))
        yield initframe.fill_(torch.ones(shape, dtype=torch.float32, device="cpu"), fill, name="w")
        local = torch.ones(region.local_shape, dtype=torch.float32, device="cpu")
        yield initframe.fill_(local, fill, name="w", region=region)

    expected = [list(rewritten(fill)) for fill in of_every_kind]
    before = torch.get_default_dtype()
    try:
        with torch.device("meta" if default == "meta" else "cpu"):
            torch.set_default_dtype(before if default == "meta" else default)
            found = [list(rewritten(fill)) for fill in of_every_kind]
    finally:
        torch.set_default_dtype(before)
    for fill, one, other in zip(of_every_kind, expected, found, strict=True):
        assert all(map(torch.equal, one, other)), fill


SIZES = st.integers(1, 7)


@given(SIZES, SIZES)
def test_identity_states_its_own_moments(rows, columns):
    values = written(Identity((rows, columns)), (rows, columns))
    assert torch.equal(values, torch.eye(rows, columns))
    assert_exact(values, Identity((rows, columns)))


@given(st.integers(1, 3), SIZES, SIZES, st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_dirac_is_torchs_and_states_its_own_moments(groups, out, channels, kernel):
    shape = (groups * out, channels, *kernel)
    fill = Dirac(shape, groups)
    values = written(fill, shape)
    assert torch.equal(values, torch.nn.init.dirac_(torch.empty(shape), groups))
    assert_exact(values, fill)


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([(), (3,), (2, 2)]), st.floats(-3, 3))
def test_orthogonal_is_orthogonal(rows, columns, kernel, gain):
    shape = (rows, columns, *kernel)
    matrix = written(Orthogonal(shape, gain), shape, dtype=torch.float64).reshape(rows, -1)
    product = matrix @ matrix.T if rows <= matrix.shape[1] else matrix.T @ matrix
    assert torch.allclose(product, gain**2 * torch.eye(len(product), dtype=torch.float64), atol=1e-6)


def test_orthogonal_is_uniform_over_rotations():
    """Every entry of a Haar matrix has mean 0 and variance 1/n, whichever entry it is; the trace has variance 1."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([Orthogonal((3, 3)).build(lambda *_: torch.randn(9, generator=generator)) for _ in range(4000)])
    for entry in draws.flatten(1).T:
        assert_moments(entry, 0.0, Orthogonal((3, 3)).std)
    assert_moments(draws.diagonal(dim1=1, dim2=2).sum(1), 0.0, 1.0)


@given(st.integers(1, 40), st.integers(1, 20), st.floats(0, 1))
def test_sparse_has_its_zeros_in_every_column(rows, columns, sparsity):
    fill = Sparse((rows, columns), sparsity, 0.5)
    zeros = (written(fill, (rows, columns)) == 0).sum(0)
    assert torch.equal(zeros, torch.full((columns,), math.ceil(sparsity * rows)))


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)], ids=str)
@pytest.mark.parametrize(
    "kind", [Identity, Orthogonal, lambda s: Sparse(s, 0.5), PartialHadamard, DeltaOrthogonal, Dirac]
)
def test_whole_fills_of_nothing_write_nothing(kind, shape):
    fill = kind((*shape, 3) if kind in (Dirac, DeltaOrthogonal) else shape)
    assert written(fill, fill.shape).numel() == 0
    assert fill.mean == 0
    assert math.isfinite(fill.std)


def test_sparse_states_its_moments_and_spreads_its_zeros():
    fill = Sparse((50, 4000), 0.3, 0.5)
    values = written(fill, fill.shape)
    assert_moments(values, fill.mean, fill.std)
    for row in values:
        assert_moments((row == 0).double(), 0.3, math.sqrt(0.3 * 0.7))


def drawn(law, args, shape, name, seed, purpose):
    """A law of the stream over a whole tensor, as docs/stream.md has it."""
    return stream.draw(law, args, stream.key(name, seed, purpose), 0, math.prod(shape)).view(shape)


@pytest.mark.parametrize(("name", "seed"), [("w", 0), ("w", 1), ("v", 0)])
def test_sparse_is_zero_where_the_words_of_its_name_and_seed_are_smallest(name, seed):
    shape = (9, 40)
    values = initframe.fill_(torch.empty(shape), Sparse(shape, 0.4, 0.5), name=name, seed=seed)
    ranks = drawn("bits", (), shape, name, seed, "sparse").argsort(0).argsort(0)
    normal = drawn("normal", (0.0, 0.5), shape, name, seed, "")
    assert torch.equal(values, torch.where(ranks < 4, 0.0, normal))


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 2, 3), (1000, 1000)], ids=str)
def test_orthogonal_is_a_factor_of_the_streams_matrix(shape):
    """Qᵀ·A is upper triangular with a positive diagonal for the tall A alone that Q was made of, in float64."""
    q = written(Orthogonal(shape), shape, seed=2, dtype=torch.float64).flatten(1)
    a = drawn("normal", (0.0, 1.0), shape, "w", 2, "orthogonal").double().flatten(1)
    r = q.T @ a if len(q) >= q.shape[1] else q @ a.T
    assert (r.diagonal() > 0).all()
    assert r.tril(-1).abs().max() < 1e-11
    assert not torch.equal(q.float().double(), q)


@pytest.mark.parametrize("shape", [(1000, 950), (90, 150), (40, 30, 3)], ids=str)
def test_orthogonal_hardly_knows_how_many_threads_there_are(shape):
    before, values = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            values.append(written(Orthogonal(shape), shape, dtype=torch.float64))
    finally:
        torch.set_num_threads(before)
    assert all((other - values[0]).abs().max() <= 1e-11 for other in values)


@pytest.mark.parametrize("part", ["q", "k", "v", "proj"])
def test_mimetic_factorizes_the_streams_matrices(part):
    """docs/stream.md, followed step by step."""

    def factors(purpose, alpha, beta):
        z = drawn("normal", (0.0, 1.0), (32, 32), "a", 3, purpose).double()
        u, s, v = torch.linalg.svd(alpha / math.sqrt(32) * z + beta * torch.eye(32).double())
        signs = torch.stack([column[column.abs().argmax()].sign() for column in u.T])
        return u * signs * s.sqrt(), s.sqrt()[:, None] * signs[:, None] * v

    heads = [factors(f"mimetic q·k {head}", 0.7, 0.7) for head in range(4)]
    left, right = factors("mimetic v·proj", 0.4, -0.4)
    expected = {
        "q": torch.cat([left.T[:8] for left, _ in heads]),
        "k": torch.cat([right[:8] for _, right in heads]),
        "v": right,
        "proj": left,
    }
    found = written(Mimetic((32, 32), part, 4, "a"), (32, 32), seed=3, dtype=torch.float64)
    torch.testing.assert_close(found, expected[part], rtol=0, atol=1e-12)


@pytest.mark.parametrize("part", ["q", "k", "v", "proj"])
def test_mimetic_does_not_know_which_signs_a_library_gives_to_singular_vectors(part, monkeypatch):
    """They are a library's own, pair by pair; another processor's may be others."""

    def svd(matrix):
        u, s, v = decomposed(matrix)
        signs = torch.randint(0, 2, s.shape, generator=generator) * 2 - 1
        return u * signs, s, signs[:, None] * v

    fill, decomposed = Mimetic((64, 64), part, 4, "a"), torch.linalg.svd
    expected, generator = written(fill, fill.shape), torch.Generator().manual_seed(0)
    monkeypatch.setattr(torch.linalg, "svd", svd)
    assert torch.equal(written(fill, fill.shape), expected)


PROCESSOR = """
import torch
from initframe import fill_
from initframe.initializers import get
from initframe.model.slot import Slot
from initframe.stream import digest

steps = get("mamba_dt_bias")(Slot("b", (40_001,)))
print(digest(fill_(torch.empty(40_001), steps, name="b")))
"""


@pytest.mark.slow
def test_laws_of_torchs_functions_do_not_know_the_processor():
    """torch has code for several kinds of it, whose float32 functions differ in their last bit."""
    digests = {}
    for kind in ("default", "avx2", "avx512"):  # what a processor has not is not used
        environment = os.environ | {"ATEN_CPU_CAPABILITY": kind}
        done = subprocess.run([sys.executable, "-c", PROCESSOR], env=environment, capture_output=True, check=True)
        digests[kind] = done.stdout
    assert len(set(digests.values())) == 1, digests


def test_chrono_takes_its_logarithm_in_float64():
    """In float32, torch's is another one in a few elements of a hundred."""
    fill, uniform = Chrono((160_000,), 1000.0), Uniform(1.0, 999.0)
    expected = written(uniform, (160_000,)).chunk(4)[1].double().log().float()
    assert torch.equal(written(fill, (160_000,)).chunk(4)[1], expected)


def assert_exact(values, fill):
    """The moments of a fill that draws nothing are those of its elements."""
    std, mean = torch.std_mean(values.double(), correction=0)
    assert (fill.mean, fill.std) == pytest.approx((mean.item(), std.item()), abs=1e-12)


@given(st.lists(st.tuples(st.integers(1, 4), NUMBERS), min_size=1, max_size=4), st.integers(0, 1))
def test_blocks_mix_the_moments_of_their_parts(parts, dim):
    sizes = tuple(size for size, _ in parts)
    fill = Blocks(tuple(Constant(value) for _, value in parts), sizes, dim)
    expected = torch.tensor([value for size, value in parts for _ in range(size)], dtype=torch.float64)
    shape = (sum(sizes), 3) if dim == 0 else (3, sum(sizes))
    values = written(fill, shape, dtype=torch.float64)
    assert torch.equal(values.movedim(dim, 0)[:, 0], expected)
    assert_exact(values, fill)


def test_blocks_of_laws():
    fill = Blocks((Normal(0, 1), Uniform(2, 4), Constant(-1)), (200, 100, 100))
    assert_moments(written(fill, (400, 500)), fill.mean, fill.std)


@given(NUMBERS, NUMBERS, st.integers(0, 3), st.integers(0, 4), st.booleans())
def test_masks_mix_moments(inside, outside, row, column, whole_row):
    index = (row,) if whole_row else (row, column)
    fill = Masked(Constant(outside), (4, 5), index, inside)
    values = written(fill, (4, 5), dtype=torch.float64)
    expected = torch.full((4, 5), outside, dtype=torch.float64)
    expected[index] = inside
    assert torch.equal(values, expected)
    assert_exact(values, fill)


def test_a_mask_around_a_law():
    fill = Masked(Normal(1, 2), (20, 10_000), (3,), 7.0)
    values = written(fill, (20, 10_000))
    assert (values[3] == 7).all()
    assert_moments(values, fill.mean, fill.std)


@pytest.mark.parametrize("fill", ON_CURRENT, ids=str)
def test_what_starts_from_current_values_says_so(fill):
    assert fill.needs_current
    assert math.isnan(fill.mean)
    assert math.isnan(fill.std)
    assert Masked(fill, (2,), (0,), 0.0).needs_current
    assert Blocks((Constant(0), fill), (1, 1)).needs_current
    assert not Blocks((Constant(0),), (2,)).needs_current


@pytest.mark.parametrize("fill", [*ELEMENTWISE, *WHOLE, *ON_CURRENT, *COMPOSED], ids=str)
def test_fills_are_plain_data(fill):
    data = json.loads(json.dumps(fill.to_dict()))
    assert data["kind"] == fill.kind
    copied = copy.deepcopy(fill)
    assert copied == fill
    assert hash(copied) == hash(fill)
    assert fill in list(fill.parts())


@pytest.mark.parametrize(
    ("fill", "text"),
    [
        (Uniform(-0.5, 0.5), "uniform(±0.5)"),
        (Uniform(0, 3), "uniform(0, 3)"),
        (Normal(0.0, 1 / 3), "normal(0, 0.3333)"),
        (TruncatedNormal(0, 0.02, -0.04, 0.04), "truncated_normal(0, 0.02, -0.04, 0.04)"),
        (Orthogonal((5, 5), 2.0), "orthogonal(2)"),
        (Blocks((Normal(), Normal()), (2, 2)), "2 × normal(0, 1)"),
        (Blocks((Constant(0), Constant(1)), (2, 2)), "constant(0) | constant(1)"),
        (Masked(Normal(), (5, 5), (1,), 0.0), "normal(0, 1), 0 at [1]"),
    ],
)
def test_fills_print_what_tells_them_apart(fill, text):
    assert str(fill) == text
