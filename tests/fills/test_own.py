"""A fill of one's own, a subclass, is a fill like any other: resolved, checked, written, sharded, saved, shown."""

import json
import math
import pickle
from dataclasses import dataclass, field
from functools import partial

import pytest
import torch
from refusals import refused
from safetensors.torch import load_file
from samples import assert_moments
from torch import nn

import initframe
from initframe import stream
from initframe.applying.regions import Region
from initframe.errors import ResolveError
from initframe.fills import Blocks, Constant, Fill, Fixed, Mapped, Masked, Normal, OnCurrent, Scattered, Whole


@dataclass(frozen=True)
class Laplace(Mapped):
    scale: float = 1.0
    mean = 0.0

    @property
    def std(self):
        return math.sqrt(2) * self.scale

    @property
    def reach(self):
        return self.scale * 25 * math.log(2)

    def transform(self, drawn):
        centred = drawn - 0.5
        return -self.scale * centred.sign() * torch.log1p(-2 * centred.abs())


@dataclass(frozen=True)
class LogNormal(Mapped):
    """From a normal instead of a uniform."""

    sigma: float

    @property
    def mean(self):
        return math.exp(self.sigma**2 / 2)

    @property
    def std(self):
        return self.mean * math.sqrt(math.expm1(self.sigma**2))

    @property
    def draws(self):
        return "normal", (0.0, self.sigma)

    def transform(self, drawn):
        return drawn.exp()


@dataclass(frozen=True)
class Steps(Mapped):
    """Named operations with float32 constants on another fill's draw: data, no callable."""

    source: Fill
    steps: tuple[tuple[str, float], ...]
    mean = std = math.nan

    @property
    def inner(self):
        return (self.source,)

    @property
    def draws(self):
        return self.source.distribution, self.source.args

    @property
    def reach(self):
        return math.inf

    def transform(self, drawn):
        for name, constant in self.steps:
            drawn = getattr(torch, name)(drawn, torch.tensor(constant, dtype=torch.float32, device=drawn.device))
        return drawn


@dataclass(frozen=True)
class Centred(Whole):
    """Rows whose sum is 0."""

    scale: float = 1.0
    mean = 0.0

    @property
    def std(self):
        return self.scale * math.sqrt(1 - 1 / self.shape[-1])

    def build(self, draw):
        normal = draw("normal", (0.0, self.scale), "centred")
        return normal - normal.mean(-1, keepdim=True)


@dataclass(frozen=True)
class Corners(Scattered):
    mean = std = math.nan
    reach = 2.0

    def elements(self, draw):
        rows, columns = self.shape
        here = torch.tensor([0, rows - 1]), torch.tensor([0, columns - 1])
        return here, draw("uniform", (1.0, 2.0), shape=(2,))


@dataclass(frozen=True)
class Ramp(Fixed):
    top: float = 1.0

    def values(self):
        return torch.linspace(0, self.top, math.prod(self.shape), dtype=torch.float32, device="cpu").view(self.shape)


@dataclass(frozen=True)
class Clipped(OnCurrent):
    limit: float

    def apply(self, current, normal):
        return current.clamp(-self.limit, self.limit)


@dataclass(frozen=True)
class Third(Normal):
    """A distribution of the stream under a name of one's own."""


SHAPE = (6, 5)
STEPS = Steps(Normal(0.0, 0.5), (("mul", 2.0), ("add", 0.1), ("maximum", -1.0)))
OWN = [
    Laplace(0.5),
    LogNormal(0.25),
    STEPS,
    Centred(SHAPE, 2.0),
    Corners(SHAPE),
    Ramp(SHAPE, 3.0),
    Clipped(0.5),
    Third(1, 2),
]
FRESH = [fill for fill in OWN if not fill.needs_current]
COMPOSED = [
    Masked(Laplace(), SHAPE, (2,), 0.0),
    Blocks((Laplace(), Centred((3, 5)), Constant(1)), (2, 3, 1)),
    Blocks((Ramp((6, 2)), LogNormal(0.5)), (2, 3), dim=1),
]
REGIONS = {
    "rows": (((1, 4),), ((0, 5),)),
    "columns": (((0, 6),), ((3, 5),)),
    "strided": (((0, 2), (4, 6)), ((1, 3),)),
    "none": ((), ((0, 5),)),
}


def plan_of(fill, model, table):
    """A plan that gives every weight the fill."""
    initframe.initializer("own")(lambda slot: fill)
    return initframe.resolve({"rules": {"*weight": "own", "*bias": "zeros"}}, model)


