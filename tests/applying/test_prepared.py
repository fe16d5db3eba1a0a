"""A second application of a plan only draws: what was prepared holds for the same memory, and for no other."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn

import initframe
from initframe import stream
from initframe.applying import draw
from initframe.stream import cpu


def bits(model):
    """Everything that a model holds, to be compared."""
    return {name: tensor.tolist() for name, tensor in model.state_dict().items()}


def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 8))


RULES = {"rules": {"*.weight": {"init": "normal", "std": 0.5}, "*.bias": "uniform", "1.*": "ones"}}


@pytest.fixture
def lookups(monkeypatch):
    """Counts how many draws are looked up."""
    found = []
    prepare = cpu.prepare
    monkeypatch.setattr(cpu, "prepare", lambda one, *rest: found.append(one.key) or prepare(one, *rest))
    return found


def fresh(seed, model=None):
    model = net() if model is None else model
    initframe.reinit(model, RULES, seed)
    return bits(model)


def test_a_second_application_looks_nothing_up_and_draws_the_same(lookups):
    model = net()
    plan = initframe.resolve(RULES, model)
    for seed in (0, 1, 0):
        initframe.apply(plan, seed)
        assert bits(model) == fresh(seed)
    looked_up = len(lookups)
    initframe.apply(plan, 2)
    assert len(lookups) == looked_up
    assert bits(model) == fresh(2)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.double(),
        lambda model: setattr(model[3], "weight", nn.Parameter(torch.zeros(8, 16))),
        lambda model: setattr(model[3].weight, "data", torch.zeros(16, 8).t()),
    ],
    ids=["dtype", "parameter", "strides"],
)
def test_other_memory_is_found(change):
    model = net()
    plan = initframe.resolve(RULES, model)
    initframe.apply(plan, 0)
    change(model)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.zero_()
    initframe.apply(initframe.resolve(RULES, model) if model[3].weight.dtype == torch.float64 else plan, 1)
    other = net()
    change(other)
    assert bits(model) == fresh(1, other)


def test_what_was_prepared_keeps_no_memory_alive():
    model = net()
    plan = initframe.resolve(RULES, model)
    initframe.apply(plan, 0)
    memory = weakref.ref(model[3].weight.data.untyped_storage())
    model[3].weight = nn.Parameter(torch.zeros(8, 16))
    gc.collect()
    assert memory() is None


def test_a_plan_that_was_applied_is_copied_and_pickled():
    plan = initframe.resolve(RULES, net())
    initframe.apply(plan, 0)
    both = copy.deepcopy(plan)
    initframe.apply(both, 1)
    assert bits(both.model) == fresh(1)
    again, model = pickle.loads(pickle.dumps(plan)), net()
    initframe.apply(again, 1, module=model)
    assert bits(model) == fresh(1)


def test_gradients_are_told_of_every_application():
    model = nn.Linear(3, 4)
    plan = initframe.resolve({"rules": {"*": {"init": "normal", "std": 1.0}}}, model)
    initframe.apply(plan, 0)
    saved = (model.weight * model.weight).sum()
    initframe.apply(plan, 1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        saved.backward()


def test_tensors_that_torch_draws_keep_their_way(monkeypatch):
    monkeypatch.setattr(stream.execution, "compiled", lambda _: None)
    model = net()
    plan = initframe.resolve(RULES, model)
    initframe.apply(plan, 0)
    initframe.apply(plan, 1)
    assert draw.ready([]) is None
    monkeypatch.undo()
    assert bits(model) == fresh(1)
