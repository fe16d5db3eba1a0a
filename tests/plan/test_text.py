"""Folded names: fewer, and exactly those that were given."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initframe.plan.text import fold


def unfolded(text):
    """All names that a folded one stands for."""
    axes = []
    for segment in text.split("."):
        if re.fullmatch(r"[0-9…,]+", segment) and segment != "007":
            runs = [run.split("…") for run in segment.split(",")]
            axes.append([str(n) for run in runs for n in range(int(run[0]), int(run[-1]) + 1)])
        else:
            axes.append([segment])
    return [".".join(segments) for segments in product(*axes)]


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        ([], []),
        (["weight"], ["weight"]),
        (["0"], ["0"]),
        (["1", "0"], ["0…1"]),
        (["a.3", "a.5", "a.4", "a.9"], ["a.3…5,9"]),
        (["layer1.0.w", "layer2.0.w"], ["layer1.0.w", "layer2.0.w"]),
        (["h.0.a", "h.1.a", "h.0.b", "h.1.b"], ["h.0…1.a", "h.0…1.b"]),
        (["1.0.w", "1.1.w", "2.0.w", "2.1.w", "3.0.w"], ["1…2.0…1.w", "3.0.w"]),
        (["h.00.w", "h.01.w"], ["h.00.w", "h.01.w"]),
    ],
)
def test_examples(names, folded):
    assert fold(names) == folded


SEGMENTS = st.sampled_from(["0", "1", "2", "3", "10", "a", "b", "w1", "007"])


@given(st.sets(st.lists(SEGMENTS, min_size=1, max_size=4).map(".".join), max_size=30))
def test_nothing_is_lost_and_nothing_added(names):
    folded = fold(names)
    assert len(folded) <= len(names)
    assert sorted(name for text in folded for name in unfolded(text)) == sorted(names)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=3))
def test_a_grid_is_one_name(sizes):
    names = [".".join(["h", *map(str, point), "w"]) for point in product(*map(range, sizes))]
    assert len(fold(names)) == 1


def test_templates_stand_where_they_first_stood():
    assert fold(["b.1", "a.0", "b.0"]) == ["b.0…1", "a.0"]