@pytest.mark.parametrize("fill", OWN, ids=str)
def test_it_resolves_and_is_written(fill, table):
    model = nn.Linear(5, 6)
    before = model.weight.detach().clone()
    plan = plan_of(fill, model, table)
    assert plan["weight"].fill == fill
    report = initframe.apply(plan, seed=3, measure=True)
    expected = initframe.fill_(before, fill, name="weight", seed=3)
    assert torch.equal(model.weight, expected)
    json.dumps(report.to_dict())
    json.dumps(initframe.manifest(report))


@pytest.mark.parametrize("runs", REGIONS.values(), ids=REGIONS)
@pytest.mark.parametrize("fill", [*OWN, *COMPOSED], ids=str)
def test_a_shard_has_the_numbers_of_the_whole(fill, runs):
    start = torch.arange(30.0).view(SHAPE) / 15 - 1
    region = Region(SHAPE, Region.whole(SHAPE).extent, runs)
    whole = initframe.fill_(start.clone(), fill, name="w", seed=7)
    part = initframe.fill_(region.pick(start).clone(), fill, name="w", seed=7, region=region)
    assert torch.equal(part, region.pick(whole))


@pytest.mark.parametrize("fill", FRESH, ids=str)
def test_a_checkpoint_holds_it(fill, tmp_path, table):
    plan = plan_of(fill, nn.Linear(5, 6, device="meta"), table)
    initframe.write_checkpoint(plan, tmp_path / "m.safetensors", seed=1)
    saved = load_file(tmp_path / "m.safetensors")["weight"]
    assert torch.equal(saved, initframe.fill_(torch.empty(SHAPE), fill, name="weight", seed=1))


@pytest.mark.parametrize("fill", [*OWN, *COMPOSED], ids=str)
def test_it_is_data(fill):
    assert pickle.loads(pickle.dumps(fill)) == fill
    assert hash(pickle.loads(pickle.dumps(fill))) == hash(fill)
    assert json.loads(json.dumps(fill.to_dict()))["kind"] == fill.kind


def test_the_constants_of_a_draw_inside_are_recorded(table):
    report = initframe.apply(plan_of(STEPS, nn.Linear(5, 6), table), seed=0)
    recorded = initframe.manifest(report)["others"][0]["fill"]
    assert recorded["constants"]["std"] == stream.constants("normal", (0.0, 0.5))["std"]
    assert recorded["source"]["kind"] == "normal"


def test_a_draw_inside_is_checked():
    assert Steps(Normal(0.0, -1.0), ()).problem(SHAPE, torch.float32) is not None


def test_it_is_shown_by_its_name_and_numbers(table):
    assert str(Laplace(0.5)) == "laplace(0.5)"
    assert "laplace(0.5)" in str(plan_of(Laplace(0.5), nn.Linear(5, 6), table))
    assert Laplace(0.5) != Laplace(0.25)


@pytest.mark.parametrize("fill", [Laplace(0.5), LogNormal(0.25), Centred((400, 500), 2.0)], ids=str)
def test_its_moments_are_those_that_it_states(fill):
    assert_moments(initframe.fill_(torch.empty(400, 500), fill, name="w"), fill.mean, fill.std)


@pytest.mark.parametrize("fill", [Laplace(0.5), LogNormal(0.25), Ramp(SHAPE, 3.0), Third(1, 2)], ids=str)
def test_torchs_generator_draws_what_is_one_element_at_a_time_or_fixed(fill, table):
    model = nn.Linear(5, 6)
    initframe.apply(plan_of(fill, model, table), seed=5, generator="torch")
    state = torch.random.get_rng_state()
    torch.manual_seed(5)
    if isinstance(fill, Mapped):
        name, args = fill.draws
        draw = {"uniform": torch.Tensor.uniform_, "normal": torch.Tensor.normal_}[name]
        expected = fill.transform(draw(torch.empty(SHAPE), *args))
    else:
        expected = torch.empty(SHAPE).normal_(1, 2) if isinstance(fill, Third) else fill.values()
    torch.random.set_rng_state(state)
    assert torch.equal(model.weight, expected)


