"""The JSON schema of recipes: what load_recipe takes, it takes, and it finds misspelt keys, names and arguments."""

import json
import re
from itertools import takewhile
from pathlib import Path

import pytest
import yaml
from torch import nn

import initframe
from initframe.errors import InitframeError
from initframe.initializers.arguments import signature
from initframe.initializers.table import get, list_initializers, parameters
from initframe.recipe.presets import conf_directory, presets
from initframe.recipe.recipe import OPTIONS
from initframe.recipe.rule import RULE_KEYS
from initframe.resolver.prepare import FACTOR, prepare
from initframe.resolver.schema import MODELINE, NAME, RULE, recipe_schema, schema_text

jsonschema = pytest.importorskip("jsonschema")

ROOT = Path(__file__).parents[2]
OWN = [name for name in list_initializers() if get(name).__module__.startswith("initframe.initializers.")]


@pytest.fixture(scope="module")
def schema():
    return recipe_schema(plugins=False)


@pytest.fixture(scope="module")
def wrong(schema):
    """What is wrong with a recipe, as an editor would underline it."""
    validator = jsonschema.Draft7Validator(schema)
    return lambda data: [error.message for error in validator.iter_errors(data)]


def named(schema):
    """The initializers that a schema knows."""
    return schema["definitions"]["rule"]["properties"]["init"]["enum"]


def refused(data):
    """Whether initframe itself refuses a recipe without a model."""
    try:
        problems = [problem for rule in initframe.load_recipe(data).rules for problem in prepare(rule)[1]]
    except InitframeError:
        return True
    return bool(problems)


def test_it_is_a_schema(schema):
    jsonschema.Draft7Validator.check_schema(schema)
    assert RULE.keys() == {*RULE_KEYS, FACTOR}
    assert schema["properties"].keys() == {"rules", "vars", "base", "requires", "defaults", *OPTIONS}
    assert named(schema) == OWN
    calls = [entry["then"] for entry in schema["definitions"]["rule"]["then"]["allOf"]]
    assert len(calls) == len(OWN)
    assert all(call["properties"]["init"]["description"] for call in calls)


@pytest.mark.parametrize("name", presets())
def test_a_preset_fits_and_says_where_the_schema_is(wrong, name):
    text = presets()[name].read_text(encoding="utf-8")
    assert wrong(yaml.safe_load(text)) == []
    head = list(takewhile(lambda line: line.startswith("#"), text.splitlines()))
    assert head[-1] == MODELINE  # the last of the first comments: further down, editors do not find it
    assert (presets()[name].parent / NAME).is_file()


