"""Which rules match which slots."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import repeat
from typing import NamedTuple

from initframe.model.slot import Slot
from initframe.model.survey import Survey
from initframe.recipe.expressions import ExpressionError, Unread, truth
from initframe.recipe.patterns import Pattern, layer_counts, plural
from initframe.recipe.recipe import Rule
from initframe.resolver.arguments import Call
from initframe.resolver.problems import Problems
from initframe.resolver.scope import Ground

Captures = Mapping[str, int]
"""The facts that a pattern's ``{…}`` give."""


class Match(NamedTuple):
    """A rule that matches a slot.

    Attributes:
        rule: the rule.
        names: by which of the slot's names.
        captures: the facts that the first of them gives.
        call: of the rule's initializer; ``None`` where the rule is broken.
    """

    rule: Rule
    names: frozenset[str]
    captures: Captures
    call: Call | None


class Matcher:
    """One rule over a whole model: by name first, because that is what rules most often fail by.

    Attributes:
        rule: the rule.
        call: of its initializer; ``None`` where it is broken.
        hits: by slot name, those of the slot's names that the patterns match, with the facts that captures give.
    """

    def __init__(self, rule: Rule, call: Call | None, slots: Mapping[str, Slot]) -> None:
        self.rule = rule
        self.call = call
        self.hits: dict[str, dict[str, Captures]] = {}
        self._fitting: dict[tuple[tuple[str, ...], ...], bool] = {}
        for pattern in reversed(rule.match):  # where several match, the first one speaks
            self._add(pattern, slots)

    def _add(self, pattern: Pattern, slots: Mapping[str, Slot]) -> None:
        names = _matching(pattern, slots)
        for name, captures in zip(names, _captured(pattern, names), strict=False):
            slot = slots[name]
            if slot.part_of is None or _asks_for(self.rule, slot):
                self.hits.setdefault(slot.name, {})[name] = captures

    def match(self, slot: Slot, ground: Ground) -> Match | None:
        """Hold the rule's other conditions against a slot that it hits by name.

        Raises:
            ExpressionError: the rule's ``where`` has no value for this slot.
        """
        rule = self.rule
        if rule.kind not in (slot.kind, "any") or not self.fits_module(slot):
            return None
        found = self.lying(slot, ground.seen)
        if rule.exclude:
            found = [name for name in found if not self.excludes(name)]
        if not found:
            return None
        captures = self.hits[slot.name][slot.name if slot.name in found else found[0]]
        if rule.where and not slot.lazy and not truth(rule.where, ground.facts(slot, captures)):
            return None  # a lazy slot has no facts yet: it matches by name, and is refused with its reason
        return Match(rule, frozenset(found), captures, self.call)

    def excludes(self, name: str) -> bool:
        """Whether the rule's ``exclude`` takes a name away."""
        return any(pattern.regex.match(name) for pattern in self.rule.exclude)

    def lying(self, slot: Slot, seen: Survey) -> list[str]:
        """The slot's names, of those hit, that lie inside of a module of the classes that the rule asks for."""
        names = list(self.hits[slot.name])
        return [name for name in names if self._lies_inside(name, seen)] if self.rule.inside else names

    def _lies_inside(self, name: str, seen: Survey) -> bool:
        types = {name for module in seen.around(name) for name in module}
        return any(fnmatchcase(name, glob) for glob in self.rule.inside for name in types)

    def fits_module(self, slot: Slot) -> bool:
        """Whether the rule's ``module`` fits the class of the slot's module, or a base of it."""
        if not self.rule.module:
            return True
        owners = (slot.module_types, *slot.alias_types)
        if owners not in self._fitting:
            types = {name for owner in owners for name in owner}
            self._fitting[owners] = any(fnmatchcase(name, glob) for glob in self.rule.module for name in types)
        return self._fitting[owners]


def _matching(pattern: Pattern, names: Collection[str]) -> list[str]:
    """The names that a pattern matches."""
    if pattern.is_literal:
        return [pattern.text] if pattern.text in names else []
    return list(filter(pattern.regex.match, names))


def _captured(pattern: Pattern, names: Sequence[str]) -> Iterable[Captures]:
    """The facts that a pattern's captures give for names that it matches."""
    if not pattern.captures:
        return repeat({})
    found = [pattern.match(name) or () for name in names]
    counts = layer_counts(found)
    return (
        {c.name: c.value for c in captures} | {plural(c.name): counts[c.name, c.prefix] for c in captures}
        for captures in found
    )


def _asks_for(rule: Rule, slot: Slot) -> bool:
    """Whether a rule writes out the last segment of a raw name: ``*.original0`` does, ``*`` does not."""
    return any(p.text == slot.name or p.text.endswith(f".{slot.attribute}") for p in rule.match)


def match_all(matchers: Iterable[Matcher], ground: Ground, problems: Problems) -> dict[str, list[Match]]:
    """For every slot the rules that match it, in the recipe's order.

    Args:
        matchers: of all rules.
        ground: recipe and model.
        problems: takes conditions that have no value.

    Returns:
        Matches by slot name, for slots that have any.
    """
    slots = {slot.name: slot for slot in (*ground.seen.slots, *ground.seen.raw)}
    matches: dict[str, list[Match]] = defaultdict(list)
    for matcher in matchers:
        rule = matcher.rule
        for name in () if rule.broken else matcher.hits:
            try:
                found = matcher.match(slots[name], ground)
            except ExpressionError as error:
                problems.on(rule, slots[name], f"where {rule.where.text if rule.where else ''!r}: {error}")
            except Unread:
                problems.on(rule, slots[name], "")
            else:
                if found:
                    matches[name].append(found)
    return dict(matches)


def named_slots(seen: Survey) -> dict[str, Slot]:
    """Every slot under each of its names, raw ones last."""
    return {name: slot for slot in (*seen.slots, *seen.raw) for name in (slot.name, *slot.aliases)}
