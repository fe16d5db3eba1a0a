"""One rule of a recipe, and how it is read from what the user wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, TypeGuard, TypeVar, get_args

from initframe.recipe.expressions import Expression, ExpressionError, is_taken, parse
from initframe.recipe.grammar import ALLOWED
from initframe.recipe.patterns import Pattern, compile_pattern, is_plain_name, plural
from initframe.recipe.plain import plain_copy, shown, strangers

Kind = Literal["parameter", "buffer", "any"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Padding = Literal["zero", "fill"]
PADDINGS: tuple[Padding, ...] = get_args(Padding)

_Option = TypeVar("_Option", bound=str)


class ReadOnly(Mapping[str, Any]):
    """A mapping that nobody changes: copied on the way in, compared by content, ready to be pickled.

    >>> ReadOnly({"gain": 2})
    ReadOnly({'gain': 2})
    """

    def __init__(self, items: Mapping[str, Any] | None = None) -> None:
        self._items = dict(items or {})

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"ReadOnly({self._items!r})"


@dataclass(frozen=True)
class Rule:
    """One entry of a recipe: which tensors, and what they will hold.

    Attributes:
        name: its key in the recipe.
        match: a tensor is matched if one of these matches its name,
        exclude: none of these does,
        module: one of these globs, if any, matches the class of its module or a base of it,
        inside: one of these, if any, matches the class of a module that it lies in, however deep, or a base of it,
        where: this condition, if any, holds for it,
        kind: and it is of this kind.
        split: the number of equal blocks along the output axis, or the blocks' sizes; ``None``: one block.
        padding: whether an embedding's row of padding stays zero, or is filled like the others.
        init: the initializer's name.
        arguments: the initializer's keyword arguments, as written.
        optional: whether the rule may match nothing.
        companions: what the method asks for besides values, as numbers: multipliers of an optimizer's ``lr``,
            ``weight_decay`` and ``eps``, and factors of the forward pass under names of their own.
        broken: whether some of it could not be read; such a rule is looked at for further problems, and applied to
            nothing.
    """

    name: str
    match: tuple[Pattern, ...]
    _: KW_ONLY
    exclude: tuple[Pattern, ...] = ()
    module: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    where: Expression | None = None
    kind: Kind = "parameter"
    split: int | tuple[Expression, ...] | None = None
    padding: Padding = "zero"
    init: str
    arguments: Mapping[str, Any] = field(default_factory=ReadOnly)
    optional: bool = False
    companions: Mapping[str, Expression] = field(default_factory=ReadOnly)
    broken: bool = False

    def means(self, name: str) -> bool:
        """Whether the rule's patterns match a name, and none of its excludes does.

        >>> Rule("weights", (compile_pattern("*.weight"),), init="zeros").means("fc.weight")
        True
        """
        matched = any(pattern.regex.match(name) for pattern in self.match)
        return matched and not any(pattern.regex.match(name) for pattern in self.exclude)

    def describe(self) -> str:
        """Name the rule as every message does.

        >>> Rule("weights", (compile_pattern("*.weight"),), init="zeros").describe()
        "rule 'weights' (match '*.weight')"
        """
        return _label(self.name, [pattern.text for pattern in self.match])

    def to_dict(self) -> dict[str, Any]:
        """Give the rule as plain data, as a recipe would hold it under the rule's name.

        >>> Rule("biases", (compile_pattern("*.bias"),), init="zeros").to_dict()
        {'match': '*.bias', 'init': 'zeros'}
        """
        written = {
            "match": _one_or_list([pattern.text for pattern in self.match]),
            "exclude": _one_or_list([pattern.text for pattern in self.exclude]),
            "module": _one_or_list(list(self.module)),
            "inside": _one_or_list(list(self.inside)),
            "where": self.where.source if self.where else None,
            "kind": self.kind if self.kind != "parameter" else None,
            "split": [size.source for size in self.split] if isinstance(self.split, tuple) else self.split,
            "padding": self.padding if self.padding != "zero" else None,
            "optional": self.optional or None,
            "companions": {name: value.source for name, value in self.companions.items()} or None,
            "init": self.init,
        }
        given = {key: value for key, value in written.items() if value is not None and value != []}
        return {**given, **plain_copy(self.arguments)}


def read_rule(name: str, value: object) -> tuple[Rule | None, list[str]]:
    """Read what stands under one key of ``rules``.

    Args:
        name: the key.
        value: a mapping, or the initializer's name where the key is the pattern.

    Returns:
        The rule, and one message per problem. Where there are any, it is what could be read of the rule, or ``None``
        if not even that says what it is about.

    >>> rule, problems = read_rule("*.bias", "zeros")
    >>> rule.init, rule.match[0].text, problems
    ('zeros', '*.bias', [])
    """
    written = {"init": value} if isinstance(value, str) else value
    if not isinstance(written, Mapping):
        fact = f"its value is {shown(value)}, neither a mapping nor an initializer's name"
        return None, [f"{_label(name, [name])}: {fact}. Fix: write init: … under it, or ~ to delete it."]
    given = {"match": name} | {key: item for key, item in written.items() if item is not None or key not in RULE_KEYS}
    readings = {key: _read_item(key, item) for key, item in given.items()}
    facts = [fact for _, found in readings.values() for fact in found]
    if "init" not in given:
        facts.append("it has no init. Fix: name an initializer, or keep to leave the tensors as they are.")
    problems = [f"{_label(name, _listed(given['match']))}: {fact}" for fact in facts]
    readable = {key: item for key, (item, found) in readings.items() if not found}
    if not {"match", "init"} <= readable.keys():
        return None, problems
    fields = {key: item for key, item in readable.items() if key in RULE_KEYS}
    arguments = {key: item for key, item in readable.items() if key not in RULE_KEYS}
    return Rule(name=name, arguments=ReadOnly(arguments), broken=bool(facts), **fields), problems


def _read_item(key: Any, item: object) -> tuple[Any, list[str]]:
    """Read what stands under one key of a rule: the value, or what is wrong with it."""
    if facts := list(strangers({key: item})):
        return None, facts
    try:
        return _READERS.get(key, plain_copy)(item), []
    except ValueError as error:
        return None, [f"{key} {fact}" for fact in error.args]


def read_option(value: object, options: tuple[_Option, ...]) -> _Option:
    """Read one of a few words.

    Raises:
        ValueError: it is none of them.

    >>> read_option("any", KINDS)
    'any'
    """
    for option in options:
        if value == option:
            return option
    raise ValueError(f"is {shown(value)}. Options: {', '.join(options)}.")


def is_numeric(value: object) -> TypeGuard[str | float]:
    """Whether a value can be a number in a recipe: a number, or the text of an expression; a bool is neither.

    >>> is_numeric(2), is_numeric("2 * fan_in"), is_numeric(True)
    (True, True, False)
    """
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def read_expression(source: str | float) -> Expression:
    """Read an expression, with the way out in its error.

    Raises:
        ValueError: it is none.

    >>> read_expression("2 * fan_in").text
    '2 * fan_in'
    """
    try:
        return parse(source)
    except ExpressionError as error:
        raise ValueError(f"{shown(source)} is not an expression: {error}. Fix: use {ALLOWED}.") from None


def _label(name: str, patterns: list[Any]) -> str:
    """Name a rule in a message; where the name is the pattern, once is enough."""
    if patterns == [name]:
        return f"rule {shown(name)}"
    return f"rule {shown(name)} (match {', '.join(map(shown, patterns))})"


def _one_or_list(texts: list[str]) -> str | list[str]:
    return texts[0] if len(texts) == 1 else texts


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _texts(value: object) -> list[str]:
    texts = _listed(value)
    if wrong := [text for text in texts if not isinstance(text, str) or not text]:
        raise ValueError(f"takes a pattern or a list of patterns, not {shown(wrong[0])}. Fix: put it in quotes.")
    return texts


def _read_match(value: object) -> tuple[Pattern, ...]:
    if not (patterns := _read_patterns(value)):
        raise ValueError("is an empty list. Fix: give a pattern, such as '*.weight'.")
    return patterns


def _read_patterns(value: object) -> tuple[Pattern, ...]:
    patterns, facts = [], []
    for text in _texts(value):
        try:
            patterns.append(compile_pattern(text))
            _check_capture_names(patterns[-1])
        except ValueError as error:
            facts.append(f"{shown(text)} is not a pattern: {error}.")
    if facts:
        raise ValueError(*facts)
    return tuple(patterns)


def _check_capture_names(pattern: Pattern) -> None:
    for capture in pattern.captures:
        for fact in (capture, plural(capture)):
            if is_taken(fact):
                raise ValueError(f"its capture hides '{fact}', a name with a meaning of its own")


def _read_globs(value: object) -> tuple[str, ...]:
    return tuple(_texts(value))


def _read_where(value: object) -> Expression:
    if isinstance(value, str | bool):
        return read_expression(value)
    raise ValueError(f"takes a condition, not {shown(value)}. Fix: compare facts, such as ndim > 1.")


def _read_split(value: object) -> int | tuple[Expression, ...]:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, list | tuple) and value and all(map(is_numeric, value)):
        return tuple(map(read_expression, value))
    raise ValueError(f"takes a number of blocks (3) or a list of their sizes ([64, 64, 8]), not {shown(value)}.")


def _read_kind(value: object) -> Kind:
    return read_option(value, KINDS)


def _read_padding(value: object) -> Padding:
    return read_option(value, PADDINGS)


def _read_init(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise ValueError(f"takes the name of an initializer, not {shown(value)}. Fix: write one, such as xavier_uniform.")


def _read_flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(f"is {shown(value)}. Options: true, false.")


def _read_companions(value: object) -> Mapping[str, Expression]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) and is_plain_name(name) for name in value):
        raise ValueError(f"is {shown(value)}. Fix: name what is asked for, as in companions: {{lr: 1 / fan_in}}.")
    if wrong := [name for name, number in value.items() if not is_numeric(number)]:
        raise ValueError(f"{wrong[0]} is {shown(value[wrong[0]])}. Fix: write a number or an expression.")
    return ReadOnly({name: read_expression(number) for name, number in value.items()})


_READERS: dict[str, Callable[[Any], Any]] = {
    "match": _read_match,
    "exclude": _read_patterns,
    "module": _read_globs,
    "inside": _read_globs,
    "where": _read_where,
    "kind": _read_kind,
    "split": _read_split,
    "padding": _read_padding,
    "init": _read_init,
    "optional": _read_flag,
    "companions": _read_companions,
}

RULE_KEYS = tuple(_READERS)
"""The keys of a rule that are not arguments of its initializer."""
