"""One rule of a recipe, as frozen data."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any, Literal, get_args

from initframe.errors import shown
from initframe.recipe.expressions import Expression
from initframe.recipe.patterns import Pattern
from initframe.recipe.plain import plain_copy

Kind = Literal["parameter", "buffer", "any"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Padding = Literal["zero", "fill"]
PADDINGS: tuple[Padding, ...] = get_args(Padding)

Axis = Literal["out", "in", "kernel", "batch"]
AXES: tuple[Axis, ...] = get_args(Axis)


class ReadOnly(Mapping[str, Any]):
    """A mapping that cannot be changed: copied on the way in, compared by content, ready to be pickled.

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

    def items(self) -> ItemsView[str, Any]:
        """The pairs of keys and values."""
        return self._items.items()

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
        inside: one of these, if any, matches the class of a module around it, however deep, or a base of it,
        where: this condition, if any, holds for it,
        kind: and it is of this kind.
        axes: what each of its dimensions means, one word per dimension; empty: as its layer reads it.
        split: the number of equal blocks along the output axis, or the blocks' sizes; ``None``: one block.
        units: the only indices along the output axis that are written, or a condition on ``unit``; ``None``: all.
        padding: whether an embedding's row of padding stays zero, or is filled like the others.
        init: the initializer's name.
        arguments: the initializer's keyword arguments, as written.
        optional: whether the rule may match nothing; ``"patterns"``: each pattern may, but not all of them.
        companions: what the method needs besides values, as numbers: multipliers of an optimizer's ``lr``,
            ``weight_decay`` and ``eps``, and factors of the forward pass under names of their own.
        unread: the arguments that could not be read, which are not missing.
        kind_given: whether the kind was written: if it was not, an initializer that reads a file fills everything that
            a state_dict holds.
        broken: whether part of it could not be read; such a rule is checked for further problems, and fills nothing.
        comment: what :meth:`Recipe.to_yaml` writes above it; says nothing about what the rule does.
    """

    name: str
    match: tuple[Pattern, ...]
    _: KW_ONLY
    exclude: tuple[Pattern, ...] = ()
    module: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    where: Expression | None = None
    kind: Kind = "parameter"
    axes: tuple[Axis, ...] = ()
    split: int | tuple[Expression, ...] | None = None
    units: tuple[int, ...] | Expression | None = None
    padding: Padding = "zero"
    init: str
    arguments: Mapping[str, Any] = field(default_factory=ReadOnly)
    optional: bool | Literal["patterns"] = False
    companions: Mapping[str, Expression] = field(default_factory=ReadOnly)
    unread: tuple[str, ...] = ()
    kind_given: bool = False
    broken: bool = False
    comment: str = field(default="", compare=False)

    def means(self, name: str) -> bool:
        """Whether the rule's patterns match a name, and none of its excludes does.

        >>> from initframe.recipe.patterns import compile_pattern
        >>> Rule("weights", (compile_pattern("*.weight"),), init="zeros").means("fc.weight")
        True
        """
        matched = any(pattern.regex.match(name) for pattern in self.match)
        return matched and not any(pattern.regex.match(name) for pattern in self.exclude)

    def describe(self) -> str:
        """Name the rule as every message does.

        >>> from initframe.recipe.patterns import compile_pattern
        >>> Rule("weights", (compile_pattern("*.weight"),), init="zeros").describe()
        "rule 'weights' (match '*.weight')"
        """
        return label(self.name, [pattern.text for pattern in self.match])

    def to_dict(self) -> dict[str, Any]:
        """Give the rule as plain data, as a recipe would hold it under the rule's name.

        >>> from initframe.recipe.patterns import compile_pattern
        >>> Rule("biases", (compile_pattern("*.bias"),), init="zeros").to_dict()
        {'match': '*.bias', 'init': 'zeros'}
        """
        written = {
            "match": _one_or_list([pattern.text for pattern in self.match]),
            "exclude": _one_or_list([pattern.text for pattern in self.exclude]),
            "module": _one_or_list(list(self.module)),
            "inside": _one_or_list(list(self.inside)),
            "where": self.where.source if self.where else None,
            "kind": self.kind if self.kind_given or self.kind != "parameter" else None,
            "axes": list(self.axes),
            "split": [size.source for size in self.split] if isinstance(self.split, tuple) else self.split,
            "units": list(self.units) if isinstance(self.units, tuple) else self.units and self.units.source,
            "padding": self.padding if self.padding != "zero" else None,
            "optional": self.optional or None,
            "companions": {name: value.source for name, value in self.companions.items()} or None,
            "init": self.init,
        }
        given = {key: value for key, value in written.items() if value is not None and value != []}
        return {**given, **plain_copy(self.arguments)}


_NO_KEYS = ("name", "arguments", "unread", "kind_given", "broken", "comment")
RULE_KEYS = tuple(f.name for f in fields(Rule) if f.name not in _NO_KEYS)
"""The keys of a rule that are not arguments of its initializer."""


def label(name: str, patterns: Sequence[Any]) -> str:
    """Name a rule in a message; if the name is the pattern, once is enough.

    >>> label("biases", ["*.bias"]), label("*.bias", ["*.bias"])
    ("rule 'biases' (match '*.bias')", "rule '*.bias'")
    """
    if list(patterns) == [name]:
        return f"rule {shown(name)}"
    return f"rule {shown(name)} (match {', '.join(map(shown, patterns))})"


def _one_or_list(texts: list[str]) -> str | list[str]:
    return texts[0] if len(texts) == 1 else texts
