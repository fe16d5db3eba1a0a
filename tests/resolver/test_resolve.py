"""Resolving: one rule wins every tensor, all that is wrong is said at once, and a wrong recipe writes nothing."""

import importlib
import json
from collections import Counter
from unittest.mock import Mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import Net, Tower, bits, changed, convnet, rules
from refusals import refused
from torch import nn

import initframe
from initframe.errors import InitframeError, RecipeError, ResolveError
from initframe.fills import Constant, Normal
from initframe.initializers import Declined, initializer
from initframe.model.survey import survey
from initframe.recipe import expressions

resolving = importlib.import_module("initframe.resolver.resolve")


def problems(recipe, model, kind=ResolveError):
    """All that resolve says is wrong; reinit says the same and writes nothing."""
    before = bits(model)
    found = refused(initframe.resolve, recipe, model, kind=kind)
    assert refused(initframe.reinit, model, recipe, seed=0, kind=kind) == found
    assert changed(model, before) == set()
    return found


# --- what is left over -----------------------------------------------------------------------------------------------


def test_what_no_rule_matches_is_untouched():
    plan = initframe.resolve(rules({"fc1.weight": "xavier_uniform", "*.bias": "zeros"}), Net())
    assert [a.slot.name for a in plan.assignments] == ["fc1.weight", "fc1.bias", "fc2.bias"]
    assert plan.untouched == ("fc2.weight",)


def test_untouched_lists_parameters_only():
    plan = initframe.resolve(rules({"0.weight": "ones"}), convnet())
    assert not [name for name in plan.untouched if "running" in name or "tracked" in name]
    assert plan.assignments[0].slot.name not in plan.untouched


def test_unmatched_may_be_an_error():
    (problem,) = problems(rules({"*.bias": "zeros"}, unmatched="error"), Net())
    assert "fc1.weight, fc2.weight" in problem.fact
    assert "unmatched: keep" in problem.fix
    covered = rules({"*.weight": "keep", "*.bias": "zeros"}, unmatched="error")
    assert initframe.resolve(covered, Net()).untouched == ()


def test_many_uncovered_tensors_are_counted():
    (problem,) = problems(rules({"head.weight": "ones"}, unmatched="error"), Tower())
    assert "encoder.0.norm.weight" in problem.fact
    left_over = len(list(Tower().named_parameters())) - 1
    assert f"and {left_over - 8} more" in problem.fact


def test_a_rule_that_cannot_be_read_leaves_nothing_uncovered():
    recipe = rules({"*.weight": {"init": "ones", "where": "ndim >"}, "*.bias": "zeros"}, unmatched="error")
    (problem,) = problems(recipe, Net(), RecipeError)
    assert "where 'ndim >'" in problem.subject
    (problem,) = problems(rules({"*.weight": "one", "*.bias": "zeros"}, unmatched="error"), Net(), RecipeError)
    assert problem.options == "Closest: ones."


# --- overlays --------------------------------------------------------------------------------------------------------


def test_the_last_rule_wins_and_names_whom_it_beats():
    plan = initframe.resolve(rules({"*": "zeros", "*.weight": "ones", "fc2.*": "normal"}), Net())
    assert {a.slot.name: (a.rule.name, a.shadowed) for a in plan.assignments} == {
        "fc1.weight": ("*.weight", ("*",)),
        "fc1.bias": ("*", ()),
        "fc2.weight": ("fc2.*", ("*", "*.weight")),
        "fc2.bias": ("fc2.*", ("*",)),
    }


def test_a_shadowed_rule_need_not_fit():
    """Only the winner is held against the tensor: xavier for all, then zeros for what it does not fit."""
    plan = initframe.resolve(rules({"*": "xavier_uniform", "*.bias": "zeros"}), Net())
    assert plan["fc1.bias"].fill == Constant(0.0)


# --- tied tensors ----------------------------------------------------------------------------------------------------


def test_rules_that_know_a_tied_tensor_by_different_names_must_agree():
    (problem,) = problems(rules({"embed.weight": "normal", "head.weight": "zeros"}), Tower())
    assert problem.subject == "rule 'head.weight' on embed.weight [11, 8]"
    assert all(said in problem.fact for said in ("tied", "rule 'head.weight'", "rule 'embed.weight'"))


