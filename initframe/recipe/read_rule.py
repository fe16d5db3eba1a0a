"""How one rule is read from what the user wrote: the rule, and every problem of it at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeGuard, TypeVar

from initframe.errors import Problem, RecipeError, about, shown
from initframe.recipe.expressions import Expression, is_taken, parse
from initframe.recipe.patterns import Pattern, compile_pattern, is_plain_name, plural, refusal
from initframe.recipe.plain import named_instead, plain_copy, strangers
from initframe.recipe.rule import AXES, KINDS, PADDINGS, RULE_KEYS, Axis, ReadOnly, Rule, label

_Option = TypeVar("_Option", bound=str)


def read_rule(name: str, value: object) -> tuple[Rule | None, tuple[Problem, ...]]:
    """Read what stands under one key of ``rules``.

    Args:
        name: the key.
        value: a mapping, or the initializer's name if the key is the pattern.

    Returns:
        The rule, and its problems. If there are any, the rule is what could be read, or ``None`` if not even its
        patterns and its initializer could.

    >>> rule, problems = read_rule("*.bias", "zeros")
    >>> rule.init, rule.match[0].text, problems
    ('zeros', '*.bias', ())
    """
    written = {"init": value} if isinstance(value, str) else value
    if not isinstance(written, Mapping):
        fact = f"its value is {shown(value)}, neither a mapping nor an initializer's name."
        fix = named_instead(value) or "Write init: … under it, or ~ to delete it."
        return None, (Problem(label(name, [name]), fact, fix=fix),)
    given = {"match": name} | {key: item for key, item in written.items() if item is not None or key not in RULE_KEYS}
    readings = {key: attempt(_read_item, key, item) for key, item in given.items()}
    found = [problem for _, problems in readings.values() for problem in problems]
    if "init" not in given:
        found.append(
            Problem("", "it has no init.", fix="Name an initializer, or keep to leave the tensors as they are.")
        )
    subject = label(name, _listed(given["match"]))
    problems = tuple(problem.on(subject) for problem in found)
    readable = {key: item for key, (item, wrong) in readings.items() if not wrong}
    if not {"match", "init"} <= readable.keys():
        return None, problems
    fields = {key: item for key, item in readable.items() if key in RULE_KEYS}
    arguments = {key: item for key, item in readable.items() if key not in RULE_KEYS}
    unread = tuple(key for key in given if key not in readable and key not in RULE_KEYS)
    rule = Rule(name=name, arguments=ReadOnly(arguments), unread=unread, broken=bool(problems), **fields)
    return replace(rule, kind_given="kind" in fields), problems


def attempt(read: Callable[[str, Any], Any], key: str, value: object) -> tuple[Any, tuple[Problem, ...]]:
    """Read the value of a key, or say what is wrong with it.

    >>> attempt(read_expression, "where", "ndim > 1")[0].text
    'ndim > 1'
    """
    try:
        return read(key, value), ()
    except RecipeError as error:
        return None, error.problems


def read_option(key: str, value: object, options: tuple[_Option, ...]) -> _Option:
    """Read one of a few words.

    Raises:
        RecipeError: it is none of them.

    >>> read_option("kind", "any", KINDS)
    'any'
    """
    for option in options:
        if value == option:
            return option
    raise _wrong(f"{key} is {shown(value)}.", options=f"Options: {', '.join(options)}.")


def is_numeric(value: object) -> TypeGuard[str | float]:
    """Whether a value can be a number in a recipe: a number, or the text of an expression; a bool is neither.

    >>> is_numeric(2), is_numeric("2 * fan_in"), is_numeric(True)
    (True, True, False)
    """
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def read_expression(key: str, source: str | float) -> Expression:
    """Read an expression.

    Raises:
        RecipeError: it is not one.

    >>> read_expression("std", "2 * fan_in").text
    '2 * fan_in'
    """
    with about(f"{key} {shown(source)}", RecipeError):
        return parse(source)


def _wrong(fact: str, options: str = "", fix: str = "") -> RecipeError:
    return RecipeError(Problem("", fact, options, fix))


def _read_item(key: str, item: Any) -> Any:
    if found := tuple(strangers({key: item})):
        raise RecipeError(*found)
    return _READERS[key](key, item) if key in RULE_KEYS else plain_copy(item)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _read_texts(key: str, value: object) -> tuple[str, ...]:
    texts = tuple(_listed(value))
    if wrong := [text for text in texts if not isinstance(text, str) or not text]:
        raise _wrong(f"{key} takes a pattern or a list of patterns, not {shown(wrong[0])}.", fix="Put it in quotes.")
    return texts


def _read_match(key: str, value: object) -> tuple[Pattern, ...]:
    if not (patterns := _read_patterns(key, value)):
        raise _wrong(f"{key} is an empty list.", fix="Give a pattern, such as '*.weight'.")
    return patterns


def _read_patterns(key: str, value: object) -> tuple[Pattern, ...]:
    readings = [attempt(_read_pattern, key, text) for text in _read_texts(key, value)]
    if found := [problem for _, problems in readings for problem in problems]:
        raise RecipeError(*(problem.on(key) for problem in found))
    return tuple(pattern for pattern, _ in readings)


def _read_pattern(_: str, text: str) -> Pattern:
    pattern = compile_pattern(text)
    for fact in (fact for capture in pattern.captures for fact in (capture, plural(capture))):
        if is_taken(fact):
            raise refusal(text, f"its capture hides '{fact}', which has a meaning of its own", "Rename the capture.")
    return pattern


def _read_where(key: str, value: object) -> Expression:
    if isinstance(value, str | bool):
        return read_expression(key, value)
    raise _wrong(f"{key} takes a condition, not {shown(value)}.", fix="Compare facts, such as ndim > 1.")


def _read_split(key: str, value: object) -> int | tuple[Expression, ...]:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, list | tuple) and value and all(map(is_numeric, value)):
        return tuple(read_expression(key, size) for size in value)
    fact = f"{key} takes a number of blocks (3) or a list of their sizes ([64, 64, 8]), not {shown(value)}."
    raise _wrong(fact)


def _read_axes(key: str, value: object) -> tuple[Axis, ...]:
    if isinstance(value, list | tuple) and value:
        return tuple(read_option(f"{key}[{i}]", word, AXES) for i, word in enumerate(value))
    fact = f"{key} takes a list with one word per dimension, not {shown(value)}."
    raise _wrong(fact, f"Options: {', '.join(AXES)}.", "Write it as in [batch, out, in].")


def _read_units(key: str, value: object) -> tuple[int, ...] | Expression:
    if isinstance(value, str):
        return read_expression(key, value)
    if isinstance(value, list | tuple) and value and all(type(unit) is int and unit >= 0 for unit in value):
        return tuple(sorted(set(value)))
    if isinstance(value, list | tuple) and not value:
        raise _wrong(f"{key} is empty, so nothing would be written.", fix="Leave the rule out if there are no units.")
    fact = f"{key} takes a list of indices ([3, 17]) or a condition on unit (unit % 2 == 0), not {shown(value)}."
    is_mask = isinstance(value, list | tuple) and all(isinstance(unit, bool) for unit in value)
    raise _wrong(fact, fix="Of a mask, give mask.nonzero().flatten().tolist()." if is_mask else "")


def _read_init(key: str, value: object) -> str:
    if isinstance(value, str) and value:
        return value
    fix = "Write one, such as xavier_uniform."
    raise _wrong(f"{key} takes the name of an initializer, not {shown(value)}.", fix=fix)


def _read_optional(key: str, value: object) -> bool | Literal["patterns"]:
    if isinstance(value, bool):
        return value
    if value == "patterns":
        return "patterns"
    raise _wrong(
        f"{key} is {shown(value)}.", "Options: true, false.", "Or patterns: each of them may match nothing, not all."
    )


def _read_companions(key: str, value: object) -> Mapping[str, Expression]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) and is_plain_name(name) for name in value):
        raise _wrong(f"{key} is {shown(value)}.", fix="Give each number a name, as in companions: {lr: 1 / fan_in}.")
    if wrong := [name for name, number in value.items() if not is_numeric(number)]:
        raise _wrong(f"{key}.{wrong[0]} is {shown(value[wrong[0]])}.", fix="Write a number or an expression.")
    return ReadOnly({name: read_expression(f"{key}.{name}", number) for name, number in value.items()})


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "match": _read_match,
    "exclude": _read_patterns,
    "module": _read_texts,
    "inside": _read_texts,
    "where": _read_where,
    "kind": partial(read_option, options=KINDS),
    "axes": _read_axes,
    "split": _read_split,
    "units": _read_units,
    "padding": partial(read_option, options=PADDINGS),
    "init": _read_init,
    "optional": _read_optional,
    "companions": _read_companions,
}
