"""``only``: the rest of a model is out of sight."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import initframe
from initframe.errors import ResolveError
from tests.refusals import refused

RECIPE = {"rules": {"weights": {"match": "*.weight", "init": "ones"}, "first": {"match": "0.bias", "init": "zeros"}}}


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize("only", [["2.*"], ["2.weight", "2.bias"], "2.*"])
def test_rules_that_match_nothing_because_of_it_are_no_error(only):
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plan = initframe.resolve(RECIPE, model, only=only)
    assert [a.slot.name for a in plan.assignments] == ["2.weight"]
    assert (plan.untouched, plan.buffers) == (("2.bias",), ())
    initframe.reinit(model, RECIPE, seed=0, only=only)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"2.weight"}
    assert "out of sight" in plan.explain("0.weight")


def test_rules_that_match_nothing_anyway_are_errors():
    recipe = {"rules": {**RECIPE["rules"], "typo": {"match": "hed.*", "init": "zeros"}}}
    (problem,) = refused(initframe.resolve, recipe, net(), only=["2.*"])
    assert "typo" in problem.subject


@pytest.mark.parametrize("only", [["3.*"], ["2.wieght"], [3], ["{"]])
def test_what_only_does_not_find(only):
    (problem,) = refused(initframe.resolve, RECIPE, net(), only=only, kind=ResolveError)
    assert problem.subject.startswith("only")


def test_unmatched_error_means_what_is_in_sight():
    recipe = RECIPE | {"unmatched": "error"}
    assert initframe.resolve(recipe, net(), only=["2.weight"])
    assert refused(initframe.resolve, recipe, net(), only=["2.*"])


def test_applying_a_part_of_a_plan():
    model = net()
    plan = initframe.resolve(RECIPE, model)
    report = initframe.apply(plan, seed=0, only=["0.*"])
    assert [result.name for result in report.results] == ["0.weight", "0.bias"]


def test_a_copy_of_what_is_out_of_sight_reads_its_memory():
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    recipe = {"rules": {"a.*": "ones", "c": {"match": "b.*", "init": "copy", "source": "a.*"}}}
    for write in (
        lambda: initframe.reinit(model, recipe, seed=0, only=["b.*"]),
        lambda: initframe.apply(initframe.resolve(recipe, model), seed=0, only=["b.*"]),
    ):
        with torch.no_grad():
            model["a"].weight.mul_(2)
        write()
        assert torch.equal(model["b"].weight, model["a"].weight)


def test_the_missing_keys_of_a_checkpoint():
    with initframe.deferred():
        model = net()
    loaded = {name: torch.full(p.shape, 5.0) for name, p in model.named_parameters() if not name.startswith("2.")}
    missing = model.load_state_dict(loaded, strict=False, assign=True).missing_keys
    only = [name for name in missing if name.startswith("2.")]
    initframe.materialize(model, {"rules": {"*": "torch_default"}}, seed=0, only=only)
    assert model[0].weight.unique().tolist() == [5.0]
    assert not any(p.is_meta for p in model.parameters())


def test_materialize_leaves_the_rest_without_memory():
    with initframe.deferred():
        model = net()
    initframe.materialize(model, RECIPE, seed=0, only=["2.weight"])
    assert {name for name, p in model.named_parameters() if not p.is_meta} == {"2.weight"}
    initframe.materialize(model, {"rules": {"*": "zeros"}}, seed=0)
    assert not any(p.is_meta for p in model.parameters())


def test_the_raw_name_of_a_parametrized_tensor_means_the_tensor():
    model = weight_norm(nn.Linear(3, 3))
    plan = initframe.resolve({"rules": {"*weight": "ones"}}, model, only=["parametrizations.weight.original0"])
    assert [a.slot.name for a in plan.assignments] == ["weight"]


# --- every pattern earns its place, and everything is listed ----------------------------------------------------------


@pytest.mark.parametrize("key", ["match", "exclude"])
def test_each_pattern_must_match(key):
    rule = {"match": ["0.*", "2.*"], "init": "zeros"}
    wrong = {**rule, key: [*(["2.*"] if key == "exclude" else rule["match"]), "hed.*", "typo"]}
    problems = refused(initframe.resolve, {"rules": {"r": wrong}}, net(), kind=ResolveError)
    assert len(problems) == 2
    assert "hed.*" in problems[0].fact
    assert "typo" in problems[1].fact
    assert len(initframe.resolve({"rules": {"r": wrong}, "unused": "warn"}, net()).warnings) == 2
    for optional in (True, "patterns"):
        assert initframe.resolve({"rules": {"r": {**wrong, "optional": optional}}}, net())


def test_alternatives_must_match_at_least_once():
    rule = {"match": ["head.*", "classifier.*"], "init": "zeros", "optional": "patterns"}
    assert refused(initframe.resolve, {"rules": {"r": rule}}, net())


def test_buffers_that_no_rule_matches_are_listed():
    names = ("1.running_mean", "1.running_var", "1.num_batches_tracked")
    plan = initframe.resolve(RECIPE, net())
    assert plan.buffers == names
    assert plan.to_dict()["buffers"] == list(names)
    assert "1.running_mean" in str(plan)
    plan = initframe.resolve({"rules": {"*": {"init": "torch_default", "kind": "any"}}}, net())
    assert plan.buffers == ()


def test_regular_expressions_and_brackets_are_told():
    for text in (r"0\.weight", "^0", "(0|1).weight", ".*weight$"):
        (problem,) = refused(initframe.resolve, {"rules": {"r": {"match": text, "init": "zeros"}}}, net())
        assert "globs" in problem.fix
    (problem,) = refused(initframe.resolve, {"rules": {"a[0].w": "zeros"}}, {"a[0].w": torch.zeros(2)})
    assert "a[[]0].w" in problem.fix
    assert initframe.resolve({"rules": {"a[[]0].w": "zeros"}}, {"a[0].w": torch.zeros(2)})


class Unset(nn.Module):
    def __init__(self):
        pass


class Hidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(2, 2)]


class Extra(nn.Linear):
    def get_extra_state(self):
        return {"scale": 1}

    def set_extra_state(self, state):
        pass


@pytest.mark.parametrize(("model", "word"), [(Unset(), "super().__init__()"), (Hidden(), "ModuleList")])
def test_models_that_torch_does_not_see(model, word):
    (problem,) = refused(initframe.resolve, {"rules": {"*": "zeros"}}, model)
    assert word in problem.fix


def test_a_model_without_tensors_is_told():
    (problem,) = refused(initframe.resolve, {"rules": {"*": "zeros"}}, nn.ReLU())
    assert "has none at all" in problem.fact


def test_a_state_that_is_no_tensor_is_named():
    plan = initframe.resolve({"rules": {"*": "zeros"}}, nn.Sequential(Extra(2, 2)))
    assert plan.extra == ("0._extra_state",)
    assert "0._extra_state" in str(plan)
