"""Plans and reports in a notebook: bounded, escaped, and the same text as anywhere."""

import html.parser
import subprocess
import sys

import pytest
from torch import nn

import initframe
from initframe.plan.notebook import frame, html_table

RULES = {"rules": {"*": "normal"}}


def wide(layers, name="layer"):
    model = nn.Module()
    for i in range(layers):
        model.add_module(f"{name}{'x' * (i % 7)}{i}", nn.Linear(2, 2))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 60, 3000])
@pytest.mark.parametrize("name", ["layer", "<b>&'" * 40])
def test_sizes_are_bounded(layers, name):
    model = wide(layers, name)
    plan = initframe.resolve(RULES, model)
    report = initframe.apply(plan, seed=0)
    for thing in (plan, report):
        assert len(repr(thing)) <= 4000
        shown = thing._repr_html_()
        assert len(shown) <= 120_000
        assert "<b>" not in shown


def test_hostile_lines_are_bounded():
    shown = html_table("<" * 9999, ["'" * 500] * 9, [["&" * 999] * 9] * 999, ["'" * 9999] * 99)
    assert len(shown) <= 120_000
    assert "further rows" in shown


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = set(), []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text.append(data)


def test_every_tensor_of_a_small_report_is_shown():
    report = initframe.reinit(wide(3), RULES, seed=0, measure=True)
    seen = Tags()
    seen.feed(report._repr_html_())
    assert seen.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert {result.name for result in report.results} <= set(seen.text)


def test_escape_sequences_are_shown():
    shown = html_table("\x1b[31m", ["a"], [["\u202e"]])
    assert "\\x1b[31m" in shown
    assert "\\u202e" in shown


def test_frames():
    pandas = pytest.importorskip("pandas")
    report = initframe.reinit(wide(3), RULES, seed=0, measure=True)
    found = report.to_frame()
    assert isinstance(found, pandas.DataFrame)
    assert list(found["name"]) == [result.name for result in report.results]
    assert found["std"].tolist() == [result.after.moments.std for result in report.results]
    planned = report.plan.to_frame()
    assert list(planned["std"]) == [1.0] * 6
    assert list(planned["fill"]) == ["normal(0, 1)"] * 6


def test_without_pandas_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(initframe.InitframeError) as caught:
        frame([])
    assert "pandas" in caught.value.problems[0].fact


# What rich asks to find out whether it is in a notebook, and what it would then do with a table.
NOTEBOOK = """
import builtins, sys, types

class ZMQInteractiveShell: pass
ZMQInteractiveShell.__module__ = "ipykernel.zmqshell"
builtins.get_ipython = lambda: ZMQInteractiveShell()
shown = []
display = types.ModuleType("IPython.display")
display.display = lambda *things, **_: shown.append(things)
sys.modules["IPython"] = types.ModuleType("IPython")
sys.modules["IPython.display"] = display
from rich.console import _is_jupyter
assert _is_jupyter()

import initframe
from torch import nn
plan = initframe.resolve({"rules": {"*": "normal"}}, nn.Linear(2, 2))
print(plan)
assert not shown, "the table was shown on the side"
"""


@pytest.mark.slow
def test_a_notebook_has_the_same_text():
    done = subprocess.run([sys.executable, "-c", NOTEBOOK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(initframe.resolve(RULES, nn.Linear(2, 2)))
