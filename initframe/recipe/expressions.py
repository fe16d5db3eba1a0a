"""Expressions over facts: arithmetic that reads names and can do nothing else.

A text is first held to a list of characters, then parsed by :mod:`ast`, then every node of the tree is held to a
closed list of types, within bounds. The checked tree is walked in float64; nothing is ever compiled or run.
"""

from __future__ import annotations

import ast
import functools
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from initframe.errors import Problem, shown
from initframe.limits import EXPRESSION_CHARACTERS, EXPRESSION_DEPTH, EXPRESSION_PARTS
from initframe.recipe.evaluate import ARITHMETIC, COMPARISONS, CONSTANTS, FUNCTIONS, ExpressionError, evaluator

__all__ = [
    "CONSTANTS",
    "FUNCTIONS",
    "UNREADABLE",
    "Expression",
    "ExpressionError",
    "is_taken",
    "number",
    "parse",
    "truth",
]

_FACTS = frozenset({"fan_in", "fan_out", "ndim", "numel", "base_fan_in", "base_fan_out"})
_DIMENSION = re.compile("(base_)?d[0-9]+")
_NODES: frozenset[type[ast.AST]] = frozenset(
    {ast.Constant, ast.Name, ast.Load, ast.Call, ast.UnaryOp, ast.BinOp, ast.Compare, ast.BoolOp}
    | {ast.And, ast.Or, ast.Not, *ARITHMETIC, *COMPARISONS}
)
_KINDS: dict[type[ast.AST], str] = {
    ast.IfExp: "conditional",
    ast.Tuple: "comma outside of a call",
    ast.keyword: "keyword argument",
    ast.Starred: "starred argument",
}
_STRANGER = re.compile(r"[^A-Za-z0-9_ .,()+\-*/%<>=!]")


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
        """What :func:`parse` makes this expression of: a plain number if it was one, else the text.

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
            A finite number, or a bool if the expression is a condition.

        Raises:
            ExpressionError: a name is unknown, a function is used as a number or a number called, a call has the
                wrong arguments, or some step has no finite real value.

        >>> parse("2 / sqrt(fan_in)").evaluate({"fan_in": 16, **FUNCTIONS})
        0.5
        >>> parse("ndim > 1 and d1 != 3").evaluate({"ndim": 1})
        False
        """
        return evaluator(self.tree)(names)


class _Unreadable(Expression):
    """Stands where an expression could not be read: that was reported, and what depends on it is not a problem."""

    def evaluate(self, names: Mapping[str, Any]) -> float | bool:
        del names
        raise ExpressionError


UNREADABLE: Expression = _Unreadable("unreadable", frozenset(), ast.Constant(0))


def parse(source: str | float) -> Expression:
    """Read an expression.

    Args:
        source: a text, or a plain number or bool.

    Returns:
        The expression; the same object for the same text.

    Raises:
        ExpressionError: the source is not in the closed language.

    >>> sorted(parse("0.02 / sqrt(2 * layers)").names)
    ['layers', 'sqrt']
    >>> parse("().__class__")
    Traceback (most recent call last):
    initframe.recipe.evaluate.ExpressionError: it is not an expression: a dot may only stand in a number. Use ...
    """
    if isinstance(source, bool | int | float):
        _check_finite(source)
        return Expression(repr(source), frozenset(), ast.Constant(source))
    if isinstance(source, str):
        return _parse_text(" ".join(source.split()))
    raise _refusal(f"a value of type {type(source).__name__} is neither a number nor a text")


def is_taken(name: str) -> bool:
    """Whether a name has a meaning of its own in every expression, so that a recipe may not give it another.

    >>> is_taken("fan_in"), is_taken("d4"), is_taken("sqrt"), is_taken("base")
    (True, True, True, False)
    """
    return name in _FACTS or name in FUNCTIONS or name in CONSTANTS or _DIMENSION.fullmatch(name) is not None


