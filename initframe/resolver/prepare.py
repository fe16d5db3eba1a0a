"""Prepare a rule: look up its initializer, and check and parse its arguments, once for all tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any, NamedTuple

from initframe import initializers
from initframe.errors import Problem, RecipeError, about, shown
from initframe.initializers.arguments import ArgumentError, Parameter, bind, check, demanded, signature
from initframe.initializers.table import Initializer
from initframe.recipe.expressions import ExpressionError, parse
from initframe.recipe.patterns import is_plain_name
from initframe.recipe.rule import RULE_KEYS, Rule

Arguments = dict[str, Any]

FACTOR = "factor"
"""The key of a rule that multiplies all values; calibration writes it."""


class Call(NamedTuple):
    """A rule's initializer and its arguments, as far as they are the same for every tensor.

    Attributes:
        rule: the rule.
        function: its initializer.
        arguments: the rule's arguments, expressions parsed.
        numbers: those of them that are numbers or expressions.
        lists: those of the numbers that are one per block.
        factor: what the rule multiplies all values with, a number or an expression; ``None`` if nothing. An initializer
            that has an argument of this name gets it instead.
        asks: whether the rule needs more than values (``companions``).
        settled: the arguments bound, if all numbers are written out and fit, so that no facts are needed.
    """

    rule: Rule
    function: Initializer
    arguments: Arguments
    numbers: Mapping[str, Any]
    lists: Mapping[str, Sequence[Any]]
    factor: Any = None
    asks: bool = False
    settled: Arguments | None = None

    def numbers_of(self, block: int | None) -> Mapping[str, Any]:
        """The numbers of one block, which its other numbers may name."""
        if block is None or not self.lists:
            return self.numbers
        return {**self.numbers, **{name: values[block] for name, values in self.lists.items()}}


def prepare(rule: Rule) -> tuple[Call | None, list[Problem]]:
    """Look a rule's initializer up, check its keywords and parse its numbers: all that needs no tensor.

    Args:
        rule: any rule.

    Returns:
        The call, or ``None`` and what is wrong.

    >>> from initframe.recipe.recipe import load_recipe
    >>> (rule,) = load_recipe({"rules": {"*.bias": {"init": "constant", "vel": 1}}}).rules
    >>> print(prepare(rule)[1][1])
    rule '*.bias': constant: argument 'val' is missing.
    """
    try:
        function = initializers.get(rule.init)
    except RecipeError as error:
        return None, [problem.on(rule.describe()) for problem in error.problems]
    given = dict(rule.arguments.items())
    if not (given or rule.unread or demanded(function)):
        return Call(rule, function, {}, {}, {}, None, bool(rule.companions), {}), []
    known = signature(function)
    factor = given.pop(FACTOR, None) if FACTOR not in known else None
    written = {**given, **{name: None for name in rule.unread if name in known}} if rule.unread else given
    problems = [problem.on(rule.init) for problem in check(function, written, partial(_meant, rule))]
    if factor is not None:
        try:
            factor = _parsed_one(factor)
        except ExpressionError as error:
            problems += [problem.on(FACTOR) for problem in error.problems]
    numbers = {}
    for name, value in given.items():
        if name in known and known[name].numeric:
            try:
                numbers[name] = _parsed(known[name], value)
            except ExpressionError as error:
                problems += [problem.on(f"argument {name!r}") for problem in error.problems]
    if problems:
        return None, [problem.on(rule.describe()) for problem in problems]
    lists = {k: v for k, v in numbers.items() if isinstance(v, list) and not known[k].many}
    given |= numbers
    settled = _settled(function, given, numbers)
    return Call(rule, function, given, numbers, lists, factor, bool(rule.companions), settled), []


def _settled(function: Initializer, arguments: Arguments, numbers: Mapping[str, Any]) -> Arguments | None:
    """Bind arguments whose numbers are all written out; what does not fit is told for each tensor."""
    if not all(type(value) in (int, float) for value in numbers.values()):
        return None
    try:
        return bind(function, arguments, lambda value: value)
    except ArgumentError:
        return None


def _parsed(parameter: Parameter, value: Any) -> Any:
    """Read what is written for a number, or for several; a number that is written out stays as it is."""
    if isinstance(value, list | tuple):
        return [item if item is None else _parsed_one(item) for item in value]
    return value if parameter.many or (value is None and parameter.optional) else _parsed_one(value)


def _parsed_one(value: Any) -> Any:
    with about(shown(value), ExpressionError):
        expression = parse(value)
    return value if type(value) in (int, float) else expression


def _meant(rule: Rule, keyword: str) -> str:
    """Say what an unknown keyword may be: a misspelt key of the rule, or what an overlay left behind."""
    if meant := get_close_matches(keyword, RULE_KEYS, n=1, cutoff=0.85):
        return f"If the rule's own key is meant, write {meant[0]}."
    how = f": ~init.rules.{rule.name}.{keyword}" if is_plain_name(rule.name) else ""
    return f"If another recipe left it behind, remove it{how}, or rename your rule: rules of the same name become one."
