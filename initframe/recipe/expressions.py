"""Expressions over facts: arithmetic that reads names and can do nothing else.

A checked tree is walked in float64; nothing is ever compiled or run.
"""

from __future__ import annotations

import ast
import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from initframe.errors import closest
from initframe.recipe.grammar import ARITHMETIC, COMPARISONS, ExpressionError, check_finite, syntax_tree

__all__ = [
    "CONSTANTS",
    "FUNCTIONS",
    "UNREADABLE",
    "Expression",
    "ExpressionError",
    "Unread",
    "is_taken",
    "number",
    "parse",
    "truth",
]

FUNCTIONS: Mapping[str, Callable[..., float]] = MappingProxyType(
    {"sqrt": math.sqrt, "log": math.log, "min": min, "max": max}
)
CONSTANTS: Mapping[str, float] = MappingProxyType({"pi": math.pi})

KNOWN = (
    "Options: fan_in, fan_out, ndim, numel, d0, d1, …; what the pattern captures, the rule's other arguments, the "
    "recipe's vars, the model's config; gains such as relu; sqrt, log, min, max, pi."
)
"""What names there are, told where none is like the one that is unknown: the same for every tensor."""
_FACTS = frozenset({"fan_in", "fan_out", "ndim", "numel", "base_fan_in", "base_fan_out"})
_DIMENSION = re.compile("(base_)?d[0-9]+")


@dataclass(frozen=True)
class Expression:
    """Arithmetic over named facts, made by :func:`parse`.

    Attributes:
        text: the expression as written, in one line.
        names: every name in it, functions included.
    """

    text: str
    names: frozenset[str]
    tree: ast.expr = field(repr=False, compare=False)

    @property
    def source(self) -> str | float:
        """What :func:`parse` makes this expression of: a plain number where it was one, else the text.

        >>> parse(256).source, parse("1e-3").source
        (256, '1e-3')
        """
        match self.tree:
            case ast.Constant(value=int() | float() as value) if repr(value) == self.text:
                return value
        return self.text

    def evaluate(self, names: Mapping[str, Any]) -> float | bool:
        """Compute the value, in float64.

        Args:
            names: what each name stands for: a number, a function of numbers, or something that is both (a gain
                that can be named or called). The mapping may be lazy, and may raise :class:`ExpressionError` to
                say why a name has no value. A name behind a settled ``and`` or ``or`` is never looked up.

        Returns:
            A finite number, or a bool where the expression is a condition.

        Raises:
            ExpressionError: a name is unknown, a function is used as a number or a number called, a call has the
                wrong arguments, or some step has no finite real value.

        >>> parse("2 / sqrt(fan_in)").evaluate({"fan_in": 16, **FUNCTIONS})
        0.5
        >>> parse("ndim > 1 and d1 != 3").evaluate({"ndim": 1})
        False
        """
        return _walk(self.tree)(names)


class Unread(Exception):  # noqa: N818  # no news: what is wrong was told when the recipe was read
    """A value depends on an expression that could not be read."""


class _Unreadable(Expression):
    """Stands where an expression could not be read, so that what depends on it is not a problem of its own."""

    def evaluate(self, names: Mapping[str, Any]) -> float | bool:
        del names
        raise Unread


UNREADABLE: Expression = _Unreadable("unreadable", frozenset(), ast.Constant(0))


def parse(source: str | float) -> Expression:
    """Read an expression.

    Args:
        source: a text, or a plain number or bool.

    Returns:
        The expression; the same object for the same text.

    Raises:
        ExpressionError: the source is not in the closed language; the message is the reason.

    >>> sorted(parse("0.02 / sqrt(2 * layers)").names)
    ['layers', 'sqrt']
    >>> parse("().__class__")
    Traceback (most recent call last):
    initframe.recipe.grammar.ExpressionError: a dot may only stand in a number
    """
    if isinstance(source, bool | int | float):
        check_finite(source)
        return Expression(repr(source), frozenset(), ast.Constant(source))
    if isinstance(source, str):
        return _parse_text(" ".join(source.split()))
    raise ExpressionError(f"a {type(source).__name__} is neither a number nor a text")


def is_taken(name: str) -> bool:
    """Whether a name has a meaning of its own in every expression, so that a recipe may not give it another.

    >>> is_taken("fan_in"), is_taken("d4"), is_taken("sqrt"), is_taken("base")
    (True, True, True, False)
    """
    return name in _FACTS or name in FUNCTIONS or name in CONSTANTS or _DIMENSION.fullmatch(name) is not None


def number(expression: Expression, names: Mapping[str, Any]) -> float:
    """Evaluate an expression that must give a number.

    Raises:
        ExpressionError: as :meth:`Expression.evaluate` does, and where the value is a condition.

    >>> number(parse("1e-3"), {})
    0.001
    """
    value = expression.evaluate(names)
    if isinstance(value, bool):
        raise ExpressionError("it is a condition, not a number")
    return value


