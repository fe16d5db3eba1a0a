"""From what a rule wrote to what an initializer takes: names checked, numbers evaluated, all problems at once."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from initframe.errors import InitframeError, Problem, closest, nearest, shown
from initframe.initializers.table import Initializer, parameters
from initframe.limits import INTEGER
from initframe.recipe.rule import RULE_KEYS

Evaluate = Callable[[Any], float]


class ArgumentError(InitframeError):
    """A rule's arguments do not fit its initializer."""


@dataclass(frozen=True)
class Parameter:
    """One keyword argument of an initializer, as a recipe sees it.

    Attributes:
        name: the keyword.
        type: ``"number"``, ``"integer"``, ``"choice"``, ``"text"``, ``"flag"`` or ``"any"``.
        many: whether it takes a list of such values.
        options: the choices, for ``"choice"``.
        optional: whether null is a value.
        required: whether it has no default.
    """

    name: str
    type: str
    many: bool = False
    options: tuple[Any, ...] = ()
    optional: bool = False
    required: bool = False

    @property
    def numeric(self) -> bool:
        """Whether what a recipe writes there is an expression."""
        return self.type in ("number", "integer")


@cache
def signature(function: Initializer) -> dict[str, Parameter]:
    """Read the keyword arguments of an initializer, by name.

    >>> from initframe.initializers import get
    >>> signature(get("kaiming_normal"))["mode"].options
    ('fan_in', 'fan_out', 'fan_avg', 'fan_geo_avg')
    """
    return {name: _parameter(p) for name, p in parameters(function).items()}


@cache
def demanded(function: Initializer) -> tuple[str, ...]:
    """Name the keyword arguments of an initializer that have no default.

    >>> from initframe.initializers import get
    >>> demanded(get("constant")), demanded(get("zeros"))
    (('val',), ())
    """
    return tuple(name for name, parameter in signature(function).items() if parameter.required)


def check(function: Initializer, written: Mapping[str, Any], fix: Callable[[str], str] = lambda _: "") -> list[Problem]:
    """Find unknown and missing keywords of a rule.

    Args:
        function: the initializer.
        written: the rule's arguments.
        fix: what to do about an unknown keyword, given the keyword.

    >>> from initframe.initializers import get
    >>> [str(problem) for problem in check(get("constant"), {"vel": 1})]
    ["unknown argument 'vel'. Closest: val.", "argument 'val' is missing."]
    """
    known = signature(function)
    unknown = [
        Problem("", f"unknown argument {shown(name)}.", _options(name, known), fix(name))
        for name in written
        if name not in known
    ]
    missing = [name for name in demanded(function) if name not in written]
    return unknown + [Problem("", f"argument {name!r} is missing.") for name in missing]


def _options(name: str, known: Collection[str]) -> str:
    """Name what an unknown argument may have been meant as: one of the initializer, or a key of every rule."""
    if not nearest(name, known) and (keys := nearest(name.lower(), RULE_KEYS, 1, 0.85)):
        return f"Closest: {keys[0]}, a key of rules."
    return closest(name, known) or "It takes none."


def bind(
    function: Initializer, written: Mapping[str, Any], evaluate: Evaluate, block: int | None = None
) -> dict[str, Any]:
    """Make the values for a call: numbers evaluated, everything else verbatim and checked against its type.

    Args:
        function: the initializer.
        written: the rule's arguments; their names have passed :func:`check`.
        evaluate: turns what a recipe wrote for a number (a number or an expression) into one, or raises an
            InitframeError.
        block: which block of a split tensor the call is for; a list written for one number gives the block's value.

    Returns:
        Keyword arguments for ``function``.

    Raises:
        ArgumentError: values do not fit; without problems if the cause of every failure was reported already.

    >>> from initframe.initializers import get
    >>> bind(get("kaiming_normal"), {"a": 1, "mode": "fan_out"}, float)
    {'a': 1.0, 'mode': 'fan_out'}
    """
    known, bound = signature(function), {}
    failed: list[InitframeError] = []
    for name, value in written.items():
        parameter = known[name]
        try:
            bound[name] = _value(parameter, _of_block(parameter, value, block), evaluate)
        except InitframeError as error:
            failed.append(ArgumentError(*(problem.on(f"argument {name!r}") for problem in error.problems)))
    if failed:
        raise ArgumentError(*(problem for error in failed for problem in error.problems))
    return bound


def _of_block(parameter: Parameter, value: Any, block: int | None) -> Any:
    """The block's value of a list with one value per block."""
    if not isinstance(value, list | tuple) or parameter.many or not parameter.numeric:
        return value
    if block is None:
        fact = "a list gives one value per block of a split tensor."
        raise ArgumentError(Problem("", fact, fix="Add split, or write one number."))
    if block >= len(value):
        fact = f"a list of {len(value)} values for more blocks than that."
        raise ArgumentError(Problem("", fact, fix="Write one value per block."))
    return value[block]


def _value(parameter: Parameter, value: Any, evaluate: Evaluate) -> Any:
    """One value, checked against its parameter."""
    if value is None and parameter.optional:
        return None
    if parameter.many:
        if not isinstance(value, list | tuple):
            raise ArgumentError(f"a list is needed, got {shown(value)}.")
        return tuple(_one(parameter, item, evaluate) for item in value)
    return _one(parameter, value, evaluate)


def _one(parameter: Parameter, value: Any, evaluate: Evaluate) -> Any:
    """One value that is no list."""
    if parameter.numeric:
        number = evaluate(value)
        if parameter.type == "number":
            return _bounded(number)
        if number != int(number):
            raise ArgumentError(f"an integer is needed, got {number:g}.")
        if abs(number) >= INTEGER:
            raise ArgumentError(f"an integer below 2**63 is needed, got {shown(value)}.")
        return int(number)
    if parameter.type == "choice" and value not in parameter.options:
        options = f"Options: {', '.join(map(str, parameter.options))}."
        raise ArgumentError(Problem("", f"got {shown(value)}.", options))
    if parameter.type == "text" and not isinstance(value, str):
        raise ArgumentError(f"a text is needed, got {shown(value)}.")
    if parameter.type == "flag" and not isinstance(value, bool):
        raise ArgumentError(Problem("", f"got {shown(value)}.", "Options: true, false."))
    return value


def _bounded(number: float) -> float:
    """Return an integer that torch has no type for as a float."""
    if type(number) is not int or abs(number) < INTEGER:
        return number
    try:
        return float(number)
    except OverflowError:
        raise ArgumentError(f"a number below 1.8e308 is needed, got {shown(number)}.") from None


def _parameter(raw: inspect.Parameter) -> Parameter:
    """Read an annotation; what is not understood is taken verbatim."""
    annotation, optional, many = raw.annotation, False, False
    if get_origin(annotation) in (Union, types.UnionType):
        members = [a for a in get_args(annotation) if a is not type(None)]
        optional = len(members) < len(get_args(annotation))
        annotation = members[0] if len(members) == 1 else Any
    if get_origin(annotation) in (list, tuple, Sequence):
        many, annotation = True, get_args(annotation)[0]
    options = get_args(annotation) if get_origin(annotation) is Literal else ()
    named = {float: "number", int: "integer", str: "text", bool: "flag"}
    kind = "choice" if options else named.get(annotation, "any")
    return Parameter(raw.name, kind, many, options, optional, raw.default is inspect.Parameter.empty)