@pytest.mark.parametrize(
    "recipe",
    [
        {"embed.weight": "zeros", "head.weight": "zeros"},
        {"embed.weight": "zeros", "head.weight": {"init": "constant", "val": "1 - 1"}},
        {"*.weight": "ones", "head.weight": "zeros"},
        {"embed.weight": "ones", "*.weight": "zeros"},
        {"embed.weight": {"init": "ones", "exclude": "*", "optional": True}, "head.weight": "zeros"},
    ],
)
def test_rules_that_agree_or_share_a_name_are_fine(recipe):
    assert str(initframe.resolve(rules(recipe), Tower())["head.weight"].fill).startswith("constant(0)")


def test_ties_are_found_in_a_state_dict_too():
    (problem,) = problems(rules({"embed.weight": "normal", "head.weight": "zeros"}), Tower().state_dict())
    assert "tied" in problem.fact


# --- all at once -----------------------------------------------------------------------------------------------------


def test_everything_that_is_wrong_is_said_at_once():
    recipe = {
        "rules": {
            "typo": {"match": "*.weight", "init": "xavier_unifrom"},
            "keyword": {"match": "*.bias", "init": "normal", "sdt": 1},
            "missing": {"match": "*.bias", "init": "constant"},
            "grammar": {"match": "*.weight", "init": "normal", "std": "fan_in.real"},
            "condition": {"match": "*.weight", "init": "ones", "where": "__import__('os')"},
            "nothing": {"match": "fc3.*", "init": "ones"},
            "fc1.bias": {"init": "normal", "std": "1 / (fan_in - 784)"},
            "fc2.weight": "eye_",
            "fc2.bias": "xavier_normal",
            "code": {"match": "*", "init": "ones", "_target_": "os.system"},
        },
        "unusd": "warn",
    }
    told = problems(recipe, Net())
    for fact in (
        "unknown initializer 'xavier_unifrom'. Closest: xavier_uniform",
        "normal: unknown argument 'sdt'. Closest: std",
        "constant: argument 'val' is missing",
        "argument 'std': 'fan_in.real': it is not an expression: a dot may only stand in a number",
        "where \"__import__('os')\": it is not an expression",
        "rule 'nothing' (match 'fc3.*'): it matches no tensor of Net. Closest names: fc",
        "rule 'fc1.bias' on fc1.bias [128]: argument 'std': 1 / (fan_in - 784) divides by zero",
        "unknown initializer 'eye_'. Closest: eye",
        "rule 'fc2.bias' on fc2.bias [10]: fan in and fan out need a tensor of 2 or more dimensions",
        "'_target_' is refused",
        "unknown key 'unusd'. Closest: unused",
    ):
        assert sum(fact in str(problem) for problem in told) == 1, fact
    assert len(told) == 11


def test_a_recipe_that_is_wrong_by_itself_says_so_by_its_kind():
    problems(rules({"*": "onse"}), Net(), RecipeError)
    problems(rules({"*": {"init": "constant", "vel": 1}}), Net(), RecipeError)
    problems(rules({"*": "xavier_uniform"}), Net(), ResolveError)


def test_an_overlays_left_over_keyword_has_a_way_out():
    recipe = rules(weights={"match": "*.weight", "init": "xavier_uniform", "mode": "fan_in"})
    (problem,) = problems(recipe, Net(), RecipeError)
    assert "~init.rules.weights.mode" in problem.fix


@pytest.mark.parametrize(
    ("rule", "fact"),
    [
        ({"init": "normal", "std": "().__class__"}, "is not an expression"),
        ({"init": "normal", "std": "[1][0]"}, "is not an expression"),
        ({"init": "normal", "std": "open(1)"}, "unknown name 'open'"),
        ({"init": "normal", "std": "lambda: 1"}, "is not an expression"),
        ({"init": "normal", "std": "9 ** 9 ** 9"}, "is too large"),
        ({"init": "normal", "std": "${oc.env:HOME}"}, "a recipe reads nothing from outside"),
        ({"init": "normal", "std": float("nan")}, "std is nan. Write a finite number"),
        ({"init": "normal", "std": float("inf")}, "std is inf. Write a finite number"),
        ({"init": "normal", "std": {"_target_": "os.system"}}, "'_target_' is refused"),
        ({"init": "normal", "std": [1, {"a": 1}]}, "argument 'std'"),
        ({"init": "os.system"}, "unknown initializer 'os.system'"),
        ({"init": ["zeros"]}, "init takes the name of an initializer"),
        ({"init": "zeros", "match": "*.{0}.weight"}, "is not a pattern"),
        ({"init": "zeros", "kind": "param"}, "kind is 'param'. Options: parameter, buffer, any"),
        ({"init": "zeros", "split": 0}, "split takes a number of blocks"),
        ({"init": "zeros", "optional": "yes"}, "optional is 'yes'"),
    ],
)
def test_bad_input_is_one_clear_message(rule, fact):
    found = refused(initframe.resolve, rules({"*.weight": rule}), Net())
    assert sum(fact in str(problem) for problem in found) >= 1, found