def truth(expression: Expression, names: Mapping[str, Any]) -> bool:
    """Evaluate an expression that must give a condition.

    Raises:
        ExpressionError: as :meth:`Expression.evaluate` does, and where the value is a number.

    >>> truth(parse("1 < ndim <= 3"), {"ndim": 2})
    True
    """
    value = expression.evaluate(names)
    if not isinstance(value, bool):
        raise ExpressionError(f"it is a number ({value:g}), not a condition such as ndim > 1")
    return value


@functools.lru_cache(maxsize=4096)
def _parse_text(text: str) -> Expression:
    tree = syntax_tree(text)
    names = frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    return Expression(text, names, tree)


_Walk = Callable[[Mapping[str, Any]], float | bool]


@functools.lru_cache(maxsize=65536)
def _walk(node: ast.expr) -> _Walk:
    """Turn a node into a function of the names; numbers are float64 from there on."""
    make = _WALKS.get(type(node))
    if make is None:  # only in a tree that parse() did not check
        raise ExpressionError(f"it holds a {type(node).__name__}")
    return make(node)


def _constant(node: ast.Constant) -> _Walk:
    value = node.value if isinstance(node.value, bool) else float(node.value)  # type: ignore[arg-type]
    return lambda _: value


def _unary(node: ast.UnaryOp) -> _Walk:
    operand = _walk(node.operand)
    if isinstance(node.op, ast.Not):
        return lambda names: not operand(names)
    function = ARITHMETIC[type(node.op)]
    return lambda names: _computed(node, function, operand(names))


def _binary(node: ast.BinOp) -> _Walk:
    function, left, right = ARITHMETIC[type(node.op)], _walk(node.left), _walk(node.right)
    return lambda names: _computed(node, function, left(names), right(names))


def _boolean(node: ast.BoolOp) -> _Walk:
    every, settled = [_walk(value) for value in node.values], all if isinstance(node.op, ast.And) else any
    return lambda names: settled(bool(value(names)) for value in every)


def _called(node: ast.Call) -> _Walk:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    values = [_walk(arg) for arg in node.args]
    return lambda names: _computed(node, _function(name, names), *(value(names) for value in values))


def _compared(node: ast.Compare) -> _Walk:
    """Compare along a chain; as in Python, it ends at the first comparison that fails."""
    first, *others = (_walk(value) for value in (node.left, *node.comparators))
    steps = list(zip((COMPARISONS[type(op)] for op in node.ops), others, strict=True))

    def holds(names: Mapping[str, Any]) -> bool:
        left = first(names)
        for compare, value in steps:
            right = value(names)
            if not compare(left, right):
                return False
            left = right
        return True

    return holds


def _computed(node: ast.expr, function: Callable[..., float], *values: float) -> float:
    """Do one step in float64, and hold it to a finite real result."""
    try:
        result = float(function(*map(float, values)))
    except ExpressionError:
        raise
    except ZeroDivisionError:
        fact = "divides by zero"
    except OverflowError:
        fact = "is too large"
    except ValueError:
        fact = "is not defined"
    except TypeError:
        fact = f"is called with the wrong number of arguments ({len(values)})"
    else:
        if math.isfinite(result):
            return result
        fact = "is not finite"
    raise ExpressionError(f"{ast.unparse(node)} {fact}")


def _named_number(name: str, names: Mapping[str, Any]) -> float | bool:
    value = _looked_up(name, names)
    if isinstance(value, bool):
        return value
    if not hasattr(value, "__float__"):
        fact = f"a function; call it: {name}(…)" if callable(value) else "not a number"
        raise ExpressionError(f"{name} is {fact}")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ExpressionError(f"{name} is not finite")
    return result


def _function(name: str, names: Mapping[str, Any]) -> Callable[..., float]:
    value = _looked_up(name, names)
    if not callable(value):
        raise ExpressionError(f"{name} is a number; it cannot be called")
    function: Callable[..., float] = value
    return function


def _looked_up(name: str, names: Mapping[str, Any]) -> Any:
    try:
        return names[name]
    except KeyError:
        raise ExpressionError(f"unknown name '{name}'. {closest(name, names) or KNOWN}") from None


_WALKS: dict[type[ast.expr], Callable[[Any], _Walk]] = {
    ast.Constant: _constant,
    ast.Name: lambda node: functools.partial(_named_number, node.id),
    ast.UnaryOp: _unary,
    ast.BinOp: _binary,
    ast.BoolOp: _boolean,
    ast.Compare: _compared,
    ast.Call: _called,
}
