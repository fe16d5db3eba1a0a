"""What a method asks for besides values: data, told, and missed when it is ignored."""

import pytest
import torch
from nets import rules
from refusals import refused
from torch import nn

import initframe
from initframe.plan.param_groups import sentences

HALF = rules(weight={"init": "zeros", "companions": {"lr": "1 / fan_in", "weight_decay": "fan_in"}})
PLAIN = rules(weight="zeros", bias="zeros")


def reinit(recipe, model=None, **options):
    return initframe.reinit(model or nn.Linear(2, 3), recipe, seed=0, **options)


def test_a_method_whose_companions_are_ignored_warns():
    with pytest.warns(initframe.CompanionWarning, match=r"lr ×0.5 on 1 tensor\n.*weight_decay ×2(.|\n)*param_groups"):
        reinit(HALF)
    with pytest.warns(initframe.CompanionWarning, match="no warm-up"):
        reinit(PLAIN | {"requires": "no warm-up"})
    with pytest.warns(initframe.CompanionWarning, match="a factor alpha = 2 in the forward pass"):
        reinit(rules(weight={"init": "zeros", "companions": {"alpha": 2}}))


ASKING = PLAIN | {"requires": "no warm-up"}


@pytest.mark.parametrize(
    "apply",
    [
        lambda model: initframe.reinit(model, ASKING),
        lambda model: initframe.apply(initframe.resolve(ASKING, model)),
        lambda model: initframe.materialize(model, ASKING),
        lambda model: initframe.reinit(model, HALF | {"companions": "heeded"}).param_groups(lr=0.1),
    ],
)
def test_a_warning_points_to_the_line_that_asked(apply):
    with pytest.warns(initframe.CompanionWarning) as caught:
        apply(nn.Linear(2, 3))
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(
    "recipe", [PLAIN, HALF | {"companions": "heeded"}, rules(weight={"init": "zeros", "companions": {"lr": 1}})]
)
def test_nothing_to_heed_or_heeded_is_silent(recipe):
    reinit(recipe)  # warnings are errors here


def test_companions_are_data():
    report = reinit(HALF | {"companions": "heeded"})
    assert report.plan.companions == {"weight": {"lr": 0.5, "weight_decay": 2.0}}
    assert initframe.manifest(report)["companions"] == report.plan.companions
    assert report.plan.to_dict()["assignments"][0]["companions"] == {"lr": 0.5, "weight_decay": 2.0}
    assert "Companion: rule 'weight': lr ×0.5 on 1 tensor" in str(report.plan)
    assert "Companion: rule 'weight': lr ×0.5 on 1 tensor" in str(report)


def test_groups_hold_every_trained_parameter_once_with_its_multiplied_numbers():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4))
    model[1].weight = model[0].weight
    model[1].bias.requires_grad_(False)
    recipe = rules(w={"match": "*.weight", "where": "ndim > 1", "init": "zeros", "companions": {"lr": 0.1, "eps": 10}})
    groups = reinit(recipe | {"companions": "heeded"}, model).param_groups(lr=1.0, eps=1e-8, weight_decay=0.5)
    found = [(len(g["params"]), g["lr"], g["eps"], g["weight_decay"]) for g in groups]
    assert found == [(1, 0.1, 1e-7, 0.5), (3, 1.0, 1e-8, 0.5)]
    assert groups[0]["params"][0] is model[0].weight
    optimizer = torch.optim.AdamW(groups)
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 4


def test_originals_of_a_parametrized_tensor_follow_it():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    recipe = rules(weight={"init": "normal", "companions": {"lr": 0.5}}) | {"companions": "heeded"}
    half, rest = sorted(reinit(recipe, model).param_groups(lr=1.0), key=lambda group: group["lr"])
    assert (half["lr"], len(half["params"]), len(rest["params"])) == (0.5, 2, 1)