def number(expression: Expression, names: Mapping[str, Any]) -> float:
    """Evaluate an expression that must give a number.

    Raises:
        ExpressionError: as :meth:`Expression.evaluate` does, or the value is a condition.

    >>> number(parse("1e-3"), {})
    0.001
    """
    value = expression.evaluate(names)
    if isinstance(value, bool):
        raise ExpressionError("it is a condition, not a number.")
    return value


def truth(expression: Expression, names: Mapping[str, Any]) -> bool:
    """Evaluate an expression that must give a condition.

    Raises:
        ExpressionError: as :meth:`Expression.evaluate` does, or the value is a number.

    >>> truth(parse("1 < ndim <= 3"), {"ndim": 2})
    True
    """
    value = expression.evaluate(names)
    if not isinstance(value, bool):
        fact = f"it is a number ({value:g}), not a condition."
        raise ExpressionError(Problem("", fact, fix="Compare numbers, such as ndim > 1."))
    return value


# --- what is in the language -----------------------------------------------------------------------------------------


def _refusal(reason: str) -> ExpressionError:
    fix = "Use numbers, names, + - * / // % **, comparisons, and/or/not, and calls such as sqrt(fan_in)."
    return ExpressionError(Problem("", f"it is not an expression: {reason}.", fix=fix))


@functools.lru_cache(maxsize=4096)
def _parse_text(text: str) -> Expression:
    if not text:
        raise _refusal("it is empty")
    if len(text) > EXPRESSION_CHARACTERS:
        raise _refusal(f"it is longer than {EXPRESSION_CHARACTERS} characters")
    if stranger := _STRANGER.search(text):
        raise _refusal(f"{stranger[0]!r} has no place in an expression")
    tree = _syntax_tree(text)
    _check_nodes(tree)
    return Expression(text, frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)), tree)


def _syntax_tree(text: str) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python warns of today it refuses tomorrow: "1if"
            return ast.parse(text, mode="eval").body
    except (RecursionError, MemoryError):
        raise _refusal("it is nested too deeply") from None
    except (SyntaxError, ValueError, Warning):
        raise _refusal("its syntax is wrong") from None


def _check_nodes(tree: ast.expr) -> None:
    """Hold every node to the closed list, level by level, within the bounds."""
    level: list[ast.AST] = [tree]
    count = 0
    for _ in range(EXPRESSION_DEPTH):
        for node in level:
            _check_node(node)
        count += len(level)
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            break
    if level or count > EXPRESSION_PARTS:
        raise _refusal("it is nested too deeply" if level else f"it has more than {EXPRESSION_PARTS} parts")


def _check_node(node: ast.AST) -> None:
    if isinstance(node, ast.Attribute):
        raise _refusal("a dot may only stand in a number")
    if isinstance(node, ast.Constant):
        if not isinstance(node.value, bool | int | float):
            raise _refusal(f"{shown(node.value)} is not a real number")
        _check_finite(node.value)
    elif any(isinstance(one, ast.Constant) and isinstance(one.value, bool) for one in _numbers_of(node)):
        raise _refusal(f"{ast.unparse(node)} takes True or False for a number")
    elif isinstance(node, ast.Call) and not isinstance(node.func, ast.Name):
        raise _refusal("only a plain name can be called")
    elif type(node) not in _NODES:
        raise _refusal(f"it holds a {_KINDS.get(type(node), type(node).__name__)}")


def _numbers_of(node: ast.AST) -> list[ast.expr]:
    """The operands of arithmetic, comparisons of size and calls; a condition counts as 0 or 1, a word does not."""
    match node:
        case ast.BinOp(left=left, right=right):
            return [left, right]
        case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
            return [operand]
        case ast.Call(args=args):
            return args
        case ast.Compare(left=left, ops=ops, comparators=others) if not any(
            isinstance(op, ast.Eq | ast.NotEq) for op in ops
        ):
            return [left, *others]
    return []


def _check_finite(value: float) -> None:
    """Refuse a number that float64 cannot hold."""
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise _refusal("a number is not finite, or too large")
