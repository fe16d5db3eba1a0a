"""Why a rule matches nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile

from initframe.errors import Problem, nearest, shown
from initframe.limits import COMPARED_NAMES
from initframe.model.survey import Survey
from initframe.recipe.patterns import Pattern
from initframe.recipe.recipe import Rule
from initframe.resolver.match import Declines, Match, Matcher
from initframe.resolver.problems import Problems, named
from initframe.resolver.scope import Scope

SHOWN, FEW = 3, 12
"""How many close names are offered; how many names are listed if none is close."""
_REGEX = re.compile(r"^\.\*|\.\+|\\|^\^|\$$|\(|\|")
"""What regular expressions have, and names and globs seldom do."""
_WILD, _DIGITS = re.compile(r"[*?\[\]{}!]"), re.compile(r"\d+")


def unused(
    matchers: Iterable[Matcher],
    matches: Mapping[str, list[Match]],
    scope: Scope,
    problems: Problems,
    declines: Declines,
    hidden: Collection[str],
) -> Iterator[Problem]:
    """Say of every rule that matches nothing, and of every exclude that takes nothing away, why that is.

    Args:
        matchers: of all rules; optional ones are passed over.
        matches: from :func:`match_all`.
        scope: recipe and model.
        problems: rules that have failed otherwise are passed over.
        declines: what rules have matched and declined.
        hidden: names of slots that are out of sight; a rule that may be for them is passed over.

    Yields:
        One problem per rule, or per pattern of it.
    """
    seen, used = scope.seen, {found.rule.name for several in matches.values() for found in several}
    compared = 0  # the closest names of more rules than COMPARED_NAMES are not read
    elsewhere = "" if scope.recipe.unused == "warn" else "unused: warn"
    for matcher in matchers:
        rule, is_used = matcher.rule, matcher.rule.name in used
        if rule.optional is True or (is_used and not matcher.idle and not rule.exclude):
            continue
        said, may_be_hidden = rule.describe(), not is_used and any(name in hidden for name in matcher.hits)
        if said in problems.failed or may_be_hidden:
            continue
        if not is_used and rule.name in declines:
            (slot, reason), *_ = declines[rule.name]
            yield Problem(said, f"{rule.init} declines every tensor that it matches; {slot.name}: {reason}")
        elif not matcher.hits:
            compared += 1
            options = _neighbours(rule.match, seen) if compared <= COMPARED_NAMES else ""
            yield _without_names(rule, seen, options, _fix("Fix the pattern", elsewhere))
        elif rule.broken:
            continue  # what could be read of it says too little
        elif not is_used:
            fact, options = _why_unused(matcher, seen)
            yield Problem(said, fact, options, _fix("Fix the rule", "optional: true on the rule", elsewhere))
        elif not rule.optional:
            yield from _idle(matcher, seen, _fix("Fix or remove it", "optional: patterns on the rule", elsewhere))


def _without_names(rule: Rule, seen: Survey, options: str, fix: str) -> Problem:
    """Say that a rule's patterns match no name."""
    hints = "".join(dict.fromkeys(_hint(pattern.text, seen) for pattern in rule.match)) + _unregistered(seen)
    if _is_word(rule):
        hints += f"If {rule.name!r} is meant as the rule's name, add match: to it. "
    if seen.every:
        return Problem(rule.describe(), f"it matches no tensor of {seen.title}.", options, hints + fix)
    others = f" Its entry {seen.extra[0]!r} is no tensor." if seen.extra else ""
    fact = f"it matches no tensor of {seen.title}, which has none at all.{others}"
    return Problem(rule.describe(), fact, "", f"{_unregistered(seen)}Give a model that has tensors.")


def _idle(matcher: Matcher, seen: Survey, fix: str) -> Iterator[Problem]:
    """Name the patterns of a rule that matches something, which alone do nothing: each must earn its place."""
    said = matcher.rule.describe()
    for pattern in matcher.idle:
        fact = f"its pattern {shown(pattern.text)} matches no tensor of {seen.title}."
        yield Problem(said, fact, _neighbours([pattern], seen), _hint(pattern.text, seen) + fix)
    for pattern in matcher.idle_excludes(seen.every):
        fact = f"exclude {pattern.text} takes nothing away."
        yield Problem(said, fact, _neighbours([pattern], seen), _hint(pattern.text, seen) + fix)


def _hint(text: str, seen: Survey) -> str:
    """Say what a pattern that matches nothing was meant as, if that can be told; a sentence with a space after it."""
    if text in seen.by_name:
        return f"In a pattern, [ begins a set of characters; write {re.sub(chr(92) + '[', '[[]', text)}. "
    if any(name.startswith(f"{text}.") for name in seen.by_name):
        return f"For all tensors of the module {text}, write {shown(f'{text}.*')}. "
    if _REGEX.search(text):
        return "Patterns are globs, not regular expressions: * matches anything, ? one character, . a dot. "
    return ""


