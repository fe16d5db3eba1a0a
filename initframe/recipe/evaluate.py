"""What an expression means: its tree as a function of names, in float64."""

from __future__ import annotations

import ast
import functools
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from initframe.errors import InitframeError, Problem, closest

FUNCTIONS: Mapping[str, Callable[..., float]] = MappingProxyType(
    {"sqrt": math.sqrt, "log": math.log, "min": min, "max": max}
)
CONSTANTS: Mapping[str, float] = MappingProxyType({"pi": math.pi})

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

KNOWN = (
    "Options: fan_in, fan_out, ndim, numel, d0, d1, …; what the pattern captures, the rule's other arguments, the "
    "recipe's vars, the model's config; gains such as relu; sqrt, log, min, max, pi."
)
"""The names there are, for an unknown name that is like none of them: the same for every tensor."""

CAPTURED = frozenset({"layer", "layers"})
CAPTURE = "A pattern gives layer and layers if {layer} stands in it."
"""The names that recipes take from patterns by custom, and what to do if one of them is meant."""

Evaluate = Callable[[Mapping[str, Any]], float | bool]


class ExpressionError(InitframeError):
    """A text is not an expression, or an expression has no value."""


@dataclass(frozen=True)
class UnknownName(Problem):
    """A name that stands for nothing.

    Attributes:
        name: the name.
        known: the names that there are.
    """

    name: str = ""
    known: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    @classmethod
    @functools.lru_cache(maxsize=1024)  # tensors of one kind know the same names
    def among(cls, name: str, known: frozenset[str]) -> UnknownName:
        """Make the problem, with the closest of the names that there are.

        >>> print(UnknownName.among("lyers", frozenset({"layer", "layers", "x"})))
        unknown name 'lyers'. Closest: layers, layer.
        >>> print(UnknownName.among("layers", frozenset({"fan_in", "x"})))
        unknown name 'layers'. Closest: layer. A pattern gives layer and layers if {layer} stands in it.
        """
        meant = frozenset(get_close_matches(name, CAPTURED - known, cutoff=0.5))
        options, fix = closest(name, known | meant - {name}) or KNOWN, CAPTURE if meant else ""
        return cls("", f"unknown name '{name}'.", options, fix, name=name, known=known)


@functools.lru_cache(maxsize=65536)
def evaluator(node: ast.expr) -> Evaluate:
    """Turn a checked tree into a function of the names in it; all numbers are float64 from there on.

    >>> evaluator(ast.parse("2 * x", mode="eval").body)({"x": 3})
    6.0
    """
    return _EVALUATORS[type(node)](node)


def _constant(node: ast.Constant) -> Evaluate:
    value = node.value if isinstance(node.value, bool) else float(node.value)  # type: ignore[arg-type]
    return lambda _: value


def _unary(node: ast.UnaryOp) -> Evaluate:
    operand = evaluator(node.operand)
    if isinstance(node.op, ast.Not):
        return lambda names: not operand(names)
    function = ARITHMETIC[type(node.op)]
    return lambda names: _computed(node, function, operand(names))


def _binary(node: ast.BinOp) -> Evaluate:
    function, left, right = ARITHMETIC[type(node.op)], evaluator(node.left), evaluator(node.right)
    return lambda names: _computed(node, function, left(names), right(names))


def _boolean(node: ast.BoolOp) -> Evaluate:
    every, settled = [evaluator(value) for value in node.values], all if isinstance(node.op, ast.And) else any
    return lambda names: settled(bool(value(names)) for value in every)


def _called(node: ast.Call) -> Evaluate:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    values = [evaluator(arg) for arg in node.args]
    return lambda names: _computed(node, _function(name, names), *(value(names) for value in values))


def _compared(node: ast.Compare) -> Evaluate:
    """Compare along a chain; as in Python, it ends at the first comparison that fails."""
    first, *others = (evaluator(value) for value in (node.left, *node.comparators))
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
    except ZeroDivisionError:
        fact = "divides by zero."
    except OverflowError:
        fact = "is too large."
    except ValueError:
        fact = "is not defined."
    except TypeError:
        fact = f"is called with the wrong number of arguments ({len(values)})."
    else:
        if math.isfinite(result):
            return result
        fact = "is not finite."
    raise ExpressionError(f"{ast.unparse(node)} {fact}")


def _named_number(name: str, names: Mapping[str, Any]) -> float | bool:
    value = _looked_up(name, names)
    if isinstance(value, bool):
        return value
    if not hasattr(value, "__float__"):
        if callable(value):
            raise ExpressionError(Problem("", f"{name} is a function.", fix=f"Call it: {name}(…)."))
        raise ExpressionError(f"{name} is not a number.")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ExpressionError(f"{name} is not finite.")
    return result


def _function(name: str, names: Mapping[str, Any]) -> Callable[..., float]:
    value = _looked_up(name, names)
    if not callable(value):
        raise ExpressionError(f"{name} is a number; it cannot be called.")
    function: Callable[..., float] = value
    return function


def _looked_up(name: str, names: Mapping[str, Any]) -> Any:
    try:
        return names[name]
    except KeyError:
        raise ExpressionError(UnknownName.among(name, frozenset(names))) from None


_EVALUATORS: dict[type[ast.expr], Callable[[Any], Evaluate]] = {
    ast.Constant: _constant,
    ast.Name: lambda node: functools.partial(_named_number, node.id),
    ast.UnaryOp: _unary,
    ast.BinOp: _binary,
    ast.BoolOp: _boolean,
    ast.Compare: _compared,
    ast.Call: _called,
}