WORDS = st.sampled_from(
    ["init", "match", "where", "split", "std", "val", "exclude", "zeros", "normal", "constant", "*"]
)
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5) | WORDS
JUNK = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=8
)
LIKELY = st.fixed_dictionaries({"init": WORDS | JUNK}, optional={"split": JUNK, "std": JUNK, "val": JUNK})


@given(st.dictionaries(WORDS | st.text(max_size=4), JUNK | LIKELY, max_size=4))
def test_no_recipe_is_a_traceback(recipe):
    model = Net()
    before = bits(model)
    try:
        plan = initframe.resolve({"rules": recipe}, model)
    except InitframeError as error:
        told = error.problems
    else:
        told = ["it resolves"]
        assert plan == initframe.resolve({"rules": recipe}, model)
        json.dumps(plan.to_dict(), allow_nan=False)
    assert told
    assert all(map(str, told))
    assert changed(model, before) == set()


# --- the plan that comes out -----------------------------------------------------------------------------------------

RECIPES = [
    rules({"*.weight": {"init": "xavier_uniform", "gain": "relu", "where": "ndim > 1"}, "*.bias": "zeros"}),
    rules({"*": {"init": "normal", "std": "0.02 / sqrt(2 * layers)", "match": "*.{layer}.*"}}),
    rules({"*": "torch_default", "scale": "keep"}),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_resolving_twice_gives_equal_plans(recipe):
    one, other = initframe.resolve(recipe, Tower()), initframe.resolve(recipe, Tower())
    assert one == other
    assert one.to_dict() == other.to_dict()
    assert str(one) == str(other)


def test_different_recipes_or_models_give_different_plans():
    plan = initframe.resolve(rules({"*": "zeros"}), Net())
    assert plan != initframe.resolve(rules({"*": "ones"}), Net())
    assert plan != initframe.resolve(rules({"*": "zeros"}), nn.Linear(2, 2))


def test_a_recipe_comes_in_any_form(tmp_path):
    mapping = rules({"fc1.weight": "normal"})
    file = tmp_path / "mine.yaml"
    file.write_text("rules:\n  fc1.weight: normal\n", encoding="utf-8")
    expected = initframe.resolve(mapping, Net())
    for source in (initframe.load_recipe(mapping), file, str(file)):
        assert initframe.resolve(source, Net()) == expected


def test_a_plan_is_about_the_model_as_it_is():
    meta = nn.Linear(3, 2, device="meta")
    assert initframe.resolve(rules(weight="normal"), meta)["weight"].fill == Normal(0.0, 1.0)
    assert initframe.resolve(rules(weight="normal"), meta).model is meta


# --- what lies beneath a parametrization -----------------------------------------------------------------------------


def test_originals_are_filled_on_request_only():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    plan = initframe.resolve(rules({"*": "ones"}), model)
    assert [a.slot.name for a in plan.assignments] == ["bias", "weight"]
    initframe.reinit(model, rules({"*.original0": "ones"}))
    assert (model.parametrizations.weight.original0 == 1).all()
    assert torch.allclose(model.weight.norm(dim=1), torch.ones(2))


def test_a_whole_and_what_it_is_computed_from_are_not_filled_both():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    (problem,) = problems(rules({"weight": "ones", "*.original0": "ones"}), model)
    assert problem.subject == "rule '*.original0'"
    assert "rule 'weight'" in problem.options
    initframe.resolve(rules({"weight": "keep", "*.original0": "ones"}), model)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("rules:\n  a: zeros\n  a: ones\n", "key 'a' is there already, in line 2"),
        ("rules:\n  *.weight: zeros\n", "malformed YAML"),
        ("rules: [zeros\n", "malformed YAML"),
        ("rules:\n  '*': {init: normal, std: .nan}\n", "std is nan"),
        ("rules:\n  '*': !!python/object/apply:os.system ['true']\n", "malformed YAML"),
        ("rules:\n  '*': {init: {_target_: os.system}}\n", "'_target_' is refused"),
        ("_target_: os.system\nrules:\n  '*': zeros\n", "'_target_' is refused"),
        ("", "is empty"),
        ("- zeros\n", "not a mapping"),
    ],
)
def test_bad_files_are_one_clear_message(tmp_path, text, fact):
    file = tmp_path / "bad.yaml"
    file.write_text(text, encoding="utf-8")
    told = problems(file, Net(), RecipeError)
    assert sum(fact in str(problem) for problem in told) == 1


