"""An initializer fits the eye."""

import ast
import inspect
import textwrap

import pytest

from initframe.initializers.table import _TABLE

OWN = {name: function for name, function in _TABLE.items() if function.__module__.startswith("initframe.initializers")}


@pytest.mark.parametrize("function", OWN.values(), ids=OWN)
def test_bodies_are_short_and_docstrings_whole(function):
    body = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0].body
    statements = body[1:]  # after the docstring
    assert sum(node.end_lineno - node.lineno + 1 for node in statements) <= 25
    text = inspect.getdoc(function)
    assert "\n\nUse it " in text
    assert ">>> " in text
