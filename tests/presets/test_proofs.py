"""Every preset against the constructor of its library, tensor by tensor: std, largest value, constants."""

import math

import pytest
import torch

import initframe
from presets.laws import assert_law
from presets.zoo import BUILDERS, COVERED

pytestmark = pytest.mark.slow

ENOUGH = 500
"""Values that tell a law; smaller tensors are collected over several builds."""


def recipe_of(names):
    """One preset, or several, one over the other."""
    first, *over = (initframe.load_recipe(name).to_dict() for name in names.split("+"))
    for recipe in over:
        first["rules"] |= recipe["rules"]
    return first


def cases(models):
    return [
        pytest.param(name, build, id=f"{name}-{i}") for name, found in models.items() for i, build in enumerate(found)
    ]


def state(model):
    return dict(model.named_parameters()) | dict(model.named_buffers())


def assert_planned(name, build, **numbers):
    """Build as often as the smallest tensor needs, and compare every tensor with what the preset plans for it."""
    torch.manual_seed(0)
    model, recipe = build(), recipe_of(name)
    plan = initframe.resolve(recipe | {"vars": recipe["vars"] | numbers}, model)
    assert plan.untouched == ()
    smallest = min((a.slot.numel for a in plan.assignments if a.fill.std > 0), default=ENOUGH)
    states = [state(model), *(state(build()) for _ in range(1, math.ceil(ENOUGH / smallest)))]
    for assignment in plan.assignments:
        drawn = torch.stack([s[assignment.slot.name].detach() for s in states])
        try:
            assert_law(assignment.fill, drawn)
        except AssertionError as error:
            raise AssertionError(f"{assignment.slot.name} is not {assignment.fill}: {error}") from None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "build"), cases(BUILDERS))
def test_a_library_builds_what_its_preset_plans(name, build):
    assert_planned(name, build)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "build"), cases(COVERED))
def test_a_preset_covers_the_relatives_of_its_model(name, build):
    with torch.device("meta"):
        model = build()
    assert initframe.resolve(recipe_of(name), model).untouched == ()