def test_the_file_is_what_the_table_says(request):
    path = conf_directory() / "init" / NAME
    if request.config.getoption("--overwrite"):
        path.write_text(schema_text(plugins=False) + "\n", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == schema_text(plugins=False) + "\n", (
        "run pytest tests/resolver --overwrite"
    )


def documented():
    """Every recipe on the pages."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        for text in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            if isinstance(data := yaml.safe_load(text), dict) and data.keys() & {"rules", "unmatched", "vars"}:
                yield data


def test_every_recipe_on_the_pages_fits(wrong):
    recipes = list(documented())
    assert len(recipes) > 20
    for data in recipes:
        rules = [rule for rule in data.get("rules", {}).values() if isinstance(rule, dict)]
        if all(rule.get("init", "zeros") in OWN for rule in rules):  # not the pages' own initializers
            assert wrong(data) == []


VALUES = {"number": 0.5, "integer": 2, "text": "x", "flag": True, "any": {"a.*": "b.*"}}


def example(name):
    """A rule with all arguments of an initializer."""
    known = signature(get(name)).values()
    values = {p.name: p.options[0] if p.type == "choice" else VALUES[p.type] for p in known}
    return {"match": "*", "init": name, **{p.name: [values[p.name]] if p.many else values[p.name] for p in known}}


@pytest.mark.parametrize("name", OWN)
def test_an_initializer_with_all_its_arguments_and_with_its_defaults(wrong, name):
    full = example(name)
    assert wrong({"rules": {"r": full}}) == []
    assert not refused({"rules": {"r": full}})
    for argument, parameter in parameters(get(name)).items():
        default = parameter.default
        if default is parameter.empty:
            continue
        default = list(default) if isinstance(default, tuple) else default
        assert wrong({"rules": {"r": {**full, argument: default}}}) == []


@pytest.mark.parametrize("name", OWN)
def test_a_misspelt_argument_is_found(wrong, name):
    full = example(name)
    for argument in full.keys() - {"match", "init"}:
        rest = {key: value for key, value in full.items() if key != argument}
        data = {"rules": {"r": {**rest, f"{argument}_": full[argument]}}}
        assert wrong(data)
        assert refused(data)


@pytest.mark.parametrize("key", [*RULE_KEYS, FACTOR])
def test_a_misspelt_key_of_a_rule_is_found(wrong, key):
    for rule in ({"match": "*", "init": "normal", f"{key}_": 1}, {f"{key}_": 1}):
        assert wrong({"rules": {"r": rule}})
        assert refused({"rules": {"r": rule}})


@pytest.mark.parametrize(
    "data",
    [
        {"rulez": {}},
        {"rules": {"*": "xavier_unifrom"}},
        {"rules": {"r": {"match": "*", "init": "xavier_unifrom"}}},
        {"rules": {"r": {"match": "*", "init": "constant"}}},
        {"rules": {"r": {"match": "*", "init": "normal", "std": True}}},
        {"rules": {"r": {"match": "*", "init": "normal", "std": {"a": 1}}}},
        {"rules": {"r": {"match": "*", "init": "kaiming_normal", "mode": "fan_inn"}}},
        {"rules": {"r": {"match": 3, "init": "zeros"}}},
        {"rules": {"r": {"match": "*", "init": "zeros", "kind": "parameters"}}},
        {"rules": {"r": {"match": "*", "init": "zeros", "axes": ["row"]}}},
        {"rules": {"r": {"match": "*", "init": "zeros", "units": [-1]}}},
        {"rules": {"r": {"match": "*", "init": "zeros", "split": 0}}},
        {"rules": {}, "unmatched": "keeep"},
        {"rules": {}, "vars": {"a": [1]}},
        {"rules": {}, "base": {"w": ["a"]}},
        {"rules": ["zeros"]},
        [],
    ],
    ids=json.dumps,
)
def test_what_it_finds_initframe_refuses(wrong, data):
    assert wrong(data)
    with pytest.raises(InitframeError):
        initframe.resolve(data, nn.Linear(2, 2))


@pytest.mark.parametrize(
    "data",
    [
        {"rules": {"*.bias": "zeros"}},
        {"rules": {"biases": None}},
        {"rules": {"weights": {"gain": "sqrt(2)"}}},
        {"defaults": ["xavier_relu", "_self_"], "rules": {}},
        {"rules": {"r": {"match": "*", "init": "normal", "std": [0.1, "1 / fan_in"], "split": 2, "where": None}}},
    ],
)
def test_overlays_and_short_forms_fit(wrong, data):
    assert wrong(data) == []


def test_an_initializer_of_ones_own_is_in_it(table):
    @initframe.initializer("quiet")
    def quiet(slot, *, level: int, loud: bool = False):
        """Almost nothing."""

    validator = jsonschema.Draft7Validator(recipe_schema())
    assert validator.is_valid({"rules": {"r": {"match": "*", "init": "quiet", "level": 3}}})
    assert not validator.is_valid({"rules": {"r": {"match": "*", "init": "quiet", "levle": 3}}})
    assert not validator.is_valid({"rules": {"r": {"match": "*", "init": "quiet", "level": 3, "loud": 1}}})
    assert "quiet" not in named(recipe_schema(plugins=False))


@pytest.mark.parametrize("name", ["rule", "my/law", "50%~"])
def test_any_name_of_an_initializer(table, name):
    @initframe.initializer(name)
    def law(slot, *, level: int):
        """Anything."""

    validator = jsonschema.Draft7Validator(recipe_schema())
    assert validator.is_valid({"rules": {"r": {"match": "*", "init": name, "level": 3}}})
    assert not validator.is_valid({"rules": {"r": {"match": "*", "init": name, "levle": 3}}})
