"""Patterns mean what fnmatch says, plus the two additions, at any length."""

import fnmatch
import itertools
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from initframe.errors import RecipeError
from initframe.recipe.patterns import Capture, compile_pattern, is_plain_name, layer_counts

GLOBS = st.text("ab.*?[]!-^\\&~|01\n", min_size=1, max_size=12)
NAMES = st.text("ab.01-]^\\\n", max_size=12)
PIECES = st.lists(st.sampled_from([".", "*", "?", "a", "1", "*.", ".*"]), max_size=3).map("".join)
DOTTED = st.lists(st.sampled_from(["a", "1", "2", "10", "01", "", "a1"]), min_size=1, max_size=6).map(".".join)


def glob_matches(name, glob):
    """The rule for a whole glob: fnmatchcase, and a leading ``*.`` may stand for nothing."""
    return fnmatch.fnmatchcase(name, glob) or (glob.startswith("*.") and fnmatch.fnmatchcase(name, glob[2:]))


def slow_match(name, pieces):
    """Try every choice of integer segments, leftmost first: the definition, without any regular expression."""
    integers = [found.span() for found in re.finditer(r"(?<![^.])[0-9]+(?![^.])", name)]
    for spans in itertools.combinations(integers, len(pieces) - 1):
        edges = [0, *itertools.chain(*spans), len(name)]
        texts = [name[start:stop] for start, stop in zip(edges[::2], edges[1::2], strict=True)]
        if glob_matches(texts[0], pieces[0]) and all(map(fnmatch.fnmatchcase, texts[1:], pieces[1:])):
            return [(int(name[start:stop]), name[:start]) for start, stop in spans]
    return None


@given(GLOBS, NAMES)
def test_plain_globs_are_fnmatchcase(glob, name):
    assert (compile_pattern(glob).match(name) is not None) == glob_matches(name, glob)


@given(GLOBS.map("*.".__add__), NAMES)
def test_a_leading_star_and_dot_may_stand_for_nothing(glob, name):
    assert (compile_pattern(glob).match(name) is not None) == glob_matches(name, glob)


@given(st.lists(PIECES, min_size=2, max_size=3), DOTTED)
def test_captures_are_whole_integer_segments_leftmost_where_several_fit(pieces, name):
    captures = ("{x}", "{y}")[: len(pieces) - 1]
    text = pieces[0] + "".join(capture + piece for capture, piece in zip(captures, pieces[1:], strict=True))
    expected = slow_match(name, pieces)
    try:
        found = compile_pattern(text).match(name)
    except RecipeError:  # a capture beside other text of its segment
        assert expected is None
        return
    assert (found if found is None else [(c.value, c.prefix) for c in found]) == expected


@pytest.mark.parametrize(
    ("text", "name", "captures"),
    [
        ("*.h.{layer}.*.c_proj.weight", "h.11.mlp.c_proj.weight", [("layer", 11, "h.")]),
        ("*.{layer}.*", "a.3.4.weight", [("layer", 3, "a.")]),
        ("*.{layer}.*", "3.4.weight", [("layer", 3, "")]),
        ("{layer}", "007", [("layer", 7, "")]),
        ("{i}.{j}", "1.2", [("i", 1, ""), ("j", 2, "1.")]),
        ("*.{layer}.weight", "h.3a.weight", None),
        ("*.{layer}.weight", "h.-3.weight", None),
        ("*.{layer}.weight", "h.\u0663.weight", None),
        ("*.{layer}.weight", f"h.{'9' * 5000}.weight", None),
        ("a[{x}]b", "a{b", []),
    ],
)
def test_examples(text, name, captures):
    found = compile_pattern(text).match(name)
    assert found == (None if captures is None else tuple(Capture(*capture) for capture in captures))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("a" * 1001, "longer than"),
        ("a\0b", "control"),
        ("a\1b", "control"),
        ("*.{0}.weight", "one identifier"),
        ("*.{}.weight", "one identifier"),
        ("*.{a b}.weight", "one identifier"),
        ("*.{for}.weight", "one identifier"),
        ("*.{\u00e9}.weight", "one identifier"),
        ("*.{layer", "stands alone"),
        ("*.layer}", "stands alone"),
        ("{x}.{x}", "two captures give the fact 'x'"),
        ("{layer}.{layers}", "two captures give the fact 'layers'"),
        ("h{x}.weight", "'{x}' must be a whole segment"),
        ("{x}.{y}z", "'{y}' must be a whole segment"),
        ("{x}{y}", "'{y}' must be a whole segment"),
    ],
)
def test_malformed_patterns_say_why(text, reason):
    (problem,) = refused(compile_pattern, text, kind=RecipeError)
    assert reason in problem.fact + problem.fix


def test_many_stars_on_a_long_name_do_not_explode():
    name = "a" * 20_000
    assert compile_pattern("*a" * 200 + "*b").match(name) is None
    assert compile_pattern("*a*a*a*{x}*a*a*b").match(f"{name}.1.{name}") is None


def test_layers_are_counted_behind_the_same_text():
    names = [f"{part}.h.{i}.mlp.{w}" for part, n in [("encoder", 3), ("decoder", 2)] for i in range(n) for w in "ab"]
    counts = layer_counts(map(compile_pattern("*.h.{layer}.*").match, ["h.7.x", *names]))
    assert counts == {("layer", "h."): 1, ("layer", "encoder.h."): 3, ("layer", "decoder.h."): 2}


def test_nested_captures_count_apart():
    names = ["s.0.b.0.w", "s.0.b.1.w", "s.1.b.0.w"]
    counts = layer_counts(map(compile_pattern("s.{stage}.b.{block}.w").match, names))
    assert counts == {("stage", "s."): 2, ("block", "s.0.b."): 2, ("block", "s.1.b."): 1}


def test_patterns_are_cached_compared_by_text_and_travel_to_other_processes():
    pattern = compile_pattern("*.h.{layer}.*")
    assert compile_pattern("*.h.{layer}.*") is pattern
    copy = pickle.loads(pickle.dumps(pattern))
    assert copy == pattern
    assert copy.match("h.1.x") == pattern.match("h.1.x")


@given(st.text(max_size=20))
def test_any_text_is_a_pattern_or_a_recipe_error(text):
    try:
        pattern = compile_pattern(text)
    except RecipeError:
        return
    pattern.match(text)


@given(st.from_regex(r"\w{1,5}", fullmatch=True))
def test_plain_names_are_what_expressions_can_name(text):
    if is_plain_name(text):
        compile_pattern(f"{{{text}}}")
