"""Why a rule matches nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import takewhile

from initframe.model.slot import Slot
from initframe.model.survey import Survey
from initframe.recipe.patterns import Pattern
from initframe.recipe.recipe import Rule
from initframe.resolver.match import Match, Matcher, named_slots
from initframe.resolver.problems import Problems, named
from initframe.resolver.scope import Ground

SHOWN, FEW = 3, 12
"""How many names a message offers; how many it lists where none is close."""
_WILD, _DIGITS = re.compile(r"[*?\[\]{}!]"), re.compile(r"\d+")

Declines = dict[str, list[tuple[Slot, str]]]
"""By rule: the slots that its initializer declines, each with the reason."""


def unused(
    matchers: Iterable[Matcher],
    matches: Mapping[str, list[Match]],
    ground: Ground,
    problems: Problems,
    declines: Declines | None = None,
) -> list[str]:
    """Say of every rule that matches nothing, and of every exclude that takes nothing away, why that is.

    Args:
        matchers: of all rules; optional ones are passed over.
        matches: from :func:`match_all`.
        ground: recipe and model.
        problems: rules that have failed otherwise are passed over.
        declines: what rules have matched and declined.

    Returns:
        One message per rule.
    """
    used = {found.rule.name for several in matches.values() for found in several}
    told = (matcher for matcher in matchers if not matcher.rule.optional and not problems.has(matcher.rule))
    return list(_unused(told, used, ground, declines or {}))


def _unused(matchers: Iterable[Matcher], used: set[str], ground: Ground, declines: Declines) -> Iterator[str]:
    seen, warn = ground.seen, "" if ground.recipe.unused == "warn" else ", or unused: warn"
    for matcher in matchers:
        rule = matcher.rule
        if rule.name not in used and rule.name in declines:
            (slot, reason), *_ = declines[rule.name]
            yield f"{rule.describe()}: {rule.init} declines all that it matches, {slot.name} for one: {reason}"
        elif not matcher.hits:
            fact = f"{rule.describe()} matches no tensor of {seen.title}."
            fix = f"{_named_only(rule)}Fix the pattern{warn.replace('or', 'or set')}."
            yield " ".join(filter(None, [fact, _neighbours(rule.match, seen), fix]))
        elif rule.broken:
            continue  # what could be read of it says too little
        elif rule.name not in used:
            yield f"{_why_unused(matcher, seen)} Fix the rule, or set optional: true on it{warn}."
        elif rule.exclude and not any(matcher.excludes(name) for names in matcher.hits.values() for name in names):
            fact = f"{rule.describe()}: exclude {', '.join(p.text for p in rule.exclude)} takes nothing away."
            fix = f"Fix the pattern, or set optional: true on the rule{warn}."
            yield " ".join(filter(None, [fact, _neighbours(rule.exclude, seen), fix]))


def _named_only(rule: Rule) -> str:
    """What may be meant by a pattern of one plain word: a name, and the pattern was forgotten."""
    is_word = [pattern.text for pattern in rule.match] == [rule.name] and rule.name.isidentifier()
    return f"If {rule.name!r} is to be the rule's name, add match: to it. " if is_word else ""


def _why_unused(matcher: Matcher, seen: Survey) -> str:
    """Say which of a rule's conditions left nothing of the tensors that it matches by name."""
    rule = matcher.rule
    said = rule.describe()
    by_name = [slot for slot in (*seen.slots, *seen.raw) if slot.name in matcher.hits]
    of_kind = [slot for slot in by_name if rule.kind in (slot.kind, "any")]
    if not of_kind:
        other = "buffer" if rule.kind == "parameter" else "parameter"
        return f"{said} matches no {rule.kind} of {seen.title}, only the {other} {named(by_name)}. Set kind: any."
    of_module = [slot for slot in of_kind if matcher.fits_module(slot)]
    if not of_module:
        types = ", ".join(sorted({slot.module_types[0] for slot in of_kind if slot.module_types})) or "not known"
        return f"{said}: module {', '.join(rule.module)} leaves nothing; the tensors' modules are {types}."
    inside = [slot for slot in of_module if matcher.lying(slot, seen)]
    if not inside:
        types = ", ".join(dict.fromkeys(t[0] for s in of_module[:2] for t in seen.around(s.name) if t)) or "not known"
        return f"{said}: inside {', '.join(rule.inside)} leaves nothing; {named(of_module)} lie inside {types}."
    left = [slot for slot in inside if any(not matcher.excludes(name) for name in matcher.lying(slot, seen))]
    if not left:
        return f"{said}: exclude leaves nothing of {named(of_module)}."
    return f"{said}: where {rule.where.text if rule.where else ''!r} is true for none of {named(left)}."


def _neighbours(patterns: Sequence[Pattern], seen: Survey) -> str:
    """Names like those that some patterns would match, as a sentence; empty where there are none."""
    names = list(named_slots(seen))
    found = list(dict.fromkeys(name for pattern in patterns for name in _alike(pattern.text, names)))
    if found:
        return f"Closest names: {', '.join(found[:SHOWN])}."
    return f"Names: {', '.join(names)}." if 0 < len(names) <= FEW else ""


def _alike(text: str, names: Sequence[str]) -> list[str]:
    """The names most like a pattern: by their ends, where that is what the model has not, else whole."""
    segments = text.split(".")
    literal = list(takewhile(lambda segment: not _WILD.search(segment), reversed(segments)))
    if 0 < len(literal) < len(segments):
        ends = {name: ".".join(name.split(".")[-len(literal) :]) for name in names}
        end = ".".join(reversed(literal))
        if near := [] if end in ends.values() else get_close_matches(end, set(ends.values()), n=1, cutoff=0.6):
            return [name for name in names if ends[name] == near[0]][:SHOWN]
    near = get_close_matches(_WILD.sub("", text), names, n=SHOWN, cutoff=0.5)
    if not _WILD.search(text):
        return near
    of_a_kind = {_DIGITS.sub("#", name) for name in near[:1]}
    return [name for name in names if name in near or _DIGITS.sub("#", name) in of_a_kind][:SHOWN]
