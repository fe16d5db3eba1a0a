"""Plain data, within bounds; everything else is named."""

import datetime
import enum
import math

import pytest
import yaml
from omegaconf import OmegaConf
from refusals import refused

from initframe.errors import RecipeError
from initframe.limits import RECIPE_DEPTH, RECIPE_VALUES
from initframe.recipe.plain import CODE_KEYS, check_size, plain_copy, strangers
from initframe.recipe.recipe import load_recipe


def nested(depth):
    data = 0
    for _ in range(depth - 1):
        data = [data]
    return data


def test_bounds_are_exact():
    check_size(nested(RECIPE_DEPTH))
    check_size([0] * (RECIPE_VALUES - 1))
    assert "deeper" in refused(check_size, nested(RECIPE_DEPTH + 1), kind=RecipeError)[0].fact
    assert "more than" in refused(check_size, [0] * RECIPE_VALUES, kind=RecipeError)[0].fact


def test_shared_and_cyclic_data_is_counted_wherever_it_occurs():
    bomb = [0] * 9
    for _ in range(8):
        bomb = [bomb] * 9
    cycle = {}
    cycle["again"] = cycle
    for data in (bomb, cycle):
        refused(check_size, data, kind=RecipeError)


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        ({"std": math.nan}, "std is nan"),
        ({"a": [1, -math.inf]}, "a[1] is -inf"),
        ({"a": {"b": "x ${oc.env:HOME}"}}, "a.b is 'x ${oc.env:HOME}'; a recipe reads nothing from outside"),
        ({"${x}": 1}, "key '${x}' is refused"),
        ({True: 1}, "YAML reads on, yes and true as True"),
        ({False: 1}, "YAML reads off, no and false as False"),
        ({"a": {8: 1}}, "key 8 of a is not a text. Put it in quotes; YAML reads digits as a number"),
        ({None: 1}, "key None is not a text"),
        ({"day": datetime.date(2020, 1, 2)}, "day is of type date"),
        ({"a": b"x"}, "a is of type bytes"),
        ({"a": {1, 2}}, "a is of type set"),
        (print, "the value is of type builtin_function_or_method"),
    ],
)
def test_strangers_are_named(data, fact):
    (problem,) = strangers(data)
    assert fact in str(problem)
    assert problem.fix


@pytest.mark.parametrize("key", sorted(CODE_KEYS))
def test_keys_that_mean_code_are_refused_at_any_depth(key):
    (problem,) = strangers({"a": [{"b": {key: "os.system"}}]})
    assert f"'{key}' is refused" in problem.fact
    assert "from a[0].b" in problem.fix


def test_a_rule_and_a_variable_may_be_called_target():
    data = {"rules": {"target": {"match": "target.*", "init": "zeros"}}, "vars": {"target": 3}, "base": {"target": [3]}}
    assert not list(strangers(data))
    recipe = load_recipe(data)
    assert recipe.rules[0].name == "target"
    assert load_recipe(recipe.to_dict()) == recipe


def test_plain_data_is_welcome_and_copied_into_its_own():
    data = {"a": [1, 2.5, None, True, "x"], "b": {"c": []}}
    assert not list(strangers(data))
    copy = plain_copy(data)
    assert copy == data
    copy["a"].append(3)
    assert data["a"][-1] == "x"


class Init(enum.Enum):
    normal = 1


class Words(enum.StrEnum):
    INIT = "normal"


class Sizes(enum.IntEnum):
    ONE = 1


class Scalar(float):
    """A number that remembers how it was written, as in readers of YAML that keep comments."""


class Quoted(str):
    """Likewise a text."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Init.normal, "normal"),
        (Words.INIT, "normal"),
        (Sizes.ONE, 1),
        (Scalar(0.5), 0.5),
        (Quoted("a"), "a"),
        (True, True),
    ],
)
def test_texts_and_numbers_of_other_classes_become_pythons_own(given, expected):
    copy = plain_copy({Quoted("key"): [given]})
    assert copy == {"key": [expected]}
    assert type(copy["key"][0]) is type(expected)
    assert all(type(key) is str for key in copy)


def test_a_recipe_of_other_classes_has_a_text_that_is_read_back():
    rule = {"match": Quoted("*.weight"), "init": Init.normal, "std": Scalar(0.5), "mean": Sizes.ONE}
    recipe = load_recipe({Quoted("rules"): {Quoted("weights"): rule}})
    assert load_recipe(yaml.safe_load(recipe.to_yaml())) == recipe
    assert load_recipe(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    "source",
    [
        ["xavier_relu", {"rules": {"biases": None}}],
        {"rules": {"a": {"match": ["*.weight", "*.bias"], "init": "zeros", "units": [0, 1]}}},
    ],
)
def test_lists_of_omegaconf_are_lists_wherever_they_are(source):
    expected = load_recipe(source)
    assert load_recipe(OmegaConf.create(source)) == expected
    if isinstance(source, dict):
        assert load_recipe({"rules": OmegaConf.create(source["rules"])}) == expected
        rule = {key: OmegaConf.create(value) if isinstance(value, list) else value for key, value in RULE.items()}
        assert load_recipe({"rules": {"a": rule}}) == expected
        assert load_recipe({"rules": {"a": {**RULE, "units": range(2)}}}) == expected


RULE = {"match": ["*.weight", "*.bias"], "init": "zeros", "units": [0, 1]}


def test_a_missing_value_of_a_config_is_named():
    (problem,) = refused(load_recipe, OmegaConf.create({"rules": {"a": {"init": "???"}}}), kind=RecipeError)
    assert problem.subject == "rules.a.init"


@pytest.mark.parametrize("empty", [OmegaConf.create([]), [], ()])
def test_a_list_of_no_recipes_is_refused(empty):
    assert refused(load_recipe, empty, kind=RecipeError)
