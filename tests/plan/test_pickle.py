"""A plan's pickle is the plan, without its model."""

import pickle

import pytest
from nets import bits, changed, rules
from torch import nn

import initframe
from initframe.construction.deferred import resolve_deferred

RECIPE = rules({"*.weight": "xavier_normal", "*.bias": "zeros"})


def test_a_pickled_plan_does_not_carry_its_model():
    small, large = (nn.Sequential(nn.Linear(width, width)) for width in (8, 512))
    sizes = []
    for model in (small, large):
        plan = initframe.resolve(RECIPE, model)
        text = pickle.dumps(plan)
        again = pickle.loads(text)
        assert (again, again.model) == (plan, None)
        initframe.apply(again, seed=1, module=model)
        other = nn.Sequential(nn.Linear(*model[0].weight.shape))
        initframe.apply(plan, seed=1, module=other)
        assert changed(other, bits(model)) == set()
        sizes.append(len(text))
    assert max(sizes) - min(sizes) < 64  # the digits of the sizes


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_the_plan_of_a_deferred_model_is_pickled_too(protocol):
    plan = resolve_deferred(RECIPE, lambda: nn.Linear(3, 3))
    assert pickle.loads(pickle.dumps(plan, protocol)) == plan
