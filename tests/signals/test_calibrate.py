"""Calibrated recipes: data that gives the target size anywhere, with everything that could not be reached said."""

import math

import pytest
import torch
from torch import nn

import initframe
from initframe.signal.calibrate import CalibrationWarning, calibrate, calibration
from initframe.signal.propagate import propagate
from tests.nets import bits, same_bits
from tests.refusals import refused

RECIPE = {"rules": {"*.weight": "xavier_normal", "*.bias": {"init": "uniform", "a": -0.1, "b": 0.1}}, "unused": "warn"}


class Net(nn.Module):
    """Convolutions, a residual branch, a layer that is called twice, biases."""

    def __init__(self):
        super().__init__()
        self.stem, self.branch = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.twice, self.head = nn.Linear(16, 16), nn.Linear(16, 5, bias=False)

    def forward(self, x):
        x = self.stem(x).relu()
        x = x + self.branch(x)
        x = self.twice(x.mean((2, 3)))
        return self.head(self.twice(x.tanh()))


@pytest.fixture
def batch():
    return torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("target", [1.0, 0.3])
def test_every_output_has_the_target_size(batch, target):
    model = Net()
    found = calibration(model, RECIPE, batch, target=target, seed=7)
    initframe.reinit(model, found.recipe, seed=7)
    first = {row.name: row.rms for row in reversed(propagate(model, batch).rows)}
    for name in ("stem", "branch", "twice", "head"):
        assert first[name] == pytest.approx(target, rel=1e-4)
    assert [row.name for row in found.rows] == ["stem.weight", "branch.weight", "twice.weight", "head.weight"]


def test_prediction_needs_no_memory_and_holds_for_every_seed(batch):
    with torch.device("meta"):
        absent = Net()
    recipe = {"rules": {**RECIPE["rules"]}}
    found = calibrate(absent, recipe, torch.empty(batch.shape, device="meta"), method="predict") if False else None
    with pytest.warns(CalibrationWarning, match="twice"):
        found = calibrate(absent, recipe, torch.empty(batch.shape, device="meta"), method="predict")
    model, squares = Net(), {}
    for seed in range(40):
        initframe.reinit(model, found, seed)
        for row in propagate(model, batch).rows:
            if row.call == 0 and row.depth:
                squares.setdefault(row.name, []).append(row.rms**2)
    for name, values in squares.items():
        assert math.sqrt(math.fsum(values) / len(values)) == pytest.approx(1, abs=0.15), name


def test_the_result_is_data(batch):
    model = Net()
    found = calibration(model, RECIPE, batch, seed=3).recipe
    assert initframe.load_recipe(found.to_dict()) == found
    initframe.reinit(model, found, seed=3)
    other = Net()
    initframe.reinit(other, found.to_dict(), seed=3)
    assert all(same_bits(value, other.state_dict()[name]) for name, value in model.state_dict().items())


def test_the_model_is_as_before(batch):
    model = Net()
    before, rng = bits(model), torch.get_rng_state()
    calibration(model, RECIPE, batch)
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(same_bits(value, before[name]) for name, value in model.state_dict().items())


def test_calibrating_again_changes_nothing(batch):
    model = Net()
    once = calibration(model, RECIPE, batch)
    again = calibration(model, once.recipe, batch)
    assert [row.factor for row in again.rows] == pytest.approx([1.0] * 4, rel=1e-5)


def test_a_tied_pair_is_set_by_its_first_call():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x).relu())

    model, x = Tied(), torch.randn(32, 16)
    found = calibration(model, {"rules": {"*.weight": "normal"}}, x)
    initframe.reinit(model, found.recipe, 0)
    assert model.a(x).square().mean().sqrt().item() == pytest.approx(1, rel=1e-4)
    assert len(found.rows) == 1
    assert "later call" in found.rows[0].reason


