"""An initializer fits the eye."""

import ast
import inspect
import re
import textwrap

import pytest

from initframe.initializers.table import _TABLE

PLAIN = {"constant", "constructor", "keep", "pretrained", "scale", "shift"}
"""What nobody had to invent."""
OWN = {name: function for name, function in _TABLE.items() if function.__module__.startswith("initframe.initializers")}


@pytest.mark.parametrize("name", sorted(OWN.keys() - PLAIN))
def test_a_law_names_its_source(name):
    first = inspect.getdoc(OWN[name]).partition("\n")[0]
    assert re.search(r"\d{4}|\.py", first), "write (Author year; folder/file.py) at the end of the first line"


@pytest.mark.parametrize("function", OWN.values(), ids=OWN)
def test_bodies_are_short_and_docstrings_whole(function):
    body = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0].body
    statements = body[1:]  # after the docstring
    assert sum(node.end_lineno - node.lineno + 1 for node in statements) <= 25
    text = inspect.getdoc(function)
    assert "\n\nUse it " in text
    assert ">>> " in text
