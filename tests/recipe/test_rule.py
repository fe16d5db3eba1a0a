"""A rule is read whole or not at all; every problem names it and says the way out."""

import copy
import pickle

import pytest

from initframe.recipe.patterns import compile_pattern
from initframe.recipe.read_rule import _READERS, is_numeric, read_option, read_rule
from initframe.recipe.rule import KINDS, RULE_KEYS, ReadOnly, Rule

FULL = {
    "match": ["*.h.{layer}.*", "*.weight"],
    "exclude": "*.norm.*",
    "module": ["Conv*", "Linear"],
    "where": "ndim > 1",
    "kind": "any",
    "split": [64, "heads * d_kv"],
    "init": "normal",
    "optional": True,
    "std": "0.02 / sqrt(2 * layers)",
    "val": [0, 1.5, None],
}


def read(value, name="weights"):
    rule, problems = read_rule(name, value)
    assert problems == ()
    return rule


def problems_of(value, name="weights"):
    rule, problems = read_rule(name, value)
    assert rule is None or rule.broken
    return problems


def test_a_full_rule():
    rule = read(FULL)
    assert [pattern.text for pattern in rule.match] == FULL["match"]
    assert rule.match[0].captures == ("layer",)
    assert [pattern.text for pattern in rule.exclude] == ["*.norm.*"]
    assert rule.module == ("Conv*", "Linear")
    assert rule.where.text == "ndim > 1"
    assert (rule.kind, rule.init, rule.optional) == ("any", "normal", True)
    assert [size.text for size in rule.split] == ["64", "heads * d_kv"]
    assert rule.arguments == {"std": "0.02 / sqrt(2 * layers)", "val": [0, 1.5, None]}
    assert rule.describe() == "rule 'weights' (match '*.h.{layer}.*', '*.weight')"


def test_a_rule_reads_its_own_plain_data_back():
    for value in (FULL, "zeros", {"init": "keep"}, FULL | {"split": 3}):
        rule = read(value)
        assert read(rule.to_dict()) == rule


def test_the_key_is_the_pattern_where_there_is_none():
    for value in ("zeros", {"init": "zeros"}, {"init": "zeros", "match": None}):
        rule = read(value, "features.*.bias")
        assert [pattern.text for pattern in rule.match] == ["features.*.bias"]
        assert rule.describe() == "rule 'features.*.bias'"


def test_null_means_absent_for_the_keys_of_rules_and_itself_for_arguments():
    rule = read({"init": "x", "where": None, "split": None, "kind": None, "optional": None, "exclude": None, "a": None})
    assert (rule.where, rule.split, rule.kind, rule.optional, rule.exclude) == (None, None, "parameter", False, ())
    assert rule.arguments == {"a": None}


def test_arguments_are_a_copy_that_nobody_changes():
    written = {"init": "constant", "val": [0, 1]}
    rule = read(written)
    written["val"].append(2)
    assert rule.arguments["val"] == [0, 1]
    with pytest.raises(TypeError):
        rule.arguments["val"] = 3
    rule.to_dict()["val"].append(4)
    assert rule.arguments["val"] == [0, 1]


def test_rules_travel_to_other_processes():
    rule = read(FULL)
    assert pickle.loads(pickle.dumps(rule)) == copy.deepcopy(rule) == rule


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"match": ""}, "match takes a pattern or a list of patterns, not ''"),
        ({"match": []}, "match is an empty list"),
        ({"match": 3}, "match takes a pattern or a list of patterns, not 3"),
        ({"match": {"a": 1}}, "match takes a pattern or a list of patterns, not {'a': 1}"),
        ({"match": "h{i}.x"}, "match: 'h{i}.x' is not a pattern: '{i}' must be a whole segment"),
        ({"match": "*.{fan_in}.x"}, "hides 'fan_in'"),
        ({"match": "*.{d1}.x"}, "hides 'd1'"),
        ({"exclude": ["a", 1]}, "exclude takes a pattern or a list of patterns, not 1"),
        ({"exclude": "*.{a b}"}, "exclude: '*.{a b}' is not a pattern"),
        ({"module": True}, "module takes a pattern or a list of patterns, not True"),
        ({"where": "ndim >"}, "where 'ndim >': it is not an expression: its syntax is wrong. Use numbers, names"),
        ({"where": 1}, "where takes a condition, not 1"),
        ({"where": []}, "where takes a condition, not []"),
        ({"kind": "param"}, "kind is 'param'. Options: parameter, buffer, any."),
        ({"kind": []}, "kind is []. Options: parameter, buffer, any."),
        ({"split": 0}, "split takes a number of blocks (3) or a list of their sizes"),
        ({"split": -3}, "split takes a number of blocks"),
        ({"split": 3.0}, "split takes a number of blocks"),
        ({"split": True}, "split takes a number of blocks"),
        ({"split": []}, "split takes a number of blocks"),
        ({"split": [1, False]}, "split takes a number of blocks"),
        ({"split": "3"}, "split takes a number of blocks"),
        ({"split": ["a["]}, "split 'a[': it is not an expression"),
        ({"init": None}, "it has no init. Name an initializer"),
        ({"init": 3}, "init takes the name of an initializer, not 3"),
        ({"init": ""}, "init takes the name of an initializer, not ''"),
        ({"init": {"name": "x"}}, "init takes the name of an initializer, not {'name': 'x'}"),
        ({"optional": "yes"}, "optional is 'yes'. Options: true, false."),
        ({"optional": 1}, "optional is 1. Options: true, false."),
        ({"std": float("nan")}, "std is nan. Write a finite number."),
        ({"where": "${oc.env:HOME} > 1"}, "where is '${oc.env:HOME} > 1'; a recipe reads nothing from outside"),
        ({3: 1}, "key 3 is not a text"),
        ({"gain": {"_target_": "os.system"}}, "'_target_' is refused: a recipe is data"),
    ],
)
def test_what_is_wrong_is_named(changes, fact):
    (problem,) = problems_of({"match": "*.w", "init": "zeros"} | changes)
    assert problem.subject.startswith("rule 'weights' (match ")
    assert fact in str(problem)


@pytest.mark.parametrize("value", [3, True, ["zeros"], 1.5])
def test_a_rule_is_a_mapping_or_a_name(value):
    (problem,) = problems_of(value)
    assert "neither a mapping nor an initializer's name" in problem.fact


def test_all_problems_of_a_rule_come_together():
    problems = problems_of({"match": ["{", "h{i}"], "where": "(", "kind": "x", "split": 0, "std": float("inf")})
    assert len(problems) == 7
    assert all(problem.subject.startswith("rule 'weights' (match '{', 'h{i}')") for problem in problems)


def test_read_only_mappings_compare_by_content():
    assert ReadOnly({"a": 1}) == ReadOnly({"a": 1}) == {"a": 1}
    assert ReadOnly({"a": 1}) != ReadOnly({"a": 2})
    assert list(ReadOnly({"a": 1, "b": 2})) == ["a", "b"]
    assert len(ReadOnly()) == 0


def test_every_key_of_a_rule_is_read():
    assert set(RULE_KEYS) == set(_READERS)


def test_options_and_numbers():
    assert [read_option("kind", kind, KINDS) for kind in KINDS] == list(KINDS)
    assert [is_numeric(value) for value in (1, 1.5, "x", True, None, [])] == [True, True, True, False, False, False]


def test_a_rule_can_be_made_in_python():
    rule = Rule("w", (compile_pattern("*.w"),), init="normal", arguments={"std": 2})
    assert rule == read({"match": "*.w", "init": "normal", "std": 2}, "w")