def test_what_has_no_factor_is_said():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.zero, self.q_proj, self.kept, self.idle, self.loud, self.twin = (nn.Linear(8, 8) for _ in range(6))

        def forward(self, x):
            return self.zero(x) + self.q_proj(x) + self.kept(x) + self.loud(x) + self.twin(x)

    recipe = {
        "rules": {
            "*.weight": "normal",
            "zero.weight": "zeros",
            "kept.weight": "keep",
            "loud.bias": {"init": "constant", "val": 5},
            "twin.weight": {"init": "copy", "source": "loud.weight"},
        }
    }
    found = calibration(Net(), recipe, torch.randn(4, 8))
    reasons = {row.name: row.reason for row in found.rows}
    assert all(reasons[name] for name in ("zero.weight", "q_proj.weight", "kept.weight", "loud.weight", "twin.weight"))
    assert found.unused == ("idle.weight",)
    assert not calibration(Net(), recipe, torch.randn(4, 8), attention=True).rows[1].reason


@pytest.mark.parametrize("options", [{"target": 0}, {"target": float("nan")}, {"target": "1"}, {"method": "guess"}])
def test_wrong_arguments(options, batch):
    assert refused(calibrate, Net(), RECIPE, batch, **options)


@pytest.mark.parametrize("init", ["normal", "kaiming_uniform", "trunc_normal", "orthogonal", "sparse", "keep"])
def test_a_factor_multiplies_what_the_initializer_makes(init):
    rule = {"match": "weight", "init": init, **({"sparsity": 0.5} if init == "sparse" else {})}
    plain, scaled = nn.Linear(6, 6), nn.Linear(6, 6)
    scaled.load_state_dict(plain.state_dict())
    initframe.reinit(plain, {"rules": {"w": rule}}, 5)
    initframe.reinit(scaled, {"rules": {"w": {**rule, "factor": "3 / 2"}}}, 5)
    torch.testing.assert_close(scaled.weight, 1.5 * plain.weight)
    plan = initframe.resolve({"rules": {"w": {**rule, "factor": 1.5}}}, scaled)
    if init != "keep":
        assert plan["weight"].fill.std == pytest.approx(
            1.5 * initframe.resolve({"rules": {"w": rule}}, plain)["weight"].fill.std
        )


@pytest.mark.parametrize("factor", [0, -1, "1 / 0", "nonsense +", "inf"])
def test_a_factor_is_a_positive_number(factor):
    assert refused(initframe.resolve, {"rules": {"weight": {"init": "normal", "factor": factor}}}, nn.Linear(2, 2))


def test_an_initializer_with_a_factor_of_its_own_keeps_it():
    plan = initframe.resolve({"rules": {"weight": {"init": "icnr", "factor": 2}}}, nn.Conv2d(2, 8, 1))
    assert plan["weight"].arguments["factor"] == 2
    assert plan["weight"].factor == 1


class Experts(nn.Module):
    """Stacked weights, of which every row of the input meets one."""

    def __init__(self):
        super().__init__()
        self.up = nn.Parameter(torch.empty(4, 32, 16))
        self.down = nn.Parameter(torch.empty(4, 16, 32))

    def forward(self, x):
        ends = torch.arange(1, 5, dtype=torch.int32) * (len(x) // 4)
        hidden = torch._grouped_mm(x, self.up.transpose(1, 2), offs=ends).relu()
        return torch.bmm(hidden.view(4, -1, 32), self.down.transpose(1, 2)).view(len(x), 16)


@pytest.mark.parametrize("method", ["measure", "predict"])
def test_stacked_experts_get_factors_and_keep_their_axes(method):
    model, batch = Experts(), torch.randn(256, 16)
    written = {"rules": {"*": {"init": "xavier_normal", "axes": ["batch", "out", "in"]}}}
    recipe = initframe.calibrate(model, written, batch, method=method)
    assert [rule.axes for rule in recipe.rules] == [("batch", "out", "in")] * 3
    initframe.reinit(model, recipe, seed=0)
    sizes = [model(batch).square().mean().sqrt().item()]
    sizes.append(torch.einsum("nei,eoi->neo", batch.view(-1, 4, 16), model.up).square().mean().sqrt().item())
    assert sizes == pytest.approx([1, 1], rel=0.15)
