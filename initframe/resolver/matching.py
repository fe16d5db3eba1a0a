"""Which rules match which slots, and why a rule matches none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import repeat
from typing import NamedTuple

from initframe.errors import closest
from initframe.model import Slot, Survey
from initframe.recipe.expressions import ExpressionError, truth
from initframe.recipe.patterns import Pattern, layer_counts, plural
from initframe.recipe.recipe import Rule
from initframe.resolver.calls import Call
from initframe.resolver.facts import Ground
from initframe.resolver.problems import Problems, named

Declines = dict[str, list[tuple[Slot, str]]]
"""By rule: the slots that its initializer declines, each with the reason."""


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

    def __init__(self, rule: Rule, call: Call | None, named: Sequence[tuple[str, Slot]]) -> None:
        self.rule = rule
        self.call = call
        self.hits: dict[str, dict[str, Captures]] = {}
        self._fitting: dict[tuple[tuple[str, ...], ...], bool] = {}
        for pattern in reversed(rule.match):  # where several match, the first one speaks
            self._add(pattern, named)

    def _add(self, pattern: Pattern, named: Sequence[tuple[str, Slot]]) -> None:
        fits = pattern.regex.match
        found = [(name, slot) for name, slot in named if fits(name)]
        for (name, slot), captures in zip(found, _captured(pattern, [name for name, _ in found]), strict=False):
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
        for name in matcher.hits:
            try:
                found = matcher.match(slots[name], ground)
            except ExpressionError as error:
                problems.on(rule, slots[name], f"where {rule.where.text if rule.where else ''!r}: {error}")
                continue
            if found:
                matches[name].append(found)
    return dict(matches)


def unused(
    matchers: Iterable[Matcher],
    matches: Mapping[str, list[Match]],
    seen: Survey,
    problems: Problems,
    declines: Declines | None = None,
) -> list[str]:
    """Say of every rule that matches nothing, and of every exclude that takes nothing away, why that is.

    Args:
        matchers: of all rules; optional ones are passed over.
        matches: from :func:`match_all`.
        seen: the model.
        problems: rules that have failed otherwise are passed over.
        declines: what rules have matched and declined.

    Returns:
        One message per rule.
    """
    used = {found.rule.name for several in matches.values() for found in several}
    told = (matcher for matcher in matchers if not matcher.rule.optional and not problems.has(matcher.rule))
    return list(_unused(told, used, seen, declines or {}))


def _unused(matchers: Iterable[Matcher], used: set[str], seen: Survey, declines: Declines) -> Iterator[str]:
    for matcher in matchers:
        rule = matcher.rule
        if rule.name not in used and rule.name in declines:
            (slot, reason), *_ = declines[rule.name]
            yield f"{rule.describe()}: {rule.init} declines all that it matches, {slot.name} for one: {reason}"
        elif rule.name not in used:
            yield _why_unused(matcher, seen)
        elif rule.exclude and not any(matcher.excludes(name) for names in matcher.hits.values() for name in names):
            shown = ", ".join(pattern.text for pattern in rule.exclude)
            hint = _neighbours(rule.exclude[0], seen)
            fix = "Fix the pattern, or set optional: true on the rule, or unused: warn."
            yield f"{rule.describe()}: exclude {shown} takes nothing away. {hint}{fix}"


def _why_unused(matcher: Matcher, seen: Survey) -> str:
    """Say which of a rule's conditions left nothing, and what stands nearest."""
    rule = matcher.rule
    said, fix = rule.describe(), "Fix the rule, or set optional: true on it, or unused: warn."
    by_name = [slot for slot in (*seen.slots, *seen.raw) if slot.name in matcher.hits]
    if not by_name:
        hint = _neighbours(rule.match[0], seen)
        return f"{said} matches no tensor of {seen.title}. {hint}Fix the pattern, or set unused: warn."
    of_kind = [slot for slot in by_name if rule.kind in (slot.kind, "any")]
    if not of_kind:
        other = "buffer" if rule.kind == "parameter" else "parameter"
        return f"{said} matches no {rule.kind} of {seen.title}, only the {other} {named(by_name)}. Set kind: any. {fix}"
    of_module = [slot for slot in of_kind if matcher.fits_module(slot)]
    if not of_module:
        types = ", ".join(sorted({slot.module_types[0] for slot in of_kind if slot.module_types})) or "not known"
        return f"{said}: module {', '.join(rule.module)} leaves nothing; the tensors' modules are {types}. {fix}"
    inside = [slot for slot in of_module if matcher.lying(slot, seen)]
    if not inside:
        types = ", ".join(dict.fromkeys(t[0] for s in of_module[:2] for t in seen.around(s.name) if t)) or "not known"
        return f"{said}: inside {', '.join(rule.inside)} leaves nothing; {named(of_module)} lie inside {types}. {fix}"
    left = [slot for slot in inside if any(not matcher.excludes(name) for name in matcher.lying(slot, seen))]
    if not left:
        return f"{said}: exclude leaves nothing of {named(of_module)}. {fix}"
    return f"{said}: where {rule.where.text if rule.where else ''!r} is true for none of {named(left)}. {fix}"


def _neighbours(pattern: Pattern, seen: Survey) -> str:
    """The names closest to a pattern without its wildcards, as a sentence with a space after it."""
    plain = pattern.text.translate(str.maketrans("", "", "*?{}[]"))
    hint = (
        closest(plain, (name for name, _ in named_slots(seen)))
        .replace("Closest:", "Closest names:")
        .replace("Options:", "Names:")
    )
    return f"{hint} " if hint else ""


def named_slots(seen: Survey) -> list[tuple[str, Slot]]:
    """Every name of every slot, raw ones last."""
    return [(name, slot) for slot in (*seen.slots, *seen.raw) for name in (slot.name, *slot.aliases)]
