"""Recipes are data: read from anywhere, written back, and all their problems told at once."""

import copy
import json
import pickle

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from refusals import refused

from initframe.errors import RecipeError
from initframe.recipe.plain import CODE_KEYS
from initframe.recipe.recipe import OPTIONS, Recipe, load_recipe, parse_recipe
from initframe.recipe.rule import RULE_KEYS

RULES = {"weights": {"match": "*.weight", "where": "ndim > 1", "init": "normal", "std": 0.02}, "*.bias": "zeros"}

NUMBERS = st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.sampled_from(["fan_in", "1 / sqrt(2)", "1e-3", "relu", "-2 * base"])
WORDS = st.from_regex(r"[a-z]{1,6}", fullmatch=True).filter(lambda word: word not in {*RULE_KEYS, *CODE_KEYS})
VALUES = st.recursive(
    NUMBERS | TEXTS | st.booleans() | st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=4
)
PATTERNS = st.sampled_from(["*", "*.weight", "*.h.{layer}.*", "features.[0-9].bias", "fc?"])
RULE = st.builds(
    lambda arguments, keys, match: {**arguments, **keys, "match": match},
    st.dictionaries(WORDS, VALUES, max_size=3),
    st.fixed_dictionaries(
        {"init": WORDS},
        optional={
            "exclude": PATTERNS | st.lists(PATTERNS, max_size=2),
            "module": st.just("Conv*") | st.lists(st.just("Linear"), max_size=2),
            "where": st.sampled_from(["ndim > 1", "layer < layers / 2", True]),
            "kind": st.sampled_from(["parameter", "buffer", "any"]),
            "split": st.integers(1, 4) | st.lists(st.integers(1, 9) | TEXTS, min_size=1, max_size=3),
            "optional": st.booleans(),
        },
    ),
    PATTERNS | st.lists(PATTERNS, min_size=1, max_size=2),
)
RECIPES = st.fixed_dictionaries(
    {"rules": st.dictionaries(WORDS, RULE | WORDS, min_size=1, max_size=4)},
    optional={
        "vars": st.dictionaries(WORDS.map("my_{}".format), NUMBERS | TEXTS, max_size=3),
        **{key: st.sampled_from(options) for key, options in OPTIONS.items()},
    },
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.binary(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["rules", "vars", "unused", "match", "where", "split", "init"])
            | st.text(max_size=3)
            | st.integers(),
            inner,
            max_size=4,
        )
    ),
)


@given(RECIPES)
def test_plain_data_reads_back_to_an_equal_recipe(written):
    recipe = load_recipe(written)
    data = recipe.to_dict()
    assert load_recipe(data) == recipe
    assert load_recipe(json.loads(json.dumps(data))) == recipe
    assert [rule.name for rule in recipe.rules] == list(written["rules"])
    assert load_recipe(data).to_dict() == data


@given(ANYTHING)
def test_whatever_is_given_is_a_recipe_or_a_recipe_error(source):
    recipe, problems = parse_recipe({"rules": source})
    assert recipe.rules or problems or isinstance(source, dict)
    parse_recipe(source)


def test_defaults():
    recipe = load_recipe({"rules": RULES})
    assert (recipe.unused, recipe.unmatched, recipe.fans, recipe.name) == ("error", "keep", "torch", "recipe")
    assert dict(recipe.vars) == {}
    assert load_recipe(recipe) is recipe


def test_a_file_a_path_and_a_mapping_give_equal_recipes(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"rules": RULES}, sort_keys=False))
    recipe = load_recipe(str(path))
    assert recipe == load_recipe(path) == load_recipe({"rules": RULES})
    assert recipe.name == str(path)


def test_a_file_without_suffix_is_found_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "mine").write_text(yaml.safe_dump({"rules": RULES}))
    monkeypatch.chdir(tmp_path)
    assert load_recipe("mine").name == "mine"


