"""Which rules match which slots, and why a rule matches none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from initframe.errors import closest
from initframe.model import Slot, Survey
from initframe.recipe.expressions import ExpressionError, truth
from initframe.recipe.patterns import Pattern, layer_counts, plural
from initframe.recipe.recipe import Rule
from initframe.resolver.facts import Ground
from initframe.resolver.problems import Problems, named


@dataclass(frozen=True)
class Match:
    """A rule that matches a slot.

    Attributes:
        rule: the rule.
        names: by which of the slot's names.
        captures: the facts that the first of them gives.
    """

    rule: Rule
    names: frozenset[str]
    captures: Mapping[str, int]


class Matcher:
    """One rule, ready to be held against slots: by name first, because that is what rules most often fail by."""

    def __init__(self, rule: Rule, names: Iterable[str]) -> None:
        self.rule = rule
        self._counts = {pattern: layer_counts(pattern, names) for pattern in rule.match if pattern.captures}

    def match(self, slot: Slot, ground: Ground) -> Match | None:
        """Hold the rule against one slot.

        Raises:
            ExpressionError: the rule's ``where`` has no value for this slot.
        """
        if self.rule.kind not in (slot.kind, "any") or not self.fits_module(slot):
            return None
        found = {name: facts for name, facts in self.by_name(slot).items() if not self.excludes(name)}
        if not found:
            return None
        captures = next(iter(found.values()))
        if self.rule.where and not slot.lazy and not truth(self.rule.where, ground.facts(slot, captures)):
            return None  # a lazy slot has no facts yet: it matches by name, and is refused with its reason
        return Match(self.rule, frozenset(found), captures)

    def by_name(self, slot: Slot) -> dict[str, dict[str, int]]:
        """The slot's names that the rule's patterns match, with the facts that the captures give."""
        pairs = ((name, self._captures(name)) for name in (slot.name, *slot.aliases))
        found = {name: captures for name, captures in pairs if captures is not None}
        return found if slot.part_of is None or self._asks_for(slot) else {}

    def _asks_for(self, slot: Slot) -> bool:
        """Whether the rule writes out the last segment of a raw name: ``*.original0`` does, ``*`` does not."""
        return any(p.text == slot.name or p.text.endswith(f".{slot.attribute}") for p in self.rule.match)

    def _captures(self, name: str) -> dict[str, int] | None:
        for pattern in self.rule.match:
            captures = pattern.match(name)
            if captures is not None:
                facts = {c.name: c.value for c in captures}
                return facts | {plural(c.name): self._counts[pattern][c.name, c.prefix] for c in captures}
        return None

    def excludes(self, name: str) -> bool:
        """Whether the rule's ``exclude`` takes a name away."""
        return any(pattern.match(name) is not None for pattern in self.rule.exclude)

    def fits_module(self, slot: Slot) -> bool:
        """Whether the rule's ``module`` fits the class of the slot's module, or a base of it."""
        types = {name for owner in (slot.module_types, *slot.alias_types) for name in owner}
        return not self.rule.module or any(fnmatchcase(name, glob) for glob in self.rule.module for name in types)


def match_all(rules: Iterable[Rule], ground: Ground, problems: Problems) -> dict[str, list[Match]]:
    """For every slot the rules that match it, in the recipe's order.

    Args:
        rules: sound rules.
        ground: recipe and model.
        problems: takes what goes wrong, unused rules included.

    Returns:
        Matches by slot name, for slots that have any.
    """
    names = all_names(ground.seen)
    matches: dict[str, list[Match]] = defaultdict(list)
    for rule in rules:
        matcher = Matcher(rule, names)
        for slot in (*ground.seen.slots, *ground.seen.raw):
            try:
                found = matcher.match(slot, ground)
            except ExpressionError as error:
                problems.on(rule, slot, f"where {rule.where.text if rule.where else ''!r}: {error}.")
                continue
            if found:
                matches[slot.name].append(found)
    return dict(matches)


def unused(rules: Iterable[Rule], matches: Mapping[str, list[Match]], ground: Ground, problems: Problems) -> list[str]:
    """Say of every rule that matches nothing, and of every exclude that takes nothing away, why that is.

    Args:
        rules: sound rules; optional ones are passed over.
        matches: from :func:`match_all`.
        ground: recipe and model.
        problems: rules that have failed otherwise are passed over.

    Returns:
        One message per rule.
    """
    used = {found.rule.name for several in matches.values() for found in several}
    return list(_unused(rules, used, ground, problems))


def _unused(rules: Iterable[Rule], used: set[str], ground: Ground, problems: Problems) -> Iterator[str]:
    for rule in rules:
        if rule.optional or problems.has(rule):
            continue
        matcher = Matcher(rule, all_names(ground.seen))
        if rule.name not in used:
            yield _why_unused(matcher, ground.seen)
        elif rule.exclude and not _excludes_any(matcher, ground.seen):
            shown = ", ".join(pattern.text for pattern in rule.exclude)
            hint = _neighbours(rule.exclude[0], ground.seen)
            fix = "Fix the pattern, or set optional: true on the rule, or unused: warn."
            yield f"{rule.describe()}: exclude {shown} takes nothing away. {hint}{fix}"


def _excludes_any(matcher: Matcher, seen: Survey) -> bool:
    return any(matcher.excludes(name) for slot in seen.slots for name in matcher.by_name(slot))


def _why_unused(matcher: Matcher, seen: Survey) -> str:
    """Say which of a rule's conditions left nothing, and what stands nearest."""
    rule = matcher.rule
    said, fix = rule.describe(), "Fix the rule, or set optional: true on it, or unused: warn."
    by_name = [slot for slot in (*seen.slots, *seen.raw) if matcher.by_name(slot)]
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
    left = [slot for slot in of_module if any(not matcher.excludes(name) for name in matcher.by_name(slot))]
    if not left:
        return f"{said}: exclude leaves nothing of {named(of_module)}. {fix}"
    return f"{said}: where {rule.where.text if rule.where else ''!r} is true for none of {named(left)}. {fix}"


def _neighbours(pattern: Pattern, seen: Survey) -> str:
    """The names closest to a pattern without its wildcards, as a sentence with a space after it."""
    plain = pattern.text.translate(str.maketrans("", "", "*?{}[]"))
    hint = closest(plain, all_names(seen)).replace("Closest:", "Closest names:").replace("Options:", "Names:")
    return f"{hint} " if hint else ""


def all_names(seen: Survey) -> list[str]:
    """Every name of every slot."""
    return [name for slot in (*seen.slots, *seen.raw) for name in (slot.name, *slot.aliases)]
