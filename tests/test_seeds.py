"""The seeds: what people do by hand, as the recipes of docs/recipes.md."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
import yaml
from nets import Net, bits, changed
from refusals import refused
from safetensors.torch import save_file
from scipy import stats
from torch import nn
from torchvision.models import alexnet

import initframe
from initframe import models
from initframe.experiments import gap

PAGE = (Path(__file__).parents[1] / "docs/recipes.md").read_text(encoding="utf-8")


def recipe(name: str) -> dict:
    """The recipe that the page shows under a file's name."""
    found = re.search(rf"```yaml\n(# {re.escape(name)}\.yaml\n.*?)```", PAGE, re.DOTALL)
    assert found, f"docs/recipes.md shows no {name}.yaml"
    return yaml.safe_load(found[1])


# --- a linear layer --------------------------------------------------------------------------------------------------


def test_uniform_weights_and_a_constant_bias():
    layer = nn.Linear(5, 5)
    report = initframe.reinit(layer, recipe("linear"), seed=0)
    assert layer.weight.min() >= 0
    assert layer.weight.max() < 3
    assert report.plan["weight"].fill == initframe.Uniform(0, 3)
    assert layer.bias.eq(8).all()


def test_normal_weights_and_a_bias_of_zeros():
    layer = nn.Linear(5, 5)
    report = initframe.reinit(layer, recipe("linear_normal"), seed=0)
    assert report.plan["weight"].fill == initframe.Normal(0, 2)
    assert layer.weight.std() > 0.5
    assert layer.bias.eq(0).all()


@pytest.mark.parametrize(
    ("name", "fill"), [("linear_xavier", initframe.Uniform), ("linear_xavier_normal", initframe.Normal)]
)
def test_xavier_with_gain_1(name, fill):
    layer = nn.Linear(5, 5)
    before = bits(layer)
    report = initframe.reinit(layer, recipe(name), seed=0)
    assert isinstance(report.plan["weight"].fill, fill)
    assert math.isclose(report.plan["weight"].fill.std, math.sqrt(2 / 10))
    assert changed(layer, before) == {"weight"}


BOUND = math.sqrt(6 / 1000)
LAWS = {
    "linear": stats.uniform(0, 3),
    "linear_normal": stats.norm(0, 2),
    "linear_xavier": stats.uniform(-BOUND, 2 * BOUND),
    "linear_xavier_normal": stats.norm(0, math.sqrt(2 / 1000)),
}


@pytest.mark.parametrize("name", LAWS)
def test_the_laws_at_size(name):
    layer = nn.Linear(500, 500)
    initframe.reinit(layer, recipe(name), seed=0)
    assert stats.kstest(layer.weight.detach().flatten().numpy(), LAWS[name].cdf).pvalue > 1e-4


# --- one layer of a net ----------------------------------------------------------------------------------------------


def test_xavier_on_the_first_layer_and_zeros_on_both_biases():
    net = Net()
    before = bits(net)
    report = initframe.reinit(net, recipe("one_layer"), seed=0)
    assert changed(net, before) == {"fc1.weight", "fc1.bias", "fc2.bias"}
    assert report.plan.untouched == ("fc2.weight",)
    bound = math.sqrt(6 / (784 + 128))
    assert 0.99 * bound < net.fc1.weight.abs().max() <= bound
    assert net.fc1.bias.eq(0).all()
    assert net.fc2.bias.eq(0).all()
    assert net(torch.randn(1, 1, 28, 28)).shape == (1, 10)


# --- AlexNet ---------------------------------------------------------------------------------------------------------

