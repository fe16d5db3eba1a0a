"""Expressions compute what Python computes with floats, and fail by one kind of error."""

import ast
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from initframe.limits import EXPRESSION_DEPTH
from initframe.recipe.expressions import (
    CONSTANTS,
    FUNCTIONS,
    Expression,
    ExpressionError,
    is_taken,
    number,
    parse,
    truth,
)

FACTS = {"fan_in": 64, "fan_out": 128, "ndim": 2, "zero": 0, **CONSTANTS, **FUNCTIONS}
LEAVES = st.floats(0, 1e6).map(repr) | st.sampled_from(["fan_in", "fan_out", "ndim", "zero", "pi"])
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "<", "<=", ">", ">=", "==", "!="]


def _combined(inner):
    """Build larger texts; ``and`` and ``or`` join comparisons, where Python too gives bools."""
    infix = st.tuples(inner, st.sampled_from(OPERATORS), inner).map(" ".join)
    comparison = st.tuples(inner, st.sampled_from(["<", "!="]), inner).map(" ".join)
    words = st.tuples(comparison, st.sampled_from(["and", "or"]), comparison).map(" ".join)
    signs = st.tuples(st.sampled_from(["-", "+", "not "]), inner).map("".join)
    calls = st.builds("{}({})".format, st.sampled_from(["sqrt", "log"]), inner)
    ends = st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), inner, inner)
    return (infix | words | signs).map("({})".format) | calls | ends


TEXTS = st.recursive(LEAVES, _combined, max_leaves=8)


class Gain:
    """A name that is a number and a function, as leaky_relu is."""

    def __float__(self):
        return 1.5

    def __call__(self, slope):
        return 10 * slope


@given(TEXTS)
def test_values_are_those_of_python_floats(text):
    """Where there is a value it is Python's; a step that is infinite or complex may pass in Python only."""
    floats = {name: float(value) for name, value in FACTS.items() if not callable(value)}
    try:
        value = parse(text).evaluate(FACTS)
    except ExpressionError:
        return
    assert type(value) is bool or (type(value) is float and math.isfinite(value))
    expected = eval(text, {"__builtins__": {}}, floats | dict(FUNCTIONS))
    assert value == expected


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("1e-3", 0.001),
        (0.02, 0.02),
        (3, 3.0),
        ("  2 *\n fan_in ", 128.0),
        ("(2 / (5 * fan_in)) ** 0.5", math.sqrt(2 / 320)),
        ("0.02 / sqrt(2 * ndim)", 0.01),
        ("7 // 2 + 7 % 4", 6.0),
        ("min(3, fan_in, 5)", 3.0),
        ("2 ** -1", 0.5),
        ("log(1) + pi", math.pi),
        ("gain", 1.5),
        ("gain(0.2) * gain", 3.0),
        ("3 * (ndim > 1)", 3.0),
    ],
)
def test_numbers(source, value):
    assert number(parse(source), FACTS | {"gain": Gain()}) == value


@pytest.mark.parametrize(
    ("source", "value"),
    [
        (True, True),
        ("False", False),
        ("ndim > 1", True),
        ("1 < ndim < 2", False),
        ("ndim == 2 and not fan_in > fan_out", True),
        ("ndim == 1 or fan_in == 64", True),
        ("ndim == 1 and nowhere > 3", False),
        ("1 > ndim > nowhere", False),
    ],
)
def test_conditions(source, value):
    assert truth(parse(source), FACTS) is value


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("fan_inn * 2", "unknown name 'fan_inn'. Closest: fan_in"),
        ("1 / (ndim - 2)", "1 / (ndim - 2) divides by zero"),
        ("1 % zero", "divides by zero"),
        ("1 // zero", "divides by zero"),
        ("9 ** 9 ** 9", "9 ** 9 ** 9 is too large"),
        ("1e308 * 10", "is not finite"),
        ("min(1, 1e308 * 10)", "1e+308 * 10 is not finite"),
        ("(-8) ** (1 / 3)", "is not defined"),
        ("sqrt(-1)", "sqrt(-1) is not defined"),
        ("log(0)", "is not defined"),
        ("sqrt", "sqrt is a function. Call it: sqrt(…)."),
        ("sqrt + 1", "sqrt is a function. Call it"),
        ("fan_in(2)", "fan_in is a number; it cannot be called"),
        ("sqrt(1, 2)", "wrong number of arguments (2)"),
        ("max()", "wrong number of arguments (0)"),
        ("max(1)", "wrong number of arguments (1)"),
        ("text", "text is not a number"),
        ("huge", "huge is not finite"),
        ("nan", "nan is not finite"),
        ("bad(1)", "bad said so"),
        ("ndim > 1", "a condition, not a number"),
    ],
)
def test_why_a_number_has_no_value(text, fact):
    def bad(_):
        raise ExpressionError("bad said so")

    names = FACTS | {"text": "3", "huge": 10**400, "nan": math.nan, "bad": bad}
    (problem,) = refused(number, parse(text), names, kind=ExpressionError)
    assert fact in str(problem)


