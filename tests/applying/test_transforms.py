"""Inside torch.func: what is written to is the model itself; what vmap and grad pass through is refused."""

import pytest
import torch
from nets import bits, changed, rules
from refusals import refused
from torch import nn
from torch.func import functional_call, grad, vmap

import initframe

RECIPE = rules({"0.weight": "xavier_normal", "1.weight": "orthogonal", "*.bias": "zeros"})


def net():
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))


TRANSFORMS = {
    "grad": lambda function: grad(function)(torch.ones(2, 4)),
    "vmap": lambda function: vmap(function)(torch.ones(3, 2, 4)),
    "both": lambda function: vmap(grad(function))(torch.ones(3, 2, 4)),
}


@pytest.mark.parametrize("measure", [False, True])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_a_model_is_filled_inside_of_a_transform_as_outside(transform, measure):
    plain, model = net(), net()
    initframe.reinit(plain, RECIPE, seed=1)

    def loss(x):
        initframe.reinit(model, RECIPE, seed=1, measure=measure)
        return model(x).sum()

    transform(loss)
    assert changed(model, bits(plain)) == set()
    assert all(type(parameter) is nn.Parameter for parameter in model.parameters())


CALLS = {
    "resolve": lambda plan, model: initframe.resolve(RECIPE, model),
    "reinit": lambda plan, model: initframe.reinit(model, RECIPE, seed=1),
    "apply": lambda plan, model: initframe.apply(plan, seed=1),
    "populate": lambda plan, model: initframe.populate(plan, [1]),
    "fill_": lambda plan, model: initframe.fill_(model[0].weight, initframe.Normal(0, 1), name="w"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_a_transform_passes_through_is_refused(call):
    model = net()
    plan = initframe.resolve(RECIPE, model)
    model[0].register_forward_pre_hook(lambda module, inputs: call(plan, model))
    before = bits(model)
    own = dict(model.named_parameters())
    stacked = {name: torch.stack([value, value]) for name, value in own.items()}
    for transformed in (
        lambda: grad(lambda values: functional_call(model, values, (torch.ones(2, 4),)).sum())(own),
        lambda: vmap(lambda values: functional_call(model, values, (torch.ones(2, 4),)))(stacked),
    ):
        problems = refused(transformed)
        assert all("torch.func" in problem.fact and problem.fix for problem in problems)
        assert changed(model, before) == set()
