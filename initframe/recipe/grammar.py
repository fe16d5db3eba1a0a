"""The closed language of expressions: which texts are arithmetic, and nothing else.

A text is first held to a list of characters, then parsed by :mod:`ast`, then every node of the tree is held to a
closed list of types, within bounds.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable

MAX_LENGTH, MAX_NODES, MAX_DEPTH = 1_000, 250, 50

ALLOWED = "numbers, names, + - * / // % **, comparisons, and/or/not, and calls such as sqrt(fan_in)"

ARITHMETIC: dict[type[ast.operator] | type[ast.unaryop], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: math.pow,  # unlike **, it never turns to complex numbers
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
COMPARISONS: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
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


class ExpressionError(ValueError):
    """A text is no expression, or an expression has no value; the message is the bare fact."""


def syntax_tree(text: str) -> ast.expr:
    """Parse a text of the language.

    Args:
        text: one line.

    Returns:
        Its tree, of the closed list of node types only.

    Raises:
        ExpressionError: the text is not in the language.

    >>> ast.dump(syntax_tree("-x"))
    "UnaryOp(op=USub(), operand=Name(id='x', ctx=Load()))"
    >>> syntax_tree("(1).real")
    Traceback (most recent call last):
    initframe.recipe.grammar.ExpressionError: a dot may only stand in a number
    """
    if not text:
        raise ExpressionError("it is empty")
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"it is longer than {MAX_LENGTH} characters")
    if stranger := _STRANGER.search(text):
        raise ExpressionError(f"{stranger[0]!r} has no place in an expression")
    tree = _parsed(text)
    _check_nodes(tree)
    return tree


def check_finite(value: float) -> None:
    """Refuse a number that float64 cannot hold.

    >>> check_finite(10**400)
    Traceback (most recent call last):
    initframe.recipe.grammar.ExpressionError: a number is not finite, or too large
    """
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise ExpressionError("a number is not finite, or too large")


def _parsed(text: str) -> ast.expr:
    """Parse the text; whatever Python's parser raises is one kind of error here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what Python frowns upon today it refuses tomorrow: "1if"
            return ast.parse(text, mode="eval").body
    except (RecursionError, MemoryError):
        raise ExpressionError("it is nested too deeply") from None
    except (SyntaxError, ValueError, Warning):
        raise ExpressionError("its syntax is wrong") from None


def _check_nodes(tree: ast.expr) -> None:
    """Hold every node to the closed list, level by level, within the bounds."""
    level: list[ast.AST] = [tree]
    count = 0
    for _ in range(MAX_DEPTH):
        for node in level:
            _check_node(node)
        count += len(level)
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            break
    if level or count > MAX_NODES:
        raise ExpressionError("it is nested too deeply" if level else f"it has more than {MAX_NODES} parts")


def _check_node(node: ast.AST) -> None:
    if isinstance(node, ast.Attribute):
        raise ExpressionError("a dot may only stand in a number")
    if isinstance(node, ast.Constant):
        _check_constant(node.value)
    elif isinstance(node, ast.Call) and not isinstance(node.func, ast.Name):
        raise ExpressionError("only a plain name can be called")
    elif type(node) not in _NODES:
        raise ExpressionError(f"it holds a {_KINDS.get(type(node), type(node).__name__)}")


def _check_constant(value: object) -> None:
    if not isinstance(value, bool | int | float):
        raise ExpressionError(f"{value!r} is not a real number")
    check_finite(value)