NAMES = [f"features.{i}.{part}" for i in (0, 3, 6, 8, 10) for part in ("weight", "bias")]
NAMES += [f"classifier.{i}.{part}" for i in (1, 4, 6) for part in ("weight", "bias")]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_one_tensor_of_a_trained_alexnet(tmp_path, suffix):
    trained = alexnet()
    path = tmp_path / f"trained.{suffix}"
    save_file(trained.state_dict(), path) if suffix == "safetensors" else torch.save(trained.state_dict(), path)
    model = models.build({"source": "torchvision", "name": "alexnet", "checkpoint": str(path)})
    assert list(model.state_dict()) == NAMES
    held = {name: (parameter, parameter.data_ptr()) for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    initframe.reinit(model, recipe("first_layer"), seed=0)
    assert changed(model, bits(trained)) == {"features.0.weight"}
    bound = math.sqrt(2) * math.sqrt(6 / ((3 + 64) * 11 * 11))
    assert 0.99 * bound < model.features[0].weight.abs().max() <= bound
    for name, parameter in model.named_parameters():
        assert held[name] == (parameter, parameter.data_ptr())
        assert parameter.requires_grad
    assert optimizer.param_groups[0]["params"][0] is model.features[0].weight


# --- a net whose shapes come later -----------------------------------------------------------------------------------


@pytest.fixture
def lazy():
    return nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(1))


@pytest.fixture
def net(lazy):
    lazy(torch.rand(2, 20))
    return lazy


def test_before_the_first_forward_pass(lazy):
    for problem in refused(initframe.reinit, lazy, recipe("lazy_normal"), seed=0, kind=initframe.ResolveError):
        assert "lazy" in str(problem)


def test_normal_and_zeros(net):
    report = initframe.reinit(net, recipe("lazy_normal"), seed=0)
    assert report.plan["0.weight"].fill == initframe.Normal(0, 0.01)
    assert 0 < net[0].weight.abs().max() < 0.06
    assert net[0].bias.eq(0).all()


def test_constant_1(net):
    initframe.reinit(net, recipe("lazy_constant"), seed=0)
    for layer in (net[0], net[2]):
        assert layer.weight.eq(1).all()
        assert layer.bias.eq(0).all()


def test_two_rules_for_two_layers(net):
    initframe.reinit(net, recipe("lazy_two"), seed=0)
    assert net[0].weight.abs().max() <= math.sqrt(6 / 28)
    assert net[2].weight.eq(42).all()


def test_a_law_of_ones_own(net):
    plan = initframe.resolve(recipe("lazy_gap"), net)
    assert plan["0.weight"].fill.std == pytest.approx(math.sqrt(175 / 6))
    wide = nn.Sequential(nn.Linear(1000, 1000, bias=False))
    initframe.reinit(wide, recipe("lazy_gap"), seed=0)
    values = wide[0].weight.detach().flatten()
    zeros, high, low = values == 0, values >= 5, values <= -5
    assert bool((zeros | high | low).all())
    for part, share in ((zeros, 0.5), (high, 0.25), (low, 0.25)):
        assert abs(part.float().mean().item() - share) < 5 * math.sqrt(share * (1 - share) / len(values))
    for sizes in (values[high], -values[low]):
        assert stats.kstest(sizes.numpy(), stats.uniform(5, 5).cdf).pvalue > 1e-4
    assert abs(values.std().item() / plan["0.weight"].fill.std - 1) < 0.005


def test_the_law_needs_its_bounds_in_order():
    [problem] = refused(gap.gap, None, low=3, high=2, kind=initframe.ResolveError)
    assert "low" in str(problem)
    assert "high" in str(problem)


def test_one_more_for_everything(net):
    before = bits(net)
    initframe.reinit(net, recipe("lazy_current"), seed=0)
    assert all(torch.equal(value, before[name] + 1) for name, value in net.state_dict().items())


def test_one_element(net):
    before = bits(net)
    initframe.reinit(net, recipe("lazy_element"), seed=0)
    assert net[0].weight[0, 0] == 42
    before["0.weight"][0, 0] = 42
    assert changed(net, before) == set()


def test_one_more_and_then_one_element(net):
    before = bits(net)["0.weight"] + 1
    for name in ("lazy_current", "lazy_element"):
        initframe.reinit(net, recipe(name), seed=0)
    before[0, 0] = 42
    assert torch.equal(net[0].weight, before)
