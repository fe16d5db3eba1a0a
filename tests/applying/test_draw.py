"""A value depends on fill, seed, name and index, and on nothing else."""

import itertools
import math
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import same_bits
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import initframe
from initframe import stream
from initframe.applying import draw
from initframe.applying.draw import paint
from initframe.applying.piece import Piece
from initframe.applying.placements import held
from initframe.applying.regions import Region
from initframe.fills import (
    Blocks,
    Constant,
    Dirac,
    Elementwise,
    Identity,
    Keep,
    Masked,
    Normal,
    Orthogonal,
    Scale,
    Shift,
    ShrinkPerturb,
    Sparse,
    TruncatedNormal,
    Uniform,
)
from initframe.fills.derived import Mimetic
from initframe.fills.structured import DeltaOrthogonal, PartialHadamard
from initframe.stream import eager

SHAPE = (6, 10)
EXACT = [
    Constant(0.5),
    Constant(0),
    Constant(-0.0),
    Uniform(-1, 3),
    Normal(0.5, 2),
    TruncatedNormal(0, 1, -1, 2),
    Elementwise(lambda u: u * 4 - 1, 1.0, 4 / math.sqrt(12)),
    Identity(SHAPE),
    Sparse(SHAPE, 0.4, 1.0),
    Keep(),
    Shift(0.5),
    Scale(-2.0),
    ShrinkPerturb(0.5, 1.0),
    Masked(Normal(), SHAPE, (2,), 3.0),
    Masked(Keep(), SHAPE, (2, 3), 3.0),
    Blocks((Normal(), Uniform(), Constant(1)), (1, 3, 2)),
    Blocks((Normal(), ShrinkPerturb(1.0, 1.0), Identity((6, 4))), (1, 5, 4), dim=1),
    Masked(Blocks((Normal(), Uniform()), (4, 6), dim=1), SHAPE, (0, 9), 2.0),
]
FILLS = [*EXACT, Orthogonal(SHAPE, 2.0), Blocks((Orthogonal((2, 10)), Orthogonal((4, 10))), (2, 4))]
CURRENT = torch.arange(60.0).reshape(SHAPE) / 4  # exact in every dtype


def written(fill, out=None, name="w", seed=5, **options):
    """What a fill writes over the same current values."""
    out = torch.empty(SHAPE) if out is None else out
    region = options.get("region")
    out.copy_(CURRENT if region is None else region.pick(CURRENT))
    return initframe.fill_(out, fill, name=name, seed=seed, **options)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("fill", [f for f in EXACT if not f.needs_current], ids=str)
def test_narrow_dtypes_hold_the_float32_value_rounded(fill, dtype):
    assert same_bits(written(fill, torch.empty(SHAPE, dtype=dtype)), written(fill).to(dtype))


@pytest.mark.parametrize("fill", EXACT, ids=str)
def test_float64_holds_the_float32_value_widened(fill):
    if (isinstance(fill, Blocks) and fill.needs_current) or isinstance(fill, ShrinkPerturb):
        # The noise is float32's; it is added to the current values in their own width.
        wide = written(fill, torch.empty(SHAPE, dtype=torch.float64))
        assert torch.allclose(wide.float(), written(fill), rtol=1e-6, atol=1e-6)
    else:
        assert same_bits(written(fill, torch.empty(SHAPE, dtype=torch.float64)), written(fill).double())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_orthogonal_is_rounded_from_float64(dtype):
    fill = Orthogonal(SHAPE, 2.0)
    wide = written(fill, torch.empty(SHAPE, dtype=torch.float64))
    assert same_bits(written(fill, torch.empty(SHAPE, dtype=dtype)), wide.to(dtype))