def test_torchs_generator_has_no_whole_fill_of_ones_own_unless_the_fill_names_the_function(table):
    plan = plan_of(Centred(SHAPE), nn.Linear(5, 6), table)
    (problem,) = refused(initframe.apply, plan, seed=0, generator="torch", kind=ResolveError)
    assert "centred" in str(problem)

    @dataclass(frozen=True)
    class Like(Centred):
        torch_init = ("orthogonal_", (2.0,))

    model = nn.Linear(5, 6)
    initframe.apply(plan_of(Like(SHAPE), model, table), seed=0, generator="torch")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = nn.init.orthogonal_(torch.empty(SHAPE), 2.0)
    assert torch.equal(model.weight, expected)


# --- what is wrong with it is known before anything is written -------------------------------------------------------


@dataclass(frozen=True)
class Broken(Whole):
    how: str = field(default="")
    mean = std = 0.0

    def build(self, draw):
        values = {
            "shape": lambda: draw("normal", (0.0, 1.0))[:1],
            "number": lambda: 3.0,
            "complex": lambda: draw("normal", (0.0, 1.0)) * 1j,
            "raises": lambda: torch.linalg.cholesky(-torch.eye(3)),
            "bits": lambda: draw("bits", ())[0],
        }
        return values[self.how]()


@dataclass(frozen=True)
class Unfinished(Mapped):
    mean = std = 0.0


@dataclass(frozen=True)
class Growing(OnCurrent):
    def apply(self, current, normal):
        return torch.cat([current, normal()])


@dataclass(frozen=True)
class Stranger(Fill):
    mean = std = 0.0


BROKEN = [*map(partial(Broken, SHAPE), ("shape", "number", "complex", "raises", "bits")), Unfinished(), Growing()]


@pytest.mark.parametrize("fill", BROKEN, ids=str)
def test_code_that_fails_is_refused_before_any_tensor_is_written(fill, table):
    model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 6))
    initframe.initializer("own")(lambda slot: fill)
    plan = initframe.resolve({"rules": {"0.*": "ones", "1.weight": "own"}}, model)
    versions = [p._version for p in model.parameters()]
    (problem,) = refused(initframe.apply, plan, seed=0, kind=ResolveError)
    assert fill.kind in str(problem)
    assert [p._version for p in model.parameters()] == versions


@pytest.mark.parametrize(
    ("fill", "shape", "dtype"),
    [
        (Stranger(), SHAPE, torch.float32),
        (Masked(Stranger(), SHAPE, (0,)), SHAPE, torch.float32),
        (Laplace("wide"), SHAPE, torch.float32),
        (Laplace(1e5), SHAPE, torch.float16),
        (LogNormal(-1.0), SHAPE, torch.float32),
        (Centred((5, 6)), SHAPE, torch.float32),
        (Ramp(SHAPE, 1e5), SHAPE, torch.float16),
        (Third(0.0, -1.0), SHAPE, torch.float32),
    ],
    ids=str,
)
def test_it_is_checked_like_any_other(fill, shape, dtype, table):
    initframe.initializer("own")(lambda slot: fill)
    refused(initframe.resolve, {"rules": {"w": "own"}}, {"w": torch.zeros(shape, dtype=dtype)}, kind=ResolveError)
    refused(initframe.fill_, torch.zeros(shape, dtype=dtype), fill, name="w", kind=ResolveError)


def test_a_fill_that_is_not_hashable_is_tried_too():
    @dataclass(frozen=True)
    class Listed(Whole):
        weights: list = field(default_factory=list)
        mean = std = 0.0

        def build(self, draw):
            return torch.tensor(self.weights)

    assert Listed((2,), [1.0, 2.0]).trial(torch.device("cpu")) is None
    assert Listed((2,), [1.0]).trial(torch.device("cpu")) is not None


def test_values_of_another_shape_are_not_stretched():
    """What the numbers decide, a trial with other numbers may not find."""

    @dataclass(frozen=True)
    class Moody(Whole):
        mean = std = 0.0

        def build(self, draw):
            normal = draw("normal", (0.0, 1.0))
            return normal[:1] if normal[0, 0] == stream.draw("normal", (0.0, 1.0), stream.key("w", 0), 0, 1) else normal

    assert Moody(SHAPE).trial(torch.device("cpu")) is None
    refused(initframe.fill_, torch.zeros(SHAPE), Moody(SHAPE), name="w", seed=0, kind=ResolveError)


def test_the_trial_leaves_torchs_generator_alone():
    before = torch.random.get_rng_state()
    assert Centred(SHAPE).trial(torch.device("cpu")) is None
    assert torch.equal(torch.random.get_rng_state(), before)
