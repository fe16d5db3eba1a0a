"""Recipes over each other, and numbers of other libraries."""

import datetime
import math

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

import initframe
from initframe.errors import RecipeError, ResolveError
from tests.refusals import refused

BASE = {"rules": {"w": {"match": "weight", "init": "normal", "std": 0.1}, "b": {"match": "bias", "init": "zeros"}}}


def test_rules_of_one_name_become_one_in_their_first_place():
    recipe = initframe.load_recipe([BASE, {"rules": {"w": {"std": 0.5}, "c": {"match": "bias", "init": "ones"}}}])
    assert [rule.name for rule in recipe.rules] == ["w", "b", "c"]
    assert recipe.rules[0].arguments["std"] == 0.5
    assert recipe.rules[0].init == "normal"


def test_as_the_command_line_lays_them():
    names = ["xavier_relu", "head_small"]
    with_hydra = OmegaConf.merge(*(OmegaConf.create(initframe.load_recipe(name).to_dict()) for name in names))
    assert initframe.load_recipe(names) == initframe.load_recipe(with_hydra)
    assert initframe.load_recipe(names).name == "xavier_relu+head_small"
    assert initframe.resolve(names, nn.ModuleDict({"fc": nn.Linear(4, 2), "x": nn.Linear(4, 4)}))["fc.weight"]


def test_null_deletes_a_rule_that_is_there_and_is_told_otherwise(tmp_path):
    assert [rule.name for rule in initframe.load_recipe([BASE, {"rules": {"b": None}}]).rules] == ["w"]
    (problem,) = refused(initframe.load_recipe, [BASE, {"rules": {"bb": None}}], kind=RecipeError)
    assert problem.subject == "rule 'bb'"
    path = tmp_path / "r.yaml"
    path.write_text("rules: {w: {match: weight, init: zeros}, b: ~}")
    assert refused(initframe.load_recipe, path, kind=RecipeError)


@pytest.mark.parametrize("strange", [[], [3], [["xavier_relu"]], ["xavier_relu", "no_such_preset"]])
def test_lists_that_are_none(strange):
    assert refused(initframe.load_recipe, strange, kind=RecipeError)


def test_a_config_as_hydra_gives_it():
    config = OmegaConf.create({"init": BASE, "std": 0.3})
    assert initframe.load_recipe(config.init) == initframe.load_recipe(BASE)
    config.init.rules.w.std = "${std}"
    (problem,) = refused(initframe.load_recipe, config.init, kind=RecipeError)
    assert "OmegaConf.resolve" in problem.fix
    OmegaConf.resolve(config)
    assert initframe.load_recipe(config.init).rules[0].arguments["std"] == 0.3


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.float16(0.5)])
def test_numpys_numbers_are_numbers(number):
    recipe = {"rules": {"weight": {"init": "normal", "std": number}}, "vars": {"x": number}}
    loaded = initframe.load_recipe(recipe)
    assert type(loaded.rules[0].arguments["std"]) is float
    assert loaded == initframe.load_recipe({"rules": {"weight": {"init": "normal", "std": 0.5}}, "vars": {"x": 0.5}})
    fill = initframe.Normal(0.0, number)
    assert fill == initframe.Normal(0.0, 0.5)
    assert type(fill.std) is float
    assert type(fill.to_dict()["std"]) is float


def test_numpys_integers_are_integers():
    one, other = nn.Linear(4, 4), nn.Linear(4, 4)
    recipe = {"rules": {"weight": {"init": "orthogonal", "split": np.int64(2), "units": [np.int32(1)]}}}
    initframe.reinit(one, {"rules": {"*": "zeros"}})
    report = initframe.reinit(one, recipe, seed=np.int64(7))
    assert type(report.seed) is int
    initframe.reinit(other, {"rules": {"weight": {"init": "orthogonal", "split": 2}}}, seed=7)
    assert torch.equal(one.weight[1], other.weight[1])
    assert refused(initframe.reinit, one, recipe, seed=np.float64(7), kind=ResolveError)
    assert refused(initframe.reinit, one, recipe, seed=np.bool_(True), kind=ResolveError)


@pytest.mark.parametrize("text", ["leaky_relu(True)", "1 + True", "-True", "1 < True", "min(1, False)"])
def test_true_and_false_are_no_numbers(text):
    recipe = {"rules": {"weight": {"init": "constant", "val": text}}}
    assert refused(initframe.resolve, recipe, nn.Linear(2, 2))


@pytest.mark.parametrize("value", [math.nan, math.inf, datetime.date(2026, 1, 1), object()])
def test_an_argument_that_cannot_be_read_is_not_missing(value):
    problems = refused(initframe.resolve, {"rules": {"weight": {"init": "constant", "val": value}}}, nn.Linear(2, 2))
    assert not any("missing" in str(problem) for problem in problems)
    assert len(problems) == 1


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("he_normal", "kaiming_normal"),
        ("he_uniform", "kaiming_uniform"),
        ("glorot_uniform", "xavier_uniform"),
        ("GlorotNormal", "xavier_normal"),
        ("msra", "kaiming_normal"),
        ("truncated_normal", "trunc_normal"),
        ("xavier_uniform_", "xavier_uniform"),
        ("Orthogonal", "orthogonal"),
    ],
)
def test_the_closest_initializer_is_the_one_of_that_meaning(written, meant):
    problems = refused(initframe.resolve, {"rules": {"weight": written}}, nn.Linear(2, 2))
    assert f"Closest: {meant}." in problems[0].options
