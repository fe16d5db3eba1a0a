"""Problems are data, rendered in one place: harmless, bounded, one line each."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initframe import errors
from initframe.errors import InitframeError, Problem, closest, shown
from initframe.limits import SHOWN_CHARACTERS, SHOWN_PROBLEMS

PARTS = st.builds(Problem, *[st.text(max_size=40)] * 4)


@given(PARTS)
def test_a_problem_is_one_line_that_acts_on_no_terminal(problem):
    assert str(problem).isprintable()


@pytest.mark.parametrize("char", ["\n", "\x1b[2J", "\x00", "\x9b", "\u202e", "\u2028", "\ud800", "\x7f"])
def test_what_a_terminal_would_obey_is_escaped_in_every_part(char):
    assert all(str(Problem(*(char if i == part else "a." for i in range(4)))).isprintable() for part in range(4))
    assert "\\" in str(Problem("", f"it is named {char}."))


@given(st.lists(PARTS, min_size=1, max_size=4))
def test_an_error_keeps_its_problems_as_they_are(problems):
    error = InitframeError(*problems)
    assert error.problems == tuple(problems)
    assert pickle.loads(pickle.dumps(error)).problems == tuple(problems)
    assert len(str(error).split("\n")) == (1 if len(problems) == 1 else len(problems) + 1)


def test_length_is_bounded_and_both_ends_are_seen():
    text = str(Problem("", "begin " + "\x1b" * 10**6 + " end."))
    assert text.startswith("begin ")
    assert text.endswith(" end.")
    assert len(text) <= SHOWN_CHARACTERS + 3
    told = str(InitframeError(*map(str, range(10 * SHOWN_PROBLEMS)))).split("\n")
    assert len(told) == SHOWN_PROBLEMS + 2
    assert told[-1].endswith(f"{9 * SHOWN_PROBLEMS} more")


def test_a_problem_is_part_of_a_larger_thing():
    inner = Problem("std", "it is negative.", "Options: 1.", "Write 1.")
    assert inner.on("rule 'w'") == Problem("rule 'w': std", "it is negative.", "Options: 1.", "Write 1.")
    assert Problem("", "it is.").on("a").on("b").subject == "b: a"


def test_a_text_is_a_fact():
    assert InitframeError("it is wrong.").problems == (Problem("", "it is wrong."),)


VALUES = {
    "a text": "x" * 10_000,
    "a list": list(range(10_000)),
    "an integer that Python does not write out": 10**5000,
    "a deep mapping": {"a": ["b" * 10_000] * 100},
    "an object": object(),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_values_are_shown_shortened(value):
    assert 0 < len(shown(value)) < 1_500


def test_options_are_named_if_they_are_near_or_few():
    assert closest("stdd", ["std", "mean"]) == "Closest: std."
    assert closest("?", ["b", "a"]) == "Options: a, b."
    assert closest("?", map(str, range(100))) == closest("?", []) == ""


def test_options_inside_of_a_module_are_named_by_its_name():
    names = [f"layers.{number}.weight" for number in range(9)]
    assert closest("layers", names) == "Inside it: layers.0.weight, layers.1.weight, layers.2.weight and 6 more."
    assert closest("layers.1", names) == "Inside it: layers.1.weight."


@pytest.mark.parametrize("word", [3, None, ["a"], slice(0, 2)])
def test_to_what_is_no_text_nothing_is_close(word):
    assert closest(word, ["b", ""]) == "Options: '', b."


def test_sentences_end_before_others_begin():
    said = "module '0' raised ValueError: no such shape"
    assert str(Problem("", said)) == said
    assert str(Problem("", said, "", "Fix it.")) == f"{said}. Fix it."
    assert str(Problem("", f"{said}.", "Options: a", "Fix it")) == f"{said}. Options: a. Fix it"


def test_every_kind_of_error_is_one_of_ours():
    kinds = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert all(issubclass(kind, InitframeError) for kind in kinds)
