"""A rule's arguments → an initializer's: names checked, numbers evaluated, all problems at once."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from initframe.errors import Problem, ResolveError, closest
from initframe.initializers.table import Initializer, parameters

Evaluate = Callable[[Any], float]


class ArgumentError(ResolveError):
    """A rule's arguments do not fit its initializer; one problem for each argument."""


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
        """Whether a recipe writes an expression there."""
        return self.type in ("number", "integer")


@cache
def signature(function: Initializer) -> dict[str, Parameter]:
    """Return the keyword arguments of an initializer by name.

    >>> from initframe.initializers import get
    >>> signature(get("kaiming_normal"))["mode"].options
    ('fan_in', 'fan_out', 'fan_avg', 'fan_geo_avg')
    """
    return {name: _parameter(p) for name, p in parameters(function).items()}


def check(
    function: Initializer, written: Mapping[str, Any], hint: Callable[[str], str] = lambda _: ""
) -> list[Problem]:
    """Say what is wrong with a rule's keywords for every tensor: unknown or missing ones.

    Args:
        function: the initializer.
        written: the rule's arguments.
        hint: a fix for an unknown keyword.

    >>> from initframe.initializers import get
    >>> list(map(str, check(get("constant"), {"vel": 1})))
    ["unknown argument 'vel'. Closest: val.", "argument 'val' is missing."]
    """
    known = signature(function)
    unknown = [
        Problem("", f"unknown argument {key!r}.", closest(key, known) or "It takes none.", hint(key))
        for key in written
        if key not in known
    ]
    missing = [p.name for p in known.values() if p.required and p.name not in written]
    return unknown + [Problem("", f"argument {name!r} is missing.") for name in missing]


def bind(
    function: Initializer, written: Mapping[str, Any], evaluate: Evaluate, block: int | None = None
) -> dict[str, Any]:
    """Return the values for a call: numbers evaluated, everything else verbatim and checked against its type.

    Args:
        function: the initializer.
        written: the rule's arguments; their names have passed :func:`check`.
        evaluate: turns what a recipe wrote for a number (a number or an expression) into one.
        block: which block of a split tensor the call is for; a list written for one number gives the block's value.

    Returns:
        Keyword arguments for ``function``.

    Raises:
        ArgumentError: with one problem for every value that does not fit.

    >>> from initframe.initializers import get
    >>> bind(get("kaiming_normal"), {"a": 1, "mode": "fan_out"}, float)
    {'a': 1.0, 'mode': 'fan_out'}
    """
    known, bound, problems = signature(function), {}, []
    for name, value in written.items():
        parameter = known[name]
        try:
            bound[name] = _value(parameter, _of_block(parameter, value, block), evaluate)
        except _ValueError as error:
            problems.append(replace(error.problems[0], subject=f"argument {name!r}"))
        except ValueError as error:
            problems.append(Problem(f"argument {name!r}", str(error)))
    if problems:
        raise ArgumentError(*problems)
    return bound


class _ValueError(ArgumentError):
    """One value does not fit its parameter."""

    def __init__(self, fact: str, options: str = "", fix: str = "") -> None:
        super().__init__(Problem("", fact, options, fix))


def _of_block(parameter: Parameter, value: Any, block: int | None) -> Any:
    """Return the block's value from a list with one value per block."""
    if not isinstance(value, list | tuple) or parameter.many or not parameter.numeric:
        return value
    if block is None:
        raise _ValueError("a list gives one value per block of a split tensor.", fix="Add split, or write one number.")
    if block >= len(value):
        raise _ValueError(f"a list of {len(value)} values for more blocks.", fix="Write one value per block.")
    return value[block]


def _value(parameter: Parameter, value: Any, evaluate: Evaluate) -> Any:
    """Check a value against its parameter."""
    if value is None and parameter.optional:
        return None
    if parameter.many:
        if not isinstance(value, list | tuple):
            raise _ValueError(f"a list is needed, got {value!r}.")
        return tuple(_one(parameter, item, evaluate) for item in value)
    return _one(parameter, value, evaluate)


def _one(parameter: Parameter, value: Any, evaluate: Evaluate) -> Any:
    """Check one value that is no list."""
    if parameter.numeric:
        number = evaluate(value)
        if parameter.type == "number":
            return number
        if number != int(number):
            raise _ValueError(f"an integer is needed, got {number:g}.")
        return int(number)
    if parameter.type == "choice" and value not in parameter.options:
        raise _ValueError(f"got {value!r}.", f"Options: {', '.join(map(str, parameter.options))}.")
    if parameter.type == "text" and not isinstance(value, str):
        raise _ValueError(f"a text is needed, got {value!r}.")
    if parameter.type == "flag" and not isinstance(value, bool):
        raise _ValueError(f"true or false is needed, got {value!r}.")
    return value


def _parameter(raw: inspect.Parameter) -> Parameter:
    """Read an annotation; an unknown one takes any value verbatim."""
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