def test_an_unknown_name_like_no_other_is_told_with_what_there_is():
    (many,) = refused(number, parse("q"), {f"fact{i}": i for i in range(30)}, kind=ExpressionError)
    (few,) = refused(number, parse("q"), {"b": 1, "a": 2}, kind=ExpressionError)
    assert many.fact == few.fact == "unknown name 'q'."
    assert all(word in many.options for word in ("fan_in", "relu", "pi"))
    assert few.options == "Options: a, b."


def test_a_number_is_no_condition():
    (problem,) = refused(truth, parse("ndim"), FACTS, kind=ExpressionError)
    assert "it is a number (2), not a condition" in problem.fact


@pytest.mark.parametrize("source", [None, [1], {}, 1j, b"1"])
def test_sources_are_texts_and_numbers(source):
    (problem,) = refused(parse, source, kind=ExpressionError)
    assert "neither a number nor a text" in problem.fact


def test_names_and_text():
    expression = parse("sqrt(fan_in)\n  / a")
    assert expression == Expression("sqrt(fan_in) / a", frozenset({"sqrt", "fan_in", "a"}), None)
    assert parse("sqrt(fan_in) / a") is expression
    assert pickle.loads(pickle.dumps(expression)) == expression


@given(st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | TEXTS)
def test_source_reads_back(source):
    expression = parse(source)
    again = parse(expression.source)
    assert again == expression
    assert type(expression.source) is type(source) or isinstance(expression.source, float)


def test_bools_and_numbers_stay_apart():
    assert [parse(source).text for source in (1, True, 1.0)] == ["1", "True", "1.0"]


def test_a_lazy_mapping_is_asked_only_for_what_is_needed():
    class Lazy(dict):
        def __missing__(self, name):
            raise ExpressionError(f"{name} is not known for this tensor")

    assert parse("a > 1 or b").evaluate(Lazy(a=2)) is True
    with pytest.raises(ExpressionError, match="b is not known"):
        parse("a + b").evaluate(Lazy(a=2))


@pytest.mark.parametrize("name", ["fan_in", "fan_out", "ndim", "numel", "d0", "d12", "sqrt", "pi", "max"])
def test_taken_names(name):
    assert is_taken(name)
    assert not is_taken(f"my_{name}")


# --- what is in the language -----------------------------------------------------------------------------------------

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
    (problem,) = refused(parse, text, kind=ExpressionError)
    assert any(reason in problem.fact for reason in REFUSED[text].split("|"))
    assert "sqrt(fan_in)" in problem.fix


@pytest.mark.parametrize(
    "text", ["1", "-x", "1e-3", "not a", "a and b or c", "0 < x <= 3", "f()", "f(x, -1)", "0x10", "1_0"]
)
def test_what_is_arithmetic(text):
    assert ast.unparse(parse(text).tree) == ast.unparse(ast.parse(text, mode="eval"))


@given(st.text(max_size=30) | st.lists(FRAGMENTS, max_size=20).map("".join))
def test_any_text_is_arithmetic_or_an_expression_error(text):
    try:
        tree = parse(text).tree
    except ExpressionError:
        return
    allowed = (ast.expr, ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.Load)
    forbidden = (ast.Attribute, ast.Subscript, ast.Lambda, ast.Tuple, ast.IfExp, ast.NamedExpr, ast.Starred)
    assert all(isinstance(node, allowed) and not isinstance(node, forbidden) for node in ast.walk(tree))


def test_an_expression_as_deep_as_allowed_is_read():
    text = "-" * (EXPRESSION_DEPTH - 2) + "x"
    assert len(list(ast.walk(parse(text).tree))) == 2 * (EXPRESSION_DEPTH - 2) + 2


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 10**309])
def test_numbers_are_finite(value):
    (problem,) = refused(parse, value, kind=ExpressionError)
    assert "finite" in problem.fact
