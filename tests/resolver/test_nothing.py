"""Recipes and models of which nothing is filled: a note if no rule had to match, otherwise an error."""

import pytest
from nets import rules
from refusals import refused
from torch import nn

import initframe


@pytest.mark.parametrize(
    "recipe",
    [
        "torch_default",
        {"rules": {}},
        {"rules": {}, "unmatched": "default"},
        {"rules": {"a": None}},
        rules({"*.weight": {"init": "zeros", "optional": True}}),
    ],
)
@pytest.mark.parametrize("model", [nn.ReLU(), nn.Sequential(), {}], ids=["layer", "model", "state_dict"])
def test_a_note_if_every_rule_is_optional_or_a_default(recipe, model):
    plan = initframe.resolve(recipe, model)
    assert plan.assignments == ()
    assert len(plan.warnings) == 1
    assert plan.warnings[0] in " ".join(str(plan).split())
    assert initframe.apply(plan).results == ()


@pytest.mark.parametrize("recipe", ["xavier_relu", rules({"*": {"init": "torch_default", "kind": "any"}})])
def test_an_error_if_a_rule_has_to_match(recipe):
    assert refused(initframe.resolve, recipe, nn.ReLU())


def test_no_note_where_something_is_filled_or_skipped():
    assert initframe.resolve({"rules": {}, "unmatched": "default"}, nn.Linear(2, 3)).warnings == ()
    with pytest.warns(UserWarning, match="zero-element"):
        empty = nn.Linear(0, 3, bias=False)
    plan = initframe.resolve("torch_default", empty)
    assert (plan.warnings, plan.skipped) == ((), {"weight": "it has no elements."})
