"""The language is closed: a text is arithmetic, or refused with a reason, whatever it is."""

import ast
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initframe.recipe.grammar import MAX_DEPTH, ExpressionError, check_finite, syntax_tree

OPERATORS = st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "<", "<=", "==", "!=", " and ", " or "])
FRAGMENTS = st.sampled_from(
    [*"()+-*/%<>=!,. 19", "x", "f(", "not ", " if ", " else ", " in ", " is ", "1e", "and", "\n"]
)

REFUSED = {
    "": "empty",
    "x" * 1001: "longer than",
    "+".join("x" * 60): "nested too deeply",
    "-" * 900 + "x": "nested too deeply",
    "(" * 400 + "x" + ")" * 400: "nested too deeply|syntax",
    "max(" + "1," * 480 + "1)": "parts",
    "ndim >": "syntax",
    "a = 1": "syntax",
    "1or 2": "syntax",
    "07": "syntax",
    "9" * 900: "too large",
    "1e999": "too large",
    "1j": "not a real number",
    "None": "not a real number",
    "...": "not a real number",
    "x.real": "dot",
    "(1).__class__": "dot",
    "f(x)(y)": "only a plain name",
    "(1)(2)": "only a plain name",
    "f(x=1)": "keyword",
    "f(*x)": "starred",
    "f(**x)": "keyword",
    "1 if x else 2": "conditional",
    "1, 2": "comma",
    "()": "comma",
    "x is 1": "Is",
    "x in y": "In",
    "x @ y": "'@'",
    "x ^ y": "'^'",
    "~x": "'~'",
    "x << 2": "LShift",
    "x[0]": "'['",
    "'text'": '"\'"',
    "lambda: 1": "':'",
    "(y := 1)": "':'",
    "1 # one": "'#'",
    "x\\y": repr("\\"),
    "\u212b": "place",
    "1;2": "';'",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused_and_why(text):
    with pytest.raises(ExpressionError, match=REFUSED[text] if "|" in REFUSED[text] else re.escape(REFUSED[text])):
        syntax_tree(text)


@pytest.mark.parametrize(
    "text", ["1", "-x", "1e-3", "not a", "a and b or c", "0 < x <= 3", "f()", "f(x, -1)", "0x10", "1_0"]
)
def test_what_is_arithmetic(text):
    assert ast.unparse(syntax_tree(text)) == ast.unparse(ast.parse(text, mode="eval"))


@given(st.text(max_size=30) | st.lists(FRAGMENTS, max_size=20).map("".join))
def test_any_text_is_arithmetic_or_an_expression_error(text):
    try:
        tree = syntax_tree(text)
    except ExpressionError:
        return
    allowed = (ast.expr, ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.Load)
    forbidden = (ast.Attribute, ast.Subscript, ast.Lambda, ast.Tuple, ast.IfExp, ast.NamedExpr, ast.Starred)
    assert all(isinstance(node, allowed) and not isinstance(node, forbidden) for node in ast.walk(tree))


def test_an_expression_as_deep_as_allowed_is_read():
    text = "-" * (MAX_DEPTH - 2) + "x"
    assert len(list(ast.walk(syntax_tree(text)))) == 2 * (MAX_DEPTH - 2) + 2


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 10**309])
def test_numbers_are_finite(value):
    with pytest.raises(ExpressionError, match="finite"):
        check_finite(value)
