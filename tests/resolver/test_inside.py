"""Rules that ask what a tensor lies inside of, and facts from modules that are not a tensor's layer."""

import pytest
from nets import rules
from refusals import refused
from torch import nn

import initframe


class Wide(nn.Module):
    """A block with two layers, and a number of its own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.last = nn.Linear(2, 2)


class Narrow(Wide):
    """Another one, of the same names."""


class Net(nn.Module):
    """Both, one of them inside of the other's kind."""

    def __init__(self):
        super().__init__()
        self.depth = 7
        self.wide = Wide()
        self.narrow = nn.Sequential(Narrow())
        self.scale = nn.Module()
        self.scale.init_value = 0.25
        self.scale.gamma = nn.Parameter(self.wide.first.bias.detach().clone())


def matched(**rule):
    recipe = rules(rule={"match": "*.last.weight", "init": "zeros", **rule})
    return [a.slot.name for a in initframe.resolve(recipe, Net()).assignments]


@pytest.mark.parametrize(
    ("inside", "names"),
    [
        ("Narrow", ["narrow.0.last.weight"]),
        ("Wide", ["wide.last.weight", "narrow.0.last.weight"]),  # Narrow is a Wide
        ("Seq*", ["narrow.0.last.weight"]),
        ("Net", ["wide.last.weight", "narrow.0.last.weight"]),
        ("Linear", ["wide.last.weight", "narrow.0.last.weight"]),  # its own module is around it, too
        (["Nothing", "Narrow"], ["narrow.0.last.weight"]),
    ],
)
def test_inside_asks_for_any_module_around(inside, names):
    assert matched(inside=inside) == names


def test_inside_that_leaves_nothing_says_what_there_is():
    (problem,) = refused(matched, inside="Wider", kind=initframe.ResolveError)
    assert "inside Wider leaves nothing" in problem.fact
    assert "Linear, Wide, Net" in problem.options


def test_a_tied_tensor_lies_inside_of_either_place():
    net = Net()
    net.narrow[0].last.weight = net.wide.last.weight
    recipe = rules(rule={"match": "*.last.weight", "inside": "Narrow", "init": "zeros"})
    assert [a.slot.name for a in initframe.resolve(recipe, net).assignments] == ["wide.last.weight"]


def test_the_owners_and_the_models_numbers_are_facts():
    recipe = rules(gamma={"match": "*.gamma", "init": "constant", "val": "init_value + depth"})
    assert initframe.resolve(recipe, Net())["scale.gamma"].fill.value == 7.25


def test_the_config_speaks_before_the_owner_and_the_owner_before_the_model():
    net = Net()
    net.config = {"init_value": 3}
    net.scale.depth = 1
    recipe = rules(gamma={"match": "*.gamma", "init": "constant", "val": "init_value + 10 * depth"})
    assert initframe.resolve(recipe, net)["scale.gamma"].fill.value == 13
