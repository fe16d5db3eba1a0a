"""Tables of text: as rich draws them, nothing is lost, and everything fits."""

import sys
from collections import Counter
from io import StringIO

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import initframe
from initframe.plan.table import table
from tests.calls import calls

CHARACTERS = "ab.0é×→漢🙂"
WORDS = st.text(CHARACTERS, min_size=1, max_size=30)
SENTENCES = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)


def tables(cells, most=6):
    """Columns and rows of as many cells."""
    rows = st.integers(1, most).flatmap(
        lambda n: st.lists(st.lists(cells, min_size=n, max_size=n), min_size=1, max_size=5)
    )
    return rows.map(lambda some: (some[0], some[1:]))


def as_rich_draws_it(columns, rows, width):
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for column in columns:
        grid.add_column(Text(column), overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    console = Console(file=StringIO(), width=width, color_system=None, legacy_windows=False, force_jupyter=False)
    console.print(grid)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def columns_taken(line):
    """How many columns a line takes, by rich's table of characters."""
    return Text(line).cell_len


@settings(max_examples=40)
@given(tables(WORDS), st.integers(20, 120))
def test_words_are_laid_out_as_rich_does(content, width):
    columns, rows = content
    width = max(width, 5 * len(columns))  # rich drops what is wider than its column
    assert table(columns, rows, width) == as_rich_draws_it(columns, rows, width)


@given(tables(SENTENCES))
def test_sentences_that_fit_are_laid_out_as_rich_does(content):
    assert table(*content, 2000) == as_rich_draws_it(*content, 2000)


@given(tables(SENTENCES), st.integers(1, 80))
def test_everything_fits_and_nothing_is_lost(content, width):
    columns, rows = content
    width = max(width, 4 * len(columns))
    head, rule, *body = table(columns, rows, width).partition("─")
    assert all(columns_taken(line) <= width for line in "".join([head, rule, *body]).split("\n"))
    wanted = Counter("".join("".join(row) for row in (columns, *rows)).replace(" ", ""))
    assert Counter("".join([head, *body]).translate(dict.fromkeys(map(ord, " \n─")))) == wanted


@given(SENTENCES, st.integers(2, 40))
def test_a_cell_is_read_from_top_to_bottom(text, width):
    lines = table(("x",), [(text,)], width).split("\n")[2:]
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_lines_end_between_words_if_they_can():
    lines = table(("x",), [("one two three",)], 9).split("\n")[2:]
    assert lines == ["one two", "three"]


def test_heads_have_lines_of_their_own_and_stand_above_the_rule():
    assert table(("a", "mean\nbefore"), [("1", "2")]) == "   mean\na  before\n─────────\n1  2"


@pytest.mark.parametrize("rows", [[], [("", "")]])
def test_empty_tables(rows):
    assert table(("a", "b"), rows).split("\n")[:2] == ["a  b", "────"]


def test_with_no_room_at_all_nothing_is_lost():
    lines = table(("ab", "c"), [("d", "ef")], 1).split("\n")
    assert sorted("".join(lines).replace(" ", "").replace("─", "")) == list("abcdef")


def test_texts_are_shown_as_they_are_and_cannot_move_the_cursor():
    text = table(("[bold]x[/] :smile:",), [("[red]y[/]\n\x1b[2J",)])
    assert "[bold]x[/] :smile:" in text
    assert r"[red]y[/]\n\x1b[2J" in text


def test_a_plan_is_printed_without_rich(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    plan = initframe.resolve({"rules": {"*": "zeros"}}, {"w": torch.zeros(2)})
    assert "constant(0)" in str(plan)


def test_a_row_costs_little_and_always_the_same():
    """Some 300 calls for six cells in five lines."""
    few, many = (
        [
            (f"blocks.{i}.attention.query.weight", "4×4", f"rule {i}", "normal(0, 0.02) " * 4, "0", "1 ± 2")
            for i in range(1000, 1000 + count)
        ]
        for count in (100, 200)
    )
    columns = ("tensor", "shape", "rule", "fill", "mean", "std")
    few, many = (calls(table, columns, rows, 60) for rows in (few, many))
    assert many < 2.1 * few
    assert many < 200 * 400
