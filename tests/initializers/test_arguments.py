"""Arguments: what is annotated as a number is evaluated, all else is held against its type."""

from collections.abc import Sequence
from typing import Any, Literal, Optional

import pytest

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
    ("written", "fact"),
    [
        ({"count": 0.25}, r"argument 'count': an integer is needed, got 0.5"),
        ({"mode": "inn"}, r"argument 'mode': got 'inn'. Options: in, out"),
        ({"mode": ["in"]}, r"argument 'mode': got \['in'\]. Options: in, out"),
        ({"word": 3}, r"argument 'word': a text is needed, got 3"),
        ({"flag": 1}, r"argument 'flag': got 1. Options: true, false"),
        ({"index": 3}, r"argument 'index': a list is needed, got 3"),
        ({"index": [0.25]}, r"argument 'index': an integer is needed"),
        ({"std": [1, 2]}, r"argument 'std': a list gives one value per block of a split tensor. Add split"),
    ],
)
def test_what_does_not_fit_is_said(written, fact):
    with pytest.raises(ArgumentError, match=fact):
        bind(law, written, twice)


def test_all_that_does_not_fit_is_said_at_once():
    with pytest.raises(ArgumentError) as caught:
        bind(law, {"count": 0.25, "mode": 3, "std": 1, "flag": "yes"}, twice)
    assert [problem.subject for problem in caught.value.problems] == [
        f"argument {n!r}" for n in ("count", "mode", "flag")
    ]


@pytest.mark.parametrize("block", [0, 1, 2])
def test_a_list_gives_each_block_its_value(block):
    assert bind(law, {"std": [1, 2, 3], "count": 4}, twice, block) == {"std": 2.0 * (block + 1), "count": 8}


def test_a_list_that_is_a_value_stays_one_in_every_block():
    assert bind(law, {"table": [1, 2]}, twice, 1) == {"table": (2.0, 4.0)}


def test_a_list_too_short_for_the_block_is_said():
    with pytest.raises(ArgumentError, match="a list of 2 values for more blocks"):
        bind(law, {"std": [1, 2]}, twice, 2)


@pytest.mark.parametrize(
    ("name", "written", "facts"),
    [
        ("normal", {}, []),
        ("normal", {"mean": 1, "std": 2}, []),
        ("normal", {"sdt": 1}, ["unknown argument 'sdt'. Closest: std."]),
        ("zeros", {"val": 1}, ["unknown argument 'val'. It takes none."]),
        ("zeros", {"exlude": "fc.*"}, ["unknown argument 'exlude'. Closest: exclude, a key of rules."]),
        ("zeros", {"Match": "fc.*"}, ["unknown argument 'Match'. Closest: match, a key of rules."]),
        ("xavier_uniform", {"mode": "fan_in"}, ["unknown argument 'mode'. Options: gain."]),
        ("constant", {}, ["argument 'val' is missing."]),
        ("sparse", {"spars": 1, "gain": 2}, ["unknown argument 'spars'. Closest: sparsity.", ...]),
    ],
)
def test_keywords_are_held_against_the_signature(name, written, facts):
    found = [str(problem) for problem in check(get(name), written)]
    assert found[: facts.index(...) if ... in facts else None] == [fact for fact in facts if fact is not ...]
    if name == "sparse":
        assert [fact.split(".")[0] for fact in found] == [
            "unknown argument 'spars'",
            "unknown argument 'gain'",
            "argument 'sparsity' is missing",
        ]
