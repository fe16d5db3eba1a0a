"""What people give by mistake: every public function says what it got and what to give, and nothing has changed."""

import numpy
import pytest
import torch
from nets import bits, changed, rules
from refusals import refused
from torch import nn

import initframe
from initframe import Normal

RECIPE = rules({"*.weight": "xavier_uniform"})
INPUTS = torch.ones(3, 4)


def net():
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))


def plan():
    return initframe.resolve(RECIPE, net())


def report():
    return initframe.reinit(net(), RECIPE, seed=0)


def record():
    return initframe.manifest(initframe.reinit(net(), RECIPE, seed=0, measure=True))


CALLS = {
    "a plan's tensor by number": ("plan", lambda: plan()[0]),
    "a plan's tensors by slice": ("plan", lambda: plan()[0:2]),
    "a plan's tensors by list": ("plan", lambda: plan()[["0.weight"]]),
    "an explanation of a number": ("plan", lambda: plan().explain(0)),
    "a report's tensor by number": ("report", lambda: report()[0]),
    "a signal's row by number": ("signal", lambda: initframe.propagate(net(), INPUTS)[0]),
    "resolve without a model": ("model", lambda: initframe.resolve(RECIPE, None)),
    "resolve the other way round": ("model", lambda: initframe.resolve(net(), "xavier_relu")),
    "resolve against a tensor": ("model", lambda: initframe.resolve(RECIPE, net()[0].weight)),
    "resolve against what builds the model": ("model", lambda: initframe.resolve(RECIPE, net)),
    "reinit the other way round": ("model", lambda: initframe.reinit("xavier_relu", net())),
    "reinit with a plan": ("recipe", lambda: initframe.reinit(net(), plan())),
    "a model for a recipe": ("recipe", lambda: initframe.load_recipe(net())),
    "a number of only": ("only", lambda: initframe.reinit(net(), RECIPE, only=3)),
    "a word of measure": ("measure", lambda: initframe.reinit(net(), RECIPE, measure="before")),
    "a number of measure": ("measure", lambda: initframe.reinit(net(), RECIPE, measure=1)),
    "a flag for on_progress": ("on_progress", lambda: initframe.reinit(net(), RECIPE, on_progress=True)),
    "a tensor's fill by name": ("fill", lambda: initframe.fill_(torch.empty(2), "zeros", name="w")),
    "a fill's class": ("fill", lambda: initframe.fill_(torch.empty(2), Normal, name="w")),
    "a list for a tensor": ("tensor", lambda: initframe.fill_([0.0], Normal(0, 1), name="w")),
    "a number for a name": ("name", lambda: initframe.fill_(torch.empty(2), Normal(0, 1), name=3)),
    "materialize without a model": ("model", lambda: initframe.materialize(None)),
    "materialize a state_dict": ("model", lambda: initframe.materialize(net().state_dict(), RECIPE)),
    "predict of a model": ("predict", lambda: initframe.predict(net(), INPUTS)),
    "describe a model": ("describe", lambda: initframe.describe(net())),
    "a module for populate": ("module", lambda: initframe.populate(plan(), [0], "net")),
    "a manifest of a plan": ("manifest", lambda: initframe.manifest(plan())),
    "verify a report": ("manifest", lambda: initframe.verify(report(), net())),
    "regenerate a number": ("names", lambda: initframe.regenerate(record(), names=3)),
    "a checkpoint of a model": ("write_checkpoint", lambda: initframe.write_checkpoint(net(), "folder")),
    "a progress bar for a function": (
        "on_progress",
        lambda: initframe.write_checkpoint(plan(), "folder", on_progress=3),
    ),
    "compare a model": ("build", lambda: initframe.compare(net(), [RECIPE], INPUTS)),
    "compare with one seed": ("seeds", lambda: initframe.compare(net, [RECIPE], INPUTS, seeds=1)),
    "a loss by name": ("loss", lambda: initframe.propagate(net(), INPUTS, loss="mse")),
    "a loss of two arguments": ("loss", lambda: initframe.propagate(net(), INPUTS, loss=nn.MSELoss())),
    "a loss of many numbers": ("loss", lambda: initframe.propagate(net(), INPUTS, loss=lambda output: output)),
}


