"""Which rules match which slots."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import repeat
from typing import NamedTuple

from initframe.errors import ResolveError, shown
from initframe.initializers.table import restores
from initframe.model.slot import Slot
from initframe.model.survey import Survey
from initframe.recipe.expressions import ExpressionError, truth
from initframe.recipe.patterns import Pattern, layer_counts, plural
from initframe.recipe.recipe import Rule
from initframe.resolver.prepare import Call
from initframe.resolver.problems import Problems
from initframe.resolver.scope import Scope

Captures = Mapping[str, int]
"""The facts that a pattern's ``{…}`` give."""
Declines = dict[str, list[tuple[Slot, str]]]
"""By rule: the slots that it matches and that its initializer declines, each with the reason."""


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
    """One rule over a whole model, matched by name first: that is what most rules fail by.

    Attributes:
        rule: the rule.
        call: of its initializer; ``None`` where it is broken.
        restores: whether it reads a file, and so means what a state_dict holds, as its kind was not written.
        narrowed: whether it has conditions on modules, or excludes.
        idle: its patterns that match no name, each of which may be misspelt.
        hits: by slot name, those of the slot's names that the patterns match, with the facts that captures give.
    """

    def __init__(self, rule: Rule, call: Call | None, slots: Mapping[str, Slot]) -> None:
        self.rule = rule
        self.call = call
        self.restores = not rule.kind_given and restores(rule.init)
        self.narrowed = bool(rule.module or rule.inside or rule.exclude)
        self.idle: list[Pattern] = []
        self.hits: dict[str, dict[str, Captures]] = {}
        self._fitting: dict[tuple[tuple[str, ...], ...], bool] = {}
        for pattern in reversed(rule.match):  # of several that match, the first one gives the captures
            self._add(pattern, slots)

    def _add(self, pattern: Pattern, slots: Mapping[str, Slot]) -> None:
        names = _matching(pattern, slots)
        earned = False
        for name, captures in zip(names, _captured(pattern, names), strict=False):
            slot = slots[name]
            if slot.part_of is None or _asks_for(self.rule, slot):
                self.hits.setdefault(slot.name, {})[name] = captures
                earned = True
        if not earned:
            self.idle.insert(0, pattern)

    def match(self, slot: Slot, scope: Scope) -> Match | None:
        """Check the rule's other conditions on a slot that it hits by name.

        Raises:
            ExpressionError: the rule's ``where`` has no value for this slot.
        """
        rule, hits = self.rule, self.hits[slot.name]
        if (self.restores or rule.kind != slot.kind) and not self.fits_kind(slot):
            return None
        found: Collection[str] = hits
        if self.narrowed and not (found := self.names_left(slot, scope.seen) if self.fits_module(slot) else ()):
            return None
        captures = hits[slot.name if slot.name in found else next(iter(found))]
        if rule.where and not slot.lazy and not truth(rule.where, scope.facts(_read(slot, rule, scope), captures)):
            return None  # a lazy slot has no facts yet: it matches by name, and is refused with its reason
        return Match(rule, frozenset(found), captures, self.call)

    def fits_kind(self, slot: Slot) -> bool:
        """Whether a slot is of the rule's kind; a rule that reads a file also means the buffers of a state_dict."""
        if self.restores:
            return slot.kind == "parameter" or slot.persistent
        return self.rule.kind in (slot.kind, "any")

    def excludes(self, name: str) -> bool:
        """Whether the rule's ``exclude`` takes a name away."""
        return any(pattern.regex.match(name) for pattern in self.rule.exclude)

    def names_left(self, slot: Slot, seen: Survey) -> list[str]:
        """Return those of the slot's names that ``match`` and ``inside`` give and ``exclude`` does not take away.

        A tied tensor is taken away as a whole by a name that ``match`` does not match.
        """
        found = self.names_inside(slot, seen)
        if not self.rule.exclude:
            return found
        others = (name for name in (slot.name, *slot.aliases) if name not in self.hits[slot.name])
        return [] if any(map(self.excludes, others)) else [name for name in found if not self.excludes(name)]

    def idle_excludes(self, slots: Iterable[Slot]) -> list[Pattern]:
        """Return those patterns of the rule's ``exclude`` that take nothing away from the tensors of a model."""
        if not self.rule.exclude:
            return []
        names = [name for slot in slots if slot.name in self.hits for name in (slot.name, *slot.aliases)]
        return [one for one in self.rule.exclude if not any(map(one.regex.match, names))]

    def names_inside(self, slot: Slot, seen: Survey) -> list[str]:
        """Return those of the slot's names hit that are inside of a module of the classes in the rule's ``inside``."""
        names = list(self.hits[slot.name])
        return [name for name in names if self._is_inside(name, seen)] if self.rule.inside else names

    def _is_inside(self, name: str, seen: Survey) -> bool:
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


def _read(slot: Slot, rule: Rule, scope: Scope) -> Slot:
    """Read a slot by the rule's axes; one that they do not fit may be what the rule's ``where`` leaves out."""
    try:
        return scope.read(slot, rule.axes)
    except ResolveError:
        return slot


def _matching(pattern: Pattern, names: Collection[str]) -> list[str]:
    """Select the names that a pattern matches."""
    if pattern.is_literal:
        return [pattern.text] if pattern.text in names else []
    ending, match = pattern.ending, pattern.regex.match  # most names fail by their ends, which takes less time to tell
    return [name for name in names if name.endswith(ending) and match(name)]


def _captured(pattern: Pattern, names: Sequence[str]) -> Iterable[Captures]:
    """Compute the facts that a pattern's captures give for names that it matches."""
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


def match_all(
    matchers: Sequence[Matcher], scope: Scope, problems: Problems, hidden: Collection[str]
) -> dict[str, list[Match]]:
    """Find the rules that match each slot, in the recipe's order.

    Args:
        matchers: of all rules.
        scope: recipe and model; its axes are set to those of the winning rules.
        problems: where conditions without a value are noted.
        hidden: names of slots that are out of sight.

    Returns:
        Matches by slot name, for slots that have any.
    """
    slots = scope.seen.by_name
    of_axes = [matcher for matcher in matchers if matcher.rule.axes]
    for matcher in of_axes:  # a condition may name the fans of a bias, which are its weight's
        axes = matcher.rule.axes
        scope.axes.update({name: axes for name in matcher.hits if len(axes) == slots[name].ndim})
    matches: dict[str, list[Match]] = defaultdict(list)
    for matcher in matchers:
        rule = matcher.rule
        for name in () if rule.broken else [name for name in matcher.hits if name not in hidden]:
            try:
                found = matcher.match(slots[name], scope)
            except ExpressionError as error:
                where = f"where {shown(rule.where and rule.where.text)}"
                problems.on(rule, slots[name], (problem.on(where) for problem in error.problems))
            else:
                if found:
                    matches[name].append(found)
    if of_axes:
        scope.axes.clear()
        scope.axes.update({name: won for name, several in matches.items() if (won := several[-1].rule.axes)})
    return dict(matches)
