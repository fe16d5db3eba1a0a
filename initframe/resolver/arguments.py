"""What a rule says to its initializer, checked and looked up once for all tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from initframe import initializers
from initframe.errors import RecipeError
from initframe.initializers.arguments import bind, check, signature
from initframe.initializers.table import Initializer
from initframe.recipe.expressions import ExpressionError, parse
from initframe.recipe.patterns import is_plain_name
from initframe.recipe.plain import shown
from initframe.recipe.rule import RULE_KEYS, Rule

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A rule's initializer and its arguments, as far as they are the same for every tensor.

    Attributes:
        rule: the rule.
        function: its initializer.
        arguments: the rule's arguments, expressions parsed.
        numbers: those of them that are numbers or expressions.
        lists: those of the numbers that are one per block.
    """

    rule: Rule
    function: Initializer
    arguments: Arguments
    numbers: Mapping[str, Any]
    lists: Mapping[str, Sequence[Any]]

    @cached_property
    def settled(self) -> Arguments | None:
        """The arguments, where all numbers are written out: nobody asks for facts then."""
        plain = all(type(value) in (int, float) for value in self.numbers.values())
        return bind(self.function, self.arguments, lambda value: value) if plain else None

    def written(self, block: int | None) -> Mapping[str, Any]:
        """The numbers of one block, which the others of the same rule may name."""
        if block is None or not self.lists:
            return self.numbers
        return {**self.numbers, **{name: values[block] for name, values in self.lists.items()}}


def prepare(rule: Rule) -> tuple[Call | None, list[str]]:
    """Look a rule's initializer up, and check what needs no tensor: keywords, and the grammar of numbers.

    Args:
        rule: any rule.

    Returns:
        The call, or ``None`` and one message per problem.

    >>> from initframe.recipe.recipe import load_recipe
    >>> (rule,) = load_recipe({"rules": {"*.bias": {"init": "constant", "vel": 1}}}).rules
    >>> prepare(rule)[1][1]
    "rule '*.bias': constant: argument 'val' is missing."
    """
    try:
        function = initializers.get(rule.init)
    except RecipeError as error:
        return None, [f"{rule.describe()}: {error}"]
    known = signature(function)
    numbers = {k: v for k, v in rule.arguments.items() if k in known and known[k].numeric}
    wrong = check(function, rule.arguments, lambda key: _hint(rule, key))
    facts = [str(problem.on(rule.init)) for problem in wrong]
    facts += _ungrammatical(numbers)
    if facts:
        return None, [f"{rule.describe()}: {fact}" for fact in facts]
    numbers = {k: v if known[k].many else _parsed(v) for k, v in numbers.items()}
    lists = {k: v for k, v in numbers.items() if isinstance(v, list | tuple) and not known[k].many}
    return Call(rule, function, {**rule.arguments, **numbers}, numbers, lists), []


def _parsed(value: Any) -> Any:
    """Read an expression, or a list of them; anything else is what it is."""
    if isinstance(value, list | tuple):
        return [_parsed(item) for item in value]
    return parse(value) if isinstance(value, str) else value


def _hint(rule: Rule, key: str) -> str:
    """Say what an unknown keyword may be: a misspelt key of the rule, or left behind by an overlay."""
    if meant := get_close_matches(key, RULE_KEYS, n=1, cutoff=0.85):
        return f"If the rule's own key is meant, write {meant[0]}."
    how = f": ~init.rules.{rule.name}.{key}" if is_plain_name(rule.name) else ""
    return f"If another recipe left it behind, remove it{how}, or rename your rule: rules of the same name become one."


def _ungrammatical(numbers: Mapping[str, Any]) -> Iterator[str]:
    """What is written for numbers and is no expression."""
    for name, value in numbers.items():
        for item in value if isinstance(value, list | tuple) else [value]:
            try:
                parse(0 if item is None else item)
            except ExpressionError as error:
                yield f"argument {name!r}, {shown(item)}, is no expression: {error}."