def test_an_unknown_preset_is_told_the_closest():
    (problem,) = problems("xavier_rleu", Net(), RecipeError)
    assert "xavier_relu" in problem.options


# --- what follows from a problem is no problem of its own ------------------------------------------------------------


def test_a_variable_that_cannot_be_read_is_told_once():
    recipe = rules(
        {
            "fc1.weight": {"init": "normal", "std": "2 * base"},
            "fc2.weight": {"init": "ones", "where": "base > 1"},
            "*.bias": {"init": "constant", "val": "bass"},
        },
        vars={"base": "2 *"},
    )
    broken, unknown = problems(recipe, Net())
    assert broken.subject == "recipe: vars.base '2 *'"
    assert unknown.subject == "rule '*.bias' on fc1.bias [128], fc2.bias [10]: argument 'val'"


def test_one_misspelt_name_is_one_problem_that_names_the_closest():
    """Tensors of different shapes and modules know different names; they lack the same one."""
    rule = {"match": ["*.{layer}.*", "*"], "init": "trunc_normal", "std": "0.02 / sqrt(lyers)", "a": "-3 * std"}
    (problem,) = problems(rules(all=rule | {"b": "2 * std - a"}), Tower())
    assert problem.subject.endswith("argument 'std'")
    assert "lyers" in problem.fact
    assert "layers" in problem.options
    assert not problem.fix


def test_a_name_that_patterns_give_is_known_even_if_this_pattern_does_not_give_it():
    for written in ("lyers", "layers"):
        recipe = rules({"*.weight": {"init": "normal", "std": f"0.02 / sqrt({written})"}})
        (problem,) = problems(recipe, Net())
        assert "{layer}" in problem.fix
    assert "layers" in problems(rules({"*": {"init": "normal", "std": "lyers"}}), Net())[0].options


VARS_THAT_FAIL = {
    "unknown": ({"s": "0.02 / widht"}, 1),
    "through another": ({"s": "2 * t", "t": "0.02 / widht"}, 1),
    "through two ways": ({"s": "t + u", "t": "2 * v", "u": "3 * v", "v": "widht"}, 1),
    "in a circle": ({"s": "t", "t": "u", "u": "s"}, 1),
    "each for itself": ({"s": "0.02 / widht + t", "t": "dpeth"}, 1),
    "unreadable": ({"s": "t * 2", "t": "2 *"}, 1),
    "endless": ({f"s{i}": f"s{i + 1}" for i in range(5000)} | {"s": "s0", "s5000": 1}, 1),
}


@pytest.mark.parametrize(("variables", "count"), VARS_THAT_FAIL.values(), ids=VARS_THAT_FAIL)
def test_a_variable_that_fails_is_told_once_however_many_rules_name_it(variables, count):
    recipe = {
        "fc1.weight": {"init": "normal", "std": "s"},
        "fc2.weight": {"init": "uniform", "a": "-s", "b": "s"},
        "fc1.bias": {"init": "ones", "where": "s > 0"},
        "fc2.bias": {"init": "zeros", "split": ["s", "d0 - s"]},
        "*": {"init": "keep", "companions": {"lr": "s"}, "exclude": "*.bias"},
    }
    with pytest.raises(InitframeError) as caught:
        initframe.resolve(rules(recipe, vars=variables), Net())
    assert len(caught.value.problems) == count, caught.value
    assert caught.value.problems[0].subject.startswith(("vars.", "recipe"))


