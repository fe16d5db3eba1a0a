"""Which rule wins a slot, and what the slot gets."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace

from initframe.errors import InitframeError, Problem, ResolveError
from initframe.fills import Fill
from initframe.initializers import Declined
from initframe.initializers.table import restores
from initframe.model.axes import is_unexplained
from initframe.model.slot import Slot
from initframe.plan import Assignment
from initframe.plan.assignment import OpenAssignment
from initframe.recipe.patterns import compile_pattern
from initframe.recipe.recipe import Rule
from initframe.resolver.build import READ_AS_CONVOLUTION, Built, build, companions, reads_as_convolution
from initframe.resolver.copies import follow
from initframe.resolver.match import Declines, Match
from initframe.resolver.problems import Problems
from initframe.resolver.scope import Scope
from initframe.resolver.validate import overlapping, unpartnered

DEFAULT = Rule("unmatched: default", (compile_pattern("*"),), init="torch_default", optional=True)
"""The rule below all others of a recipe with ``unmatched: default``."""


def assign(
    matches: Mapping[str, list[Match]], scope: Scope, problems: Problems
) -> tuple[tuple[Assignment, ...], dict[str, str], Declines]:
    """Make one assignment per slot that a rule wins.

    Args:
        matches: by slot name, the matches in the recipe's order; those whose initializers decline the slot are taken
            out.
        scope: recipe and model.
        problems: takes what is wrong.

    Returns:
        The assignments, why slots are skipped that cannot hold a fill, and by rule, what its initializer declines.
    """
    found: list[Assignment] = []
    skipped: dict[str, str] = {}
    declines: Declines = {}
    kept = {name for name, several in matches.items() if several[-1].rule.init == "keep"}
    for slot in scope.seen.every:
        if not (several := matches.get(slot.name)):
            continue
        declined: dict[str, str] = {}
        try:
            settled = _settle(_unblocked(slot, kept) if slot.shares else slot, several, scope, declined)
        except InitframeError as error:
            problems.on(several[-1].rule, slot, error.problems)
            continue
        for rule, reason in declined.items():
            declines.setdefault(rule, []).append((slot, reason))
        if isinstance(settled, str):
            skipped[slot.name] = settled
        elif settled:
            found.append(settled)
    assignments = follow(found, scope.seen.by_name, problems)
    problems.model += overlapping(assignments) if scope.seen.raw else ()
    problems.model += unpartnered(assignments)
    return assignments, skipped, declines


def _settle(slot: Slot, several: list[Match], scope: Scope, declined: dict[str, str]) -> Assignment | str | None:
    """Let the last match that does not decline make the assignment, or say why the slot is skipped.

    Each rule builds its fill for the slot at most once.
    """
    while several:
        *lost, winner = _keeps_first(several) if slot.aliases else several
        if winner.call is None:
            return None
        blocked = slot.blocked is not None and winner.rule.init != "keep"
        if blocked and not slot.resettable and (slot.lazy or not restores(winner.rule.init)):
            return _refused(slot)
        if 0 in slot.shape and not slot.blocked:
            return "it has no elements."
        try:
            built = build(winner, slot, scope)
        except Declined as reason:
            declined[winner.rule.name] = str(reason)
            several.remove(winner)
            continue
        except InitframeError:
            if blocked and not slot.storable:
                return _refused(slot)
            raise
        if blocked and not built.fill.suits(slot):
            return _refused(slot)
        if slot.aliases:
            _check_ties(winner, lost, built.fill, slot, scope)
        shadowed = tuple([match.rule.name for match in lost if match.rule is not DEFAULT]) if lost else ()
        asked = companions(winner, built.slot, scope) if winner.call.asks else {}
        noted = _noted(winner, built, scope) if len(slot.shape) > 2 and is_unexplained(slot) else built.slot
        fill, arguments, factor = built.fill, built.arguments, built.factor
        made = OpenAssignment(noted, winner.rule, fill, arguments, shadowed, declined, asked, None, "", factor)
        made.__class__ = Assignment
        return made
    return None


def _unblocked(slot: Slot, kept: Set[str]) -> Slot:
    """Free a slot that shares part of its memory, if a rule keeps all others that do."""
    if not kept >= set(slot.shares):
        return slot
    note = f"shares part of its memory with {', '.join(slot.shares)}, kept: what they share is filled"
    return replace(slot, blocked=None, remedy="", notes=(*slot.notes, note))


def _keeps_first(several: list[Match]) -> list[Match]:
    """Move a ``keep`` of one name of a tied tensor before the rules that know the tensor by other names only."""
    *lost, last = several
    others = [match for match in lost if match.rule.init != "keep" and match.rule is not DEFAULT]
    if last.rule.init == "keep" and not all(match.names & last.names for match in others):
        return [last, *_keeps_first(lost)]
    return several


def _noted(winner: Match, built: Built, scope: Scope) -> Slot:
    """Return the slot as its rule reads it, with a note if nobody says what its dimensions mean."""
    if reads_as_convolution(winner, built.slot, scope, built.fill):
        return replace(built.slot, notes=(*built.slot.notes, READ_AS_CONVOLUTION))
    return built.slot


def _refused(slot: Slot) -> str:
    """Say why a slot that cannot be filled is skipped, if it is a buffer: wide rules meet those.

    Raises:
        ResolveError: it is a parameter.
    """
    problem = replace(slot.problem or Problem("", "it cannot be filled."), subject="")
    if slot.kind == "buffer":
        return str(problem)
    raise ResolveError(problem)


def _check_ties(winner: Match, lost: list[Match], fill: Fill, slot: Slot, scope: Scope) -> None:
    """Refuse a tied tensor that two rules know by different names and would fill differently: nobody intends that."""
    for other in lost:
        if other.names & winner.names or other.rule is DEFAULT or other.call is None or other.rule.init == "keep":
            continue
        try:
            same = build(other, slot, scope).fill == fill
        except Declined:
            continue
        except InitframeError:
            same = False
        if not same:
            mine, theirs = (", ".join(sorted(match.names)) for match in (winner, other))
            fact = (
                f"it is one tied tensor, which {winner.rule.describe()} names {mine} and {other.rule.describe()} "
                f"names {theirs}, with different fills."
            )
            raise ResolveError(Problem("", fact, fix="Name it in one of the rules only; exclude it from the other."))
