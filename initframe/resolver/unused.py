"""Why a rule matches nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from initframe.errors import closest
from initframe.model import Slot, Survey
from initframe.recipe.patterns import Pattern
from initframe.resolver.matching import Match, Matcher, named_slots
from initframe.resolver.problems import Problems, named

Declines = dict[str, list[tuple[Slot, str]]]
"""By rule: the slots that its initializer declines, each with the reason."""


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
    hint = closest(plain, named_slots(seen)).replace("Closest:", "Closest names:").replace("Options:", "Names:")
    return f"{hint} " if hint else ""
