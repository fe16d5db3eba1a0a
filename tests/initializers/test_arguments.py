"""Arguments: what is annotated as a number is evaluated, all else is held against its type."""

from collections.abc import Sequence
from typing import Any, Literal, Optional

import pytest
from refusals import refused

from initframe.fills import Constant
from initframe.initializers import get
from initframe.initializers.arguments import ArgumentError, bind, check, signature


def law(
    slot,
    *,
    std: float,
    count: int = 1,
    mode: Literal["in", "out"] = "in",
    word: str = "",
    flag: bool = False,
    index: Sequence[int] | None = None,
    table: tuple[float, ...] = (),
    bound: float | None = None,
    either: float | str = 0,
    thing: Any = None,
):
    return Constant(std)


TYPES = {
    "std": "number",
    "count": "integer",
    "mode": "choice",
    "word": "text",
    "flag": "flag",
    "index": "integer",
    "table": "number",
    "bound": "number",
    "either": "any",
    "thing": "any",
}


def twice(written):
    """Stands for evaluation."""
    return 2.0 * written


def test_annotations_are_read():
    known = signature(law)
    assert {name: p.type for name, p in known.items()} == TYPES
    assert {name for name, p in known.items() if p.many} == {"index", "table"}
    assert {name for name, p in known.items() if p.optional} == {"index", "bound"}
    assert {name for name, p in known.items() if p.required} == {"std"}
    assert known["mode"].options == ("in", "out")


def test_annotations_of_older_python_are_read():
    def older(slot, *, bound: Optional[float] = None, index: Optional[Sequence[int]] = None):  # noqa: UP045
        return Constant(0)

    assert signature(older)["bound"].numeric
    assert signature(older)["index"].many


def test_numbers_are_evaluated_and_nothing_else_is():
    written = {"std": 1, "count": 2, "word": "1", "table": [1, 2], "thing": "1", "either": "x", "flag": True}
    bound = bind(law, written, twice)
    assert bound == {
        "std": 2.0,
        "count": 4,
        "word": "1",
        "table": (2.0, 4.0),
        "thing": "1",
        "either": "x",
        "flag": True,
    }
    assert isinstance(bound["count"], int)


def test_null_is_a_value_where_the_annotation_says_so():
    assert bind(law, {"index": None, "bound": None}, twice) == {"index": None, "bound": None}


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ({"count": 0.25}, "got 0.5"),
        ({"mode": "inn"}, "Options: in, out."),
        ({"mode": ["in"]}, "Options: in, out."),
        ({"word": 3}, "a text"),
        ({"flag": 1}, "true or false"),
        ({"index": 3}, "a list"),
        ({"index": [0.25]}, "an integer"),
        ({"std": [1, 2]}, "Add split"),
    ],
)
def test_what_does_not_fit_is_said(written, text):
    (problem,) = refused(bind, law, written, twice, kind=ArgumentError)
    assert problem.subject == f"argument {next(iter(written))!r}"
    assert text in str(problem)


def test_all_that_does_not_fit_is_said_at_once():
    found = refused(bind, law, {"count": 0.25, "mode": 3, "std": 1, "flag": "yes"}, twice, kind=ArgumentError)
    assert [problem.subject for problem in found] == ["argument 'count'", "argument 'mode'", "argument 'flag'"]


@pytest.mark.parametrize("block", [0, 1, 2])
def test_a_list_gives_each_block_its_value(block):
    assert bind(law, {"std": [1, 2, 3], "count": 4}, twice, block) == {"std": 2.0 * (block + 1), "count": 8}


def test_a_list_that_is_a_value_stays_one_in_every_block():
    assert bind(law, {"table": [1, 2]}, twice, 1) == {"table": (2.0, 4.0)}


def test_a_list_too_short_for_the_block_is_said():
    (problem,) = refused(bind, law, {"std": [1, 2]}, twice, 2, kind=ArgumentError)
    assert problem.subject == "argument 'std'"
    assert "2 values" in problem.fact


@pytest.mark.parametrize(
    ("name", "written", "facts"),
    [
        ("normal", {}, []),
        ("normal", {"mean": 1, "std": 2}, []),
        ("normal", {"sdt": 1}, [("'sdt'", "Closest: std.")]),
        ("zeros", {"val": 1}, [("'val'", "It takes none.")]),
        ("constant", {}, [("'val' is missing", "")]),
        (
            "sparse",
            {"spars": 1, "gain": 2},
            [("'spars'", "Closest: sparsity."), ("'gain'", "Options: sparsity, std."), ("'sparsity' is missing", "")],
        ),
    ],
)
def test_keywords_are_held_against_the_signature(name, written, facts):
    found = check(get(name), written)
    assert len(found) == len(facts)
    for problem, (fact, options) in zip(found, facts, strict=True):
        assert fact in problem.fact
        assert problem.options == options
