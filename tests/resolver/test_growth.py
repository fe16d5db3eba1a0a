"""Resolving and applying cost as much as there are tensors: counted in calls, which no other program disturbs."""

import copy

import pytest
from torch import nn
from torch.nn.utils import parametrizations

import initframe
from tests.calls import calls

FEW = 24


def layers(count):
    return nn.Sequential(*(nn.Linear(2, 2) for _ in range(count)))


def online_and_target(count):
    model = nn.ModuleDict({"online": layers(count)})
    model["target"] = copy.deepcopy(model["online"])
    return model


def tied(count):
    model = layers(2 * count)
    for i in range(count):
        model[count + i].weight = model[i].weight
    return model


def normed(count):
    return nn.Sequential(*(parametrizations.weight_norm(nn.Linear(2, 2)) for _ in range(count // 8)))


def with_statistics(count):
    return nn.Sequential(*(nn.BatchNorm1d(2) for _ in range(count)))


WEIGHTS = {"*.weight": "xavier_uniform"}
COPIES = {"online.*": "zeros", "targets": {"match": "target.*", "init": "copy", "source": "online.*"}}
KEPT = {"online.*": "keep", "targets": {"match": "target.*", "init": "copy", "source": "online.*"}}
CASES = {
    "assigned": (layers, {"*": "zeros"}, None),
    "untouched": (layers, {"0.weight": "zeros"}, None),
    "untouched buffers": (with_statistics, {"*.weight": "ones"}, None),
    "out of sight": (layers, {"*": "zeros"}, ["0.*"]),
    "shadowed": (layers, {"*": "zeros", **WEIGHTS}, None),
    "copied": (online_and_target, COPIES, None),
    "copied from memory": (online_and_target, KEPT, None),
    "tied": (tied, WEIGHTS, None),
    "parametrized": (normed, WEIGHTS, None),
}


@pytest.mark.parametrize(("build", "rules", "only"), CASES.values(), ids=CASES)
def test_work_grows_as_the_number_of_tensors_does(build, rules, only):
    recipe = initframe.load_recipe({"rules": rules})
    initframe.reinit(build(8), recipe, only=only)  # compiles what it draws with
    counts = []
    for count in (FEW, 2 * FEW):
        model = build(count)
        plan = initframe.resolve(recipe, model)
        counts.append((calls(initframe.resolve, recipe, model, only=only), calls(initframe.apply, plan, only=only)))
    for few, many in zip(*counts, strict=True):
        assert 1.5 * few < many <= 2.2 * few


def test_work_that_grows_faster_is_seen():
    def quadratic(count):
        return sum(1 for i in range(count) for j in range(count) if max(i, j))

    assert calls(quadratic, 2 * FEW) > 3.5 * calls(quadratic, FEW)