def _unregistered(seen: Survey) -> str:
    """Say that modules stand where torch does not look; a sentence with a space after it."""
    if not seen.unregistered:
        return ""
    return f"Its modules in {', '.join(seen.unregistered)} are not registered: use nn.ModuleList or nn.ModuleDict. "


def without_growth(matchers: Iterable[Matcher], matches: Mapping[str, list[Match]], seen: Survey) -> Iterator[Problem]:
    """Say of optional rules that compare with the recipe's base, and match nothing, that nothing grows.

    Args:
        matchers: of all rules.
        matches: from :func:`match_all`.
        seen: the model's survey.

    Yields:
        One note per rule.
    """
    for matcher in matchers:
        rule = matcher.rule
        if not rule.optional or rule.where is None or not any(name.startswith("base_") for name in rule.where.names):
            continue
        is_used = any(found.rule is rule for several in matches.values() for found in several)
        if matcher.hits and not is_used:
            fact, options = _why_unused(matcher, seen)
            yield Problem(rule.describe(), fact, options, "If a tensor is meant, give it a rule by its name.")


def _fix(change: str, *settings: str) -> str:
    """Say what to change, or what to set instead."""
    given = [setting for setting in settings if setting]
    return f"{change}, or set {' or '.join(given)}." if given else f"{change}."


def _is_word(rule: Rule) -> bool:
    """Whether a rule's pattern is one plain word: a name, and the pattern may have been forgotten."""
    return [pattern.text for pattern in rule.match] == [rule.name] and rule.name.isidentifier()


def _why_unused(matcher: Matcher, seen: Survey) -> tuple[str, str]:
    """Say which condition of a rule leaves nothing of the tensors that it matches by name, and what there is."""
    rule = matcher.rule
    by_name = [slot for slot in seen.every if slot.name in matcher.hits]
    of_kind = [slot for slot in by_name if matcher.fits_kind(slot)]
    if not of_kind:
        kind, other = ("buffer", "parameter") if rule.kind == "buffer" else ("parameter", "buffer")
        return (
            f"it matches no {kind} of {seen.title}, only the {other} {named(by_name)}.",
            "With kind: any, it would match.",
        )
    of_module = [slot for slot in of_kind if matcher.fits_module(slot)]
    if not of_module:
        types = ", ".join(sorted({slot.module_types[0] for slot in of_kind if slot.module_types})) or "not known"
        return f"module {', '.join(rule.module)} leaves nothing.", f"The tensors' modules are {types}."
    inside = [slot for slot in of_module if matcher.names_inside(slot, seen)]
    if not inside:
        types = ", ".join(dict.fromkeys(t[0] for s in of_module[:2] for t in seen.around(s.name) if t)) or "not known"
        return f"inside {', '.join(rule.inside)} leaves nothing.", f"{named(of_module)} are inside {types}."
    left = [slot for slot in inside if matcher.names_left(slot, seen)]
    if not left:
        return f"exclude leaves nothing of {named(inside)}.", ""
    return f"where {shown(rule.where and rule.where.text)} is false for {named(left)}.", ""


def _neighbours(patterns: Sequence[Pattern], seen: Survey) -> str:
    """Name the tensors whose names are most like some patterns; all, if none is close and they are few."""
    names = list(seen.by_name)
    found = list(dict.fromkeys(name for pattern in patterns for name in _alike(pattern.text, names)))
    if found:
        return f"Closest names: {', '.join(found[:SHOWN])}."
    return f"Names: {', '.join(names)}." if 0 < len(names) <= FEW else ""


def _alike(text: str, names: Sequence[str]) -> list[str]:
    """Find the names most like a pattern: by their ends if the model has no name of that end, else as a whole."""
    segments = text.split(".")
    literal = list(takewhile(lambda segment: not _WILD.search(segment), reversed(segments)))
    if 0 < len(literal) < len(segments):
        ends = {name: ".".join(name.split(".")[-len(literal) :]) for name in names}
        end = ".".join(reversed(literal))
        if near := [] if end in ends.values() else nearest(end, set(ends.values()), 1, 0.6):
            return [name for name in names if ends[name] == near[0]][:SHOWN]
    near = nearest(_WILD.sub("", text), names, SHOWN)
    if not _WILD.search(text):
        return near
    of_a_kind = {_DIGITS.sub("#", name) for name in near[:1]}
    return [name for name in names if name in near or _DIGITS.sub("#", name) in of_a_kind][:SHOWN]