@pytest.mark.parametrize(("subject", "call"), CALLS.values(), ids=CALLS)
def test_a_mistake_is_told_with_what_to_give(subject, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (problem,) = refused(call)
    assert not list(tmp_path.iterdir())
    assert problem.subject == subject
    assert problem.options or problem.fix


@pytest.mark.parametrize("option", ["sed", "recipe_", "dry_run"])
def test_an_unknown_option_is_told_of_the_function_that_was_called(option):
    with pytest.raises(TypeError, match=r"reinit\(\).*" + option):
        initframe.reinit(net(), RECIPE, **{option: 0})


@pytest.mark.parametrize("options", [{"on_progress": 3}, {"measure": "yes"}, {"only": 3}, {"seed": "x"}])
def test_wrong_options_write_nothing_however_often_a_plan_was_applied(options):
    model = net()
    found = initframe.resolve(RECIPE, model)
    for times in range(4):
        before = bits(model)
        refused(initframe.apply, found, **{"seed": times + 10} | options)
        assert changed(model, before) == set()
        initframe.apply(found, seed=times)


def test_a_modules_name_shows_what_is_inside_and_how_to_mean_it():
    problem = refused(initframe.reinit, net(), RECIPE, only="0")[0]
    assert "0.weight" in problem.options
    assert "'0.*'" in problem.fix
    assert "'0.*'" in refused(initframe.reinit, net(), rules({"0": "zeros"}))[0].fix
    assert "0.weight" in refused(lambda: plan()["0"])[0].options


@pytest.mark.parametrize("text", ["rules: {'*': zeros}", "rules:\n  '*/weight': zeros"])
def test_yaml_for_a_path_is_recognized(text):
    assert "safe_load" in refused(initframe.load_recipe, text)[0].fix


@pytest.mark.parametrize("rule", ["zeros", {"match": "*.bias", "init": "zeros"}])
def test_rules_without_the_key_rules_are_recognized(rule):
    problem, _ = refused(initframe.load_recipe, {"*.bias": rule})
    assert "under the key rules" in problem.fix


def test_what_is_true_of_a_result_is_what_it_says():
    model = net()
    promised = initframe.manifest(initframe.reinit(model, RECIPE, seed=0, measure=True))
    assert initframe.verify(promised, model)
    assert not initframe.verify(promised, net())
    assert not initframe.diff(plan(), plan())
    assert initframe.diff(plan(), initframe.resolve(rules({"*.weight": "zeros"}), net()))


def test_completion_shows_what_is_meant_to_be_used():
    assert not {"Any", "TYPE_CHECKING", "typing"} & set(dir(initframe))
    assert {"reinit", "predict", "trace"} <= set(dir(initframe))


@pytest.mark.parametrize("name", ["weights.pt", "model.bin", 3, None])
def test_files_of_other_kinds_do_not_become_folders(name, tmp_path):
    path = tmp_path / name if isinstance(name, str) else name
    assert refused(initframe.write_checkpoint, plan(), path)[0].subject == "path"
    if path is not None:
        assert refused(initframe.regenerate, record(), path=path)[0].subject == "path"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old.pt").mkdir()
    assert initframe.write_checkpoint(plan(), tmp_path / "old.pt")


def test_arrays_for_tensors_are_named():
    arrays = {"w": torch.ones(2).numpy()}
    assert "'w' is no tensor" in refused(initframe.reinit, arrays, rules({"w": "zeros"}))[0].fact


@pytest.mark.parametrize("units", [torch.tensor([1, 2]), torch.tensor([1, 2]).numpy()])
def test_arrays_in_recipes_are_told_how_to_become_lists(units):
    problem = refused(initframe.reinit, net(), rules({"0.*": {"init": "zeros", "units": units}}))[0]
    assert ".tolist()" in problem.fix


@pytest.mark.parametrize("seed", ["7", 7.0, torch.tensor(7), numpy.array(7), numpy.float32(7)])
def test_a_seed_that_is_nearly_one_is_told_how_to_become_one(seed):
    (problem,) = refused(initframe.reinit, net(), RECIPE, seed=seed)
    assert "int(" in problem.fix
    (problem,) = refused(initframe.reinit, net(), RECIPE, seed="seven")
    assert not problem.fix


@pytest.mark.parametrize("seed", [-1, 2**64, -(2**63) - 5, numpy.int64(-5)])
def test_an_integer_out_of_range_is_told_how_to_be_within(seed):
    (problem,) = refused(initframe.reinit, net(), RECIPE, seed=seed)
    assert "% 2**64" in problem.fix
    assert initframe.reinit(net(), RECIPE, seed=int(seed) % 2**64)


@pytest.mark.parametrize("model", [net().parameters(), list(net().parameters()), [net()], None])
def test_what_holds_parameters_is_not_told_of_an_order(model):
    (problem,) = refused(initframe.reinit, model, RECIPE)
    assert "order" not in problem.fix


@pytest.mark.parametrize("call", [lambda: initframe.apply(net(), seed=0), lambda: initframe.trace(net())])
def test_a_module_in_the_wrong_place_is_named_by_its_class(call):
    (problem,) = refused(call)
    assert "got Sequential" in problem.fact
    assert "in_features" not in problem.fact


def test_a_file_for_a_model_is_to_be_loaded():
    (problem,) = refused(initframe.identify, "model.safetensors")
    assert "Load" in problem.fix


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        ("kaiming_normal", "kaiming_normal"),
        ({"rules": {"*.weight": nn.init.kaiming_normal_}}, "kaiming_normal"),
        ({"rules": {"*.weight": {"init": nn.init.kaiming_normal_}}}, "kaiming_normal"),
    ],
)
def test_an_initializer_in_the_wrong_place_is_told_its_place(recipe, name):
    (problem,) = refused(initframe.reinit, net(), recipe)
    assert repr(name) in problem.fix


def test_units_that_are_none_or_a_mask():
    rule = {"match": "0.weight", "init": "zeros"}
    (empty,) = refused(initframe.reinit, net(), {"rules": {"a": {**rule, "units": []}}})
    (mask,) = refused(initframe.reinit, net(), {"rules": {"a": {**rule, "units": [True, False, True]}}})
    assert "empty" in empty.fact
    assert "nonzero" in mask.fix