def test_groups_are_those_of_the_module_that_was_written():
    plan = initframe.resolve(HALF | {"companions": "heeded"}, nn.Linear(2, 3))
    other = nn.Linear(2, 3)
    groups = initframe.apply(plan, seed=0, module=other).param_groups(lr=1.0, weight_decay=0.1)
    assert groups[0]["params"][0] is other.weight


def test_a_multiplier_of_a_number_that_is_not_given_warns():
    report = reinit(HALF | {"companions": "heeded"})
    with pytest.warns(initframe.CompanionWarning, match="multiplies weight_decay too"):
        report.param_groups(lr=0.1)


@pytest.mark.parametrize("numbers", [{"lr": "0.1"}, {"lr": True}, {"lr": 0.1, "betas": (0.9, 0.99)}])
def test_numbers_are_numbers(numbers):
    report = reinit(PLAIN)
    (problem,) = refused(report.param_groups, kind=initframe.ResolveError, **numbers)
    assert problem.subject in numbers
    assert "optimizer" in problem.fix


def test_what_does_not_learn_has_no_groups():
    model = nn.Linear(2, 3).requires_grad_(False)
    (problem,) = refused(reinit(PLAIN, model).param_groups, lr=0.1, kind=initframe.ResolveError)
    assert "requires_grad" in problem.fix


def test_sentences_count_tensors_and_leave_out_what_changes_nothing():
    asked = [("a", {"lr": 1.0}), ("a", {"lr": 0.5}), ("a", {"lr": 0.5}), ("b", {"lr": 0.5})]
    assert sentences(asked, ()) == ["rule 'a': lr ×0.5 on 2 tensors", "rule 'b': lr ×0.5 on 1 tensor"]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (rules(weight={"init": "zeros", "companions": {"lr": "1 /"}}), "companions.lr '1 /': it is not an expression"),
        (rules(weight={"init": "zeros", "companions": {"not a name": 1}}), "Give each number a name"),
        (rules(weight={"init": "zeros", "companions": {"lr": True}}), "lr is True"),
        (rules(weight={"init": "zeros", "companions": 3}), "Give each number a name"),
        (PLAIN | {"companions": "ignored"}, "Options: warn, heeded"),
        (PLAIN | {"base": 3}, "Give shapes by name"),
        (PLAIN | {"base": {"weight": [2, "a"]}}, "List its sizes"),
        (PLAIN | {"requires": [3]}, "Write a sentence"),
    ],
)
def test_what_is_no_companion_is_refused(recipe, message):
    with pytest.raises(initframe.RecipeError, match=message):
        initframe.load_recipe(recipe)


def test_a_companion_without_a_value_names_itself():
    recipe = rules(weight={"init": "zeros", "companions": {"lr": "1 / widht"}})
    with pytest.raises(initframe.ResolveError, match="companion 'lr': unknown name 'widht'"):
        initframe.resolve(recipe, nn.Linear(2, 3))


def test_recipes_with_companions_survive_their_plain_data():
    recipe = initframe.load_recipe(HALF | {"base": {"weight": [2, 2]}, "requires": ["care"], "companions": "heeded"})
    assert initframe.load_recipe(recipe.to_dict()) == recipe


def test_base_shapes_are_facts():
    recipe = rules(
        weight={"init": "constant", "val": "fan_in / base_fan_in + 10 * d0 / base_d0"},
        bias={"init": "constant", "val": "base_fan_in + 100 * base_d0"},
    )
    model = nn.Linear(8, 6)
    reinit(recipe | {"base": {"weight": [3, 2], "bias": [3]}}, model)
    assert model.weight.unique().tolist() == [4 + 20]
    assert model.bias.unique().tolist() == [2 + 300]


def test_base_shapes_that_lack_a_tensor_are_named():
    with pytest.raises(initframe.ResolveError, match=r"base shapes give no base_d0 for it\. Write base: \{name: "):
        initframe.resolve(rules(weight={"init": "constant", "val": "base_d0"}), nn.Linear(2, 3))
