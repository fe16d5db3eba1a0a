"""A call surveys a model once, a plan no more often than its model changes, and a pickle leaves the model behind."""

import copy
import pickle
import sys

import pytest
import torch
from nets import Tower, bits, changed, convnet, rules, same_bits
from torch import nn
from torch.nn.utils import parametrizations

import initframe
from initframe.applying.write_checkpoint import write_checkpoint
from initframe.construction.deferred import resolve_deferred
from initframe.model.survey import survey

RECIPE = rules({"*": "zeros", "weights": {"match": "*.weight", "init": "normal"}})


def normed():
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 3)), nn.Linear(3, 3))


@pytest.fixture
def surveys(monkeypatch):
    """What was surveyed, wherever the function is bound."""
    seen, real = [], survey

    def counting(model):
        seen.append(model)
        return real(model)

    for name, module in list(sys.modules.items()):
        if name.startswith("initframe") and getattr(module, "survey", None) is real:
            monkeypatch.setattr(module, "survey", counting)
    return seen


def deferred(build):
    with initframe.deferred():
        return build()


def resolve_and_apply(model):
    initframe.apply(initframe.resolve(RECIPE, model), seed=1)


def reset_often(model):
    plan = initframe.resolve(RECIPE, model)
    for seed in range(5):
        initframe.apply(plan, seed)


def job(build):
    """What the command line does."""
    plan = resolve_deferred(RECIPE, build)
    initframe.materialize(plan.model, plan, measure=True)


WAYS = {
    "reinit": lambda build, _: initframe.reinit(build(), RECIPE, verify_replicas=True),
    "reinit with torch": lambda build, _: initframe.reinit(build(), RECIPE, seed=1, generator="torch"),
    "resolve and apply": lambda build, _: resolve_and_apply(build()),
    "apply five times": lambda build, _: reset_often(build()),
    "materialize": lambda build, _: initframe.materialize(deferred(build), RECIPE),
    "job": lambda build, _: job(build),
    "write_checkpoint": lambda build, folder: write_checkpoint(initframe.resolve(RECIPE, deferred(build)), folder),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("build", [Tower, convnet, lambda: nn.Sequential(nn.Linear(2, 2, bias=False))])
def test_a_model_is_surveyed_once(way, build, surveys, tmp_path):
    way(build, tmp_path)
    assert len(surveys) == 1


@pytest.mark.parametrize("name", ["reinit", "reinit with torch", "materialize"])
def test_one_call_surveys_a_parametrized_model_once(name, surveys, tmp_path):
    WAYS[name](normed, tmp_path)
    assert len(surveys) == 1


# --- a survey that no longer holds -----------------------------------------------------------------------------------


def replace_parameter(model):
    model[0].weight = nn.Parameter(torch.ones(3, 3))


def move_memory(model):
    model[0].weight.data = torch.ones(3, 3)


def change_dtype(model):
    model.half()


def tie(model):
    model[1].weight = model[0].weight


def share_memory(model):
    model[1].weight.data = model[0].weight.data


def parametrize(model):
    parametrizations.weight_norm(model[0])


def prune(model):
    nn.utils.prune.identity(model[0], "weight")


def replace_module(model):
    model[0] = nn.Linear(3, 3)


def wrap(model):
    model[0] = nn.Sequential(model[0])


def drop(model):
    del model[0].bias


def freeze(model):
    model[0].requires_grad_(False)


def add_a_buffer(model):
    model[0].register_buffer("extra", torch.zeros(2))


def swap(model):
    model[0].weight, model[1].weight = model[1].weight, model[0].weight


def resize(model):
    model[0].weight.data.resize_(3, 4)


CHANGES = [
    replace_parameter,
    move_memory,
    change_dtype,
    tie,
    share_memory,
    parametrize,
    prune,
    replace_module,
    wrap,
    drop,
    freeze,
    add_a_buffer,
    swap,
    resize,
]


def outcome(plan, model):
    """What apply does to a model: its bits, or the problems that it tells."""
    try:
        initframe.apply(plan, seed=3, module=model)
    except initframe.InitframeError as error:
        return error.problems
    return bits(model)


@pytest.mark.filterwarnings("ignore:.*resize")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("applied", [False, True], ids=["resolved", "applied"])
def test_a_changed_model_is_surveyed_again(change, applied):
    """A plan that remembers its model does what one does that has never seen it."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    plan = initframe.resolve(RECIPE, model)
    if applied:
        initframe.apply(plan)
    twin = copy.deepcopy(model)
    change(model)
    change(twin)
    assert not plan.latest.holds(model)
    forgetful = copy.copy(pickle.loads(pickle.dumps(plan)))
    object.__setattr__(forgetful, "model", twin)
    found, expected = outcome(plan, model), outcome(forgetful, twin)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        assert all(same_bits(found[name], tensor) for name, tensor in expected.items())
    else:
        assert found == expected


def test_training_is_no_change():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    plan = initframe.resolve(RECIPE, model)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 3)).square().sum().backward()
    optimizer.step()
    assert plan.latest.holds(model)


def test_inference_mode_is_a_change():
    with torch.inference_mode():
        model = nn.Linear(2, 2)
        plan = initframe.resolve(RECIPE, model)
        initframe.apply(plan)
    with pytest.raises(initframe.ResolveError):
        initframe.apply(plan)


def test_a_plan_keeps_no_tensor_alive():
    """As after fully_shard, whose shards take the place of the whole parameters."""
    import weakref

    model = nn.Linear(3, 3)
    plan = initframe.resolve(RECIPE, model)
    initframe.apply(plan)
    old = weakref.ref(model.weight)
    model.weight = nn.Parameter(torch.zeros(3, 3))
    assert old() is None
    assert plan.model is model


# --- copies ----------------------------------------------------------------------------------------------------------


def test_a_pickle_leaves_the_model_behind():
    model = nn.Linear(300, 300)
    plan = initframe.resolve(RECIPE, model)
    report = initframe.apply(plan, seed=1)
    for thing in (plan, report):
        data = pickle.dumps(thing)
        assert len(data) < 20_000
        again = pickle.loads(data)
        assert again == thing
        assert again.model is None
    other = nn.Linear(300, 300)
    initframe.apply(pickle.loads(pickle.dumps(plan)), seed=1, module=other)
    assert changed(other, bits(model)) == set()


def test_a_deep_copy_has_a_model_of_its_own():
    model = Tower()
    plan = initframe.resolve(RECIPE, model)
    both = copy.deepcopy({"model": model, "plan": plan})
    assert both["plan"] == plan
    assert both["plan"].model is both["model"]
    before = bits(model)
    initframe.apply(both["plan"], seed=1)
    assert changed(model, before) == set()
    initframe.apply(plan, seed=1)
    assert changed(model, bits(both["model"])) == set()


def test_a_shallow_copy_has_the_same_model():
    plan = initframe.resolve(RECIPE, nn.Linear(2, 2))
    assert copy.copy(plan) == plan
    assert copy.copy(plan).model is plan.model