def test_a_preset_is_found_by_its_name_and_a_typo_is_helped():
    assert load_recipe("xavier_relu").name == "xavier_relu"
    (problem,) = refused(load_recipe, "xavier_rleu", kind=RecipeError)
    assert "xavier_rleu" in problem.fact
    assert "xavier_relu" in problem.options


@pytest.mark.parametrize("source", ["", "a\0b", "x" * 5000, "/nowhere/at.yaml", "no.yml", "a/b", 3, None, ["zeros"]])
def test_what_is_no_source_is_one_clear_message(source):
    assert len(refused(load_recipe, source, kind=RecipeError)) == 1


def test_null_deletes_a_rule():
    recipe = load_recipe({"rules": RULES | {"weights": None}})
    assert [rule.name for rule in recipe.rules] == ["*.bias"]


def test_a_recipe_travels_to_other_processes():
    recipe = load_recipe({"rules": RULES, "vars": {"base": 256}})
    assert pickle.loads(pickle.dumps(recipe)) == copy.deepcopy(recipe) == recipe


def test_a_composed_config_is_a_mapping_too():
    config = OmegaConf.create({"rules": RULES | {"many": {"match": ["a", "b"], "init": "zeros"}}})
    assert load_recipe(config) == load_recipe(OmegaConf.to_container(config))


def test_an_interpolation_is_refused_and_never_resolved(monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    config = OmegaConf.create({"rules": {"*": {"init": "normal", "std": "${oc.env:SECRET}"}}})
    with pytest.raises(RecipeError, match="reads nothing from outside") as caught:
        load_recipe(config)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        ({}, "it has no rules"),
        ({"rules": None}, "it has no rules"),
        ({"rules": ["zeros"]}, "rules is ['zeros'], not a mapping"),
        ({"rules": RULES, "rulez": 1}, "unknown key 'rulez'. Closest: rules."),
        ({"rules": RULES, "defaults": []}, "'defaults' is read by the command line only"),
        ({"rules": RULES, "_target_": "os.system"}, "'_target_' is refused"),
        ({"rules": RULES, True: 1}, "key True is not a text"),
        ({"rules": RULES | {True: "zeros"}}, "key True of rules is not a text"),
        ({"rules": RULES | {8: "zeros"}}, "YAML reads digits as a number (010 as 8)"),
        ({"rules": RULES | {"_target_": "zeros"}}, "'_target_' is refused"),
        ({"rules": RULES, "target": "zeros"}, "'target' is refused"),
        ({"rules": RULES, "vars": 3}, "vars is 3, not a mapping"),
        ({"rules": RULES, "vars": {"fan_in": 3}}, "vars.fan_in: 'fan_in' has a meaning of its own"),
        ({"rules": RULES, "vars": {"d2": 3}}, "vars.d2: 'd2' has a meaning of its own"),
        ({"rules": RULES, "vars": {"sqrt": 3}}, "vars.sqrt: 'sqrt' has a meaning of its own"),
        ({"rules": RULES, "vars": {"a b": 3}}, "'a b' is not a name"),
        ({"rules": RULES, "vars": {"for": 3}}, "'for' is not a name"),
        ({"rules": RULES, "vars": {"base": True}}, "True is neither a number nor an expression"),
        ({"rules": RULES, "vars": {"base": [1]}}, "[1] is neither a number nor an expression"),
        ({"rules": RULES, "vars": {"base": float("nan")}}, "vars.base is nan"),
        ({"rules": RULES, "vars": {8: 1}}, "key 8 of vars is not a text"),
        ({"rules": RULES, "vars": {"base": "9 **"}}, "vars.base '9 **': it is not an expression: its syntax is wrong"),
        ({"rules": RULES, "vars": {"base": 10**400}}, "not an expression: a number is not finite, or too large"),
        ({"rules": RULES, "unused": False}, "unused is False. Options: error, warn."),
        (
            {"rules": RULES, "unmatched": "default_"},
            "unmatched is 'default_'. Options: keep, error, default, constructor.",
        ),
        ({"rules": RULES, "fans": []}, "fans is []. Options: torch, effective."),
    ],
)
def test_what_is_wrong_with_a_recipe_is_named(data, fact):
    _, problems = parse_recipe(data)
    about = [problem for problem in problems if "unknown key" not in problem.fact or "unknown key" in fact]
    assert len(about) == 1, problems
    assert about[0].subject.startswith("recipe")
    assert fact in str(about[0])