LAYOUTS = {
    "transposed": lambda: torch.empty(10, 6).t(),
    "every second row": lambda: torch.empty(12, 10)[::2],
    "every second column": lambda: torch.empty(6, 20)[:, ::2],
    "a window": lambda: torch.empty(9, 13)[2:8, 1:11],
    "in a longer row": lambda: torch.empty(100)[7:67].view(SHAPE),
    "negated": lambda: torch._neg_view(torch.empty(SHAPE)),
    "imaginary parts": lambda: torch.empty(SHAPE, dtype=torch.complex64).conj().imag,
    "of a tensor of more dimensions": lambda: torch.empty(3, 10, 6).permute(0, 2, 1)[1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fill", FILLS, ids=str)
def test_memory_layout_does_not_matter(fill, layout):
    assert same_bits(written(fill, LAYOUTS[layout]()), written(fill))


IMAGE = (4, 6, 5, 3)
OF_IMAGES = [Normal(), Orthogonal(IMAGE), Dirac(IMAGE), Blocks((Normal(), Uniform()), (2, 4), dim=1)]


@pytest.mark.parametrize("fill", OF_IMAGES, ids=str)
def test_channels_last_does_not_matter(fill):
    dense = initframe.fill_(torch.empty(IMAGE), fill, name="w")
    last = torch.empty(IMAGE).to(memory_format=torch.channels_last)
    assert same_bits(initframe.fill_(last, fill, name="w"), dense)
    assert last.is_contiguous(memory_format=torch.channels_last)


@st.composite
def windows(draw):
    """A region of SHAPE: a few runs of rows, a few runs of columns."""

    def runs(size):
        cuts = sorted(draw(st.sets(st.integers(0, size), max_size=6)))
        return tuple(zip(cuts[::2], cuts[1::2], strict=False))

    return Region(SHAPE, tuple((0, size) for size in SHAPE), tuple(map(runs, SHAPE)))


@pytest.mark.parametrize("fill", FILLS, ids=str)
@given(region=windows())
@settings(max_examples=25)
def test_a_part_holds_the_elements_of_the_whole(fill, region):
    part = written(fill, torch.empty(region.local_shape), region=region)
    assert same_bits(part, region.pick(written(fill)))


@given(st.sampled_from(EXACT[:7]), st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_shapes_of_one_size_hold_the_same_elements(fill, shape):
    flat = initframe.fill_(torch.empty(math.prod(shape)), fill, name="w")
    assert same_bits(initframe.fill_(torch.empty(shape), fill, name="w").flatten(), flat)


@pytest.mark.parametrize("fill", [Normal(), Uniform(-1, 3), TruncatedNormal()], ids=str)
def test_blocks_and_masks_leave_every_element_its_own_number(fill):
    """An element's number is that of its index in the whole tensor, whatever block it stands in."""
    whole = written(fill)
    assert same_bits(written(Blocks((fill, fill), (4, 2))), whole)
    assert same_bits(written(Blocks((fill, fill, fill), (1, 2, 7), dim=1)), whole)
    whole[3] = 9
    assert same_bits(written(Masked(fill, SHAPE, (3,), 9.0)), whole)


@pytest.mark.parametrize("fill", [f for f in FILLS if f.needs_current is False], ids=str)
def test_what_was_there_does_not_matter(fill):
    out = torch.full(SHAPE, math.nan)
    assert same_bits(initframe.fill_(out, fill, name="w", seed=5), written(fill))


DRAWN = [Uniform(), Normal(), TruncatedNormal(), Orthogonal(SHAPE), Sparse(SHAPE, 0.5), ShrinkPerturb(0.0, 1.0)]


@pytest.mark.parametrize("fill", DRAWN, ids=str)
def test_names_and_seeds_draw_apart(fill):
    places = itertools.product(["w", "v", "w.0"], [0, 1, 2**32, 2**64 - 1])
    tensors = [written(fill, name=name, seed=seed).clone() for name, seed in places]
    assert not any(same_bits(one, other) for one, other in itertools.combinations(tensors, 2))


def test_perturbing_draws_from_a_purpose_of_its_own():
    """Noise that is added to an initialization of the same seed is not that initialization again."""
    size = 100_000
    values = initframe.fill_(torch.empty(size), Normal(), name="w", seed=3)
    noise = initframe.fill_(torch.zeros(size), ShrinkPerturb(1.0, 1.0), name="w", seed=3)
    assert abs((values * noise).mean()) < 5 / math.sqrt(size)
    assert torch.equal(initframe.fill_(values.clone(), ShrinkPerturb(1.0, 1.0), name="w", seed=3), values + noise)


def test_current_values_are_kept_shifted_scaled_and_shrunk():
    assert same_bits(written(Keep()), CURRENT)
    assert same_bits(written(Shift(1.0)), CURRENT + 1)
    assert same_bits(written(Scale(3.0)), CURRENT * 3)
    assert same_bits(written(ShrinkPerturb(0.5, 0.0)), CURRENT * 0.5)


def test_a_law_of_ones_own_maps_the_uniforms_of_its_name():
    law = Elementwise(torch.exp, 1.0, 1.0)
    assert same_bits(written(law), torch.exp(written(Uniform(0, 1))))


@given(st.integers(1, 300))
def test_uniforms_of_ones_own_law_are_inside_of_the_open_interval(seed):
    seen = []
    law = Elementwise(lambda u: seen.append((u.min(), u.max())) or u, 0.5, 0.3)
    initframe.fill_(torch.empty(1000), law, name="w", seed=seed)
    assert all(low > 0 and high < 1 for low, high in seen)


@pytest.mark.parametrize("size", [1, 37, 1 << 20])
def test_batches_and_pieces_do_not_matter(size, monkeypatch):
    shapes = {"a": (31, 9), "b": (7,), "c": (40, 40), "d": (), "e": (3, 5, 7)}
    recipe = {"rules": {"*": "normal", "c": "orthogonal", "a": {"init": "trunc_normal", "split": 31}}}
    usual, cut = ({name: torch.zeros(shape) for name, shape in shapes.items()} for _ in range(2))
    initframe.reinit(usual, recipe, seed=1)
    monkeypatch.setattr(draw, "AT_ONCE", size)
    monkeypatch.setattr(eager, "PIECE_ON_CPU", size)
    initframe.reinit(cut, recipe, seed=1)
    assert all(same_bits(cut[name], usual[name]) for name in shapes)


FACTORIZED = [
    Orthogonal((200, 300)),
    DeltaOrthogonal((60, 40, 3), groups=2),
    Mimetic((24, 24), "proj", 4, "attention"),
    Orthogonal((600, 500)),
]


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_matter(threads):
    def drawn():
        fills = [Normal(), *FACTORIZED]
        outs = [torch.empty(70_000), *(torch.empty(fill.shape, dtype=torch.float64) for fill in FACTORIZED)]
        paint([Piece(fill, *held(out), f"w{i}") for i, (fill, out) in enumerate(zip(fills, outs, strict=True))], 1)
        return outs

    before = torch.get_num_threads()
    expected = drawn()
    torch.set_num_threads(threads)
    try:
        assert all(map(same_bits, drawn(), expected))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_tensors_that_other_threads_build_may_require_gradients():
    weights = [torch.nn.Parameter(torch.empty(30, 20)) for _ in range(3)]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.no_grad():
            paint([Piece(Orthogonal((30, 20)), *held(weight), f"w{i}") for i, weight in enumerate(weights)], 1)
    finally:
        torch.set_num_threads(before)
    assert all(weight.requires_grad and bool(weight.isfinite().all()) for weight in weights)
    assert not any(map(same_bits, weights[1:], weights))


@dataclass(frozen=True)
class Twice(Orthogonal):
    """Draws what an orthogonal matrix is made of, and more."""

    def build(self, draw):
        return draw("normal", (0.0, 1.0), "orthogonal") - draw("uniform", (0.0, 2.0), "own")


def test_a_fill_that_draws_more_than_it_says_gets_what_it_asks_for():
    fill, one, other = Twice((30, 20)), torch.empty(30, 20), torch.empty(30, 20)
    paint([Piece(fill, one, Region.whole((30, 20)), "w")], 1)
    paint([Piece(replace(fill, gain=2.0), other, Region.whole((30, 20)), "w")], 1)
    normal = stream.draw("normal", (0.0, 1.0), stream.key("w", 1, "orthogonal"), 0, 600)
    uniform = stream.draw("uniform", (0.0, 2.0), stream.key("w", 1, "own"), 0, 600)
    assert same_bits(one, (normal - uniform).reshape(30, 20))
    assert same_bits(one, other)


class Largest(TorchDispatchMode):
    """Watches operations: the size in bytes of the largest memory that they make."""

    def __init__(self, *known):
        super().__init__()
        self.known, self.bytes = {tensor.data_ptr() for tensor in known}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, torch.Tensor) and made.untyped_storage().data_ptr() not in self.known:
                self.bytes = max(self.bytes, made.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize(
    ("fill", "share"),
    [
        (Identity((64, 64)), 1 / 8),
        (Dirac((32, 16, 5, 5), 2), 1 / 25),
        (PartialHadamard((64, 64)), 1 / 8),
        (PartialHadamard((32, 16, 5, 5)), 4 / 25),
        (DeltaOrthogonal((32, 16, 5, 5)), 2 / 25),
    ],
    ids=str,
)
@pytest.mark.parametrize("rows", [None, (3, 20)], ids=["whole", "some rows"])
def test_what_is_mostly_zero_takes_no_memory_of_the_tensors_size(fill, share, rows):
    region = Region.whole(fill.shape)
    if rows:
        region = replace(region, runs=((rows,), *region.runs[1:]))
    out = torch.empty(region.local_shape)
    with Largest(out) as largest:
        initframe.fill_(out, fill, name="w", region=region)
    assert largest.bytes <= share * math.prod(fill.shape) * 4
    whole = initframe.fill_(torch.empty(fill.shape), fill, name="w")
    assert torch.equal(out, region.pick(whole))
    assert whole.count_nonzero() <= share * whole.numel()