def test_an_argument_that_fails_is_told_once_whatever_names_it():
    rule = {"init": "trunc_normal", "std": "1 / (d0 - d0)", "a": "-std", "b": "std", "split": ["std", 1]}
    (problem,) = problems(rules({"fc1.weight": rule}), Net())
    assert problem.subject == "rule 'fc1.weight' on fc1.weight [128, 784]: argument 'std'"


def test_a_base_that_cannot_be_read_is_told_once():
    recipe = {
        "*.weight": {"init": "normal", "std": "base_fan_in / fan_in"},
        "*.bias": {"init": "ones", "where": "d0 > 1"},
    }
    (problem,) = problems(rules(recipe) | {"base": "nowhere.safetensors"}, Net())
    assert problem.subject.startswith("base: nowhere.safetensors for rule")


# --- everything is done once -----------------------------------------------------------------------------------------


def test_an_expression_is_parsed_once():
    recipe = rules(
        {
            "*.weight": {"init": "trunc_normal", "std": "0.5 * s", "a": "-3 * std", "b": "3 * std", "where": "d0 > 1"},
            "*.bias": {"init": "constant", "val": ["d0", "2 * d0"], "split": ["d0 / 2", "d0 - d0 / 2"]},
            "*": {"init": "keep", "companions": {"lr": "1 / numel"}, "exclude": "*.weight"},
        },
        vars={"s": "t + t", "t": "1 / d0"},
    )
    expressions._parse_text.cache_clear()
    initframe.resolve(recipe, Net())
    told = expressions._parse_text.cache_info()
    assert told.hits + told.misses == 4 + 4 + 1 + 2


def test_variables_that_name_each_other_twice_are_evaluated_once():
    variables = {f"v{i}": f"v{i + 1} + v{i + 1}" for i in range(60)} | {"v60": 1}
    plan = initframe.resolve(rules({"fc1.bias": {"init": "constant", "val": "v0"}}, vars=variables), Net())
    assert plan["fc1.bias"].fill == Constant(2.0**60)


class Tied(nn.Module):
    """A weight of two names, a counter that may be reset, and a norm."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
        self.other.weight = self.one.weight
        self.norm = nn.BatchNorm1d(4)


def test_a_rule_builds_a_tensors_fill_once(table):
    calls = Counter()

    @initializer("counting")
    def counting(slot, *, who: str, declines: bool = False):
        calls[who, slot.name] += 1
        if declines:
            raise Declined("it is asked to.")
        return Constant(0.0)

    recipe = {
        "a": {"match": "one.weight", "init": "counting", "who": "a"},
        "b": {"match": "other.weight", "init": "counting", "who": "b"},
        "c": {"match": "*", "kind": "any", "init": "counting", "who": "c"},
        "d": {"match": "other.weight", "init": "counting", "who": "d"},
        "e": {"match": "*", "kind": "any", "init": "counting", "who": "e", "declines": True, "optional": True},
    }
    plan = initframe.resolve(rules(recipe), Tied())
    assert {a.rule.name for a in plan.assignments} == {"c", "d"}
    assert calls["c", "norm.num_batches_tracked"] == calls["e", "norm.num_batches_tracked"] == 1
    assert set(calls.values()) == {1}


def test_a_model_is_surveyed_once(monkeypatch):
    counted = Mock(side_effect=resolving.survey)
    monkeypatch.setattr(resolving, "survey", counted)
    model = Net()
    plan = initframe.resolve(rules({"*": "torch_default"}), model)
    assert counted.call_count == 1
    assert plan == resolving.resolve_surveyed(rules({"*": "torch_default"}), survey(model), model)
    assert counted.call_count == 1


def test_a_misspelt_key_of_the_rule_is_told_as_one():
    (problem,) = problems(rules(w={"match": "*.weight", "init": "zeros", "exlude": "fc2.*"}), Net(), RecipeError)
    assert "'exlude'" in problem.fact
    assert problem.fix.endswith("write exclude.")


def test_null_is_no_number():
    (problem,) = problems(rules({"fc1.bias": {"init": "normal", "std": None}}), Net(), RecipeError)
    assert problem.subject == "rule 'fc1.bias': argument 'std': None"