def test_all_problems_come_together_and_what_can_be_read_is_kept():
    broken = {"rules": RULES | {"odd": 3, "bad": {"init": "x", "where": "("}}, "unused": "no", "vars": {"pi": 3}}
    recipe, problems = parse_recipe(broken)
    assert [(rule.name, rule.broken) for rule in recipe.rules] == [*((name, False) for name in RULES), ("bad", True)]
    assert len(problems) == 4
    assert refused(load_recipe, broken, kind=RecipeError) == problems


def test_problems_of_a_file_name_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("- 1\n")
    with pytest.raises(RecipeError, match=r"recipe '.*mine\.yaml' is a list, not a mapping"):
        load_recipe(path)
    path.write_text("")
    with pytest.raises(RecipeError, match=r"recipe '.*mine\.yaml' is empty"):
        load_recipe(path)


def test_data_without_end_is_refused():
    cycle = {"rules": {}}
    cycle["rules"]["again"] = cycle
    with pytest.raises(RecipeError, match="nested deeper"):
        load_recipe(cycle)
    recipe, (problem,) = parse_recipe({"rules": {str(i): "zeros" for i in range(30_000)}})
    assert recipe == Recipe()
    assert (problem.subject, problem.fact) == ("recipe", "it holds more than 20000 values.")


ATTACKS = [
    "rules: {w: {match: '*', init: {_target_: pathlib.Path.write_text, self: MARKER, data: x}}}",
    "rules: {w: {match: '*', init: zeros, _target_: os.system, _args_: [touch MARKER]}}",
    "rules: {w: {match: '*', init: zeros, val: {_target_: subprocess.run, _args_: [[touch, MARKER]]}}}",
    "_target_: os.system\n_args_: [touch MARKER]\nrules: {'*': zeros}",
    "rules: {w: {match: '*', init: zeros, target: os.system, _partial_: true}}",
    "rules: !!python/object/apply:os.system ['touch MARKER']",
    "rules: {w: {init: !!python/object/new:os.system ['touch MARKER']}}",
    "rules: {w: !!python/name:os.system ''}",
    "rules: {w: {match: '*', init: zeros, where: \"__import__('os').system('touch MARKER')\"}}",
    "rules: {w: {match: '*', init: zeros, where: \"open('MARKER', 'w')\"}}",
    "rules: {w: {match: '*', init: zeros, split: [\"().__class__.__mro__[1].__subclasses__()\"]}}",
    "rules: {'*': zeros}\nvars: {a: \"(lambda: __import__('os').mkdir('MARKER'))()\"}",
    "rules: {w: {match: '*', init: normal, std: '${oc.env:HOME}'}}",
    "rules: {w: {match: '*', init: normal, std: '${oc.create:MARKER}'}}",
    "defaults: [file://MARKER]\nrules: {'*': zeros}",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_recipes_are_refused_and_do_nothing(tmp_path, monkeypatch, attack):
    monkeypatch.setenv("HOME", "hunter2")
    marker = tmp_path / "marker"
    path = tmp_path / "attack.yaml"
    path.write_text(attack.replace("MARKER", str(marker)))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert not marker.exists()
    assert "hunter2" not in str(caught.value)


def test_a_hostile_recipe_would_have_worked_elsewhere(tmp_path):
    """The marker is a real witness: the same text does harm in a loader that runs what it reads."""
    marker = tmp_path / "marker"
    text = ATTACKS[5].replace("MARKER", str(marker))
    yaml.load(text, yaml.UnsafeLoader)
    assert marker.exists()


def test_a_recipe_may_have_no_rules():
    for rules in ({}, {"a": None}):
        assert load_recipe({"rules": rules, "unmatched": "default"}).rules == ()
