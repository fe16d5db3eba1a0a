"""resolve(recipe, model) → plan."""

from __future__ import annotations

from collections.abc import Mapping, Set
from os import PathLike
from typing import Any

from torch import Tensor, nn

from initframe.errors import InitframeError, ResolveError
from initframe.fills import Constant, Fill, Keep
from initframe.initializers import Declined
from initframe.initializers.arguments import ArgumentError
from initframe.model.slot import Slot
from initframe.model.survey import LatestSurvey, Survey, collector_paused, survey
from initframe.plan import Assignment, Plan
from initframe.recipe.expressions import ExpressionError, Unread
from initframe.recipe.patterns import compile_pattern
from initframe.recipe.recipe import Recipe, Rule, parse_recipe
from initframe.resolver.arguments import Call, prepare
from initframe.resolver.asking import asked
from initframe.resolver.build import fit
from initframe.resolver.diagnose import Declines, unused
from initframe.resolver.match import Match, Matcher, match_all, named_slots
from initframe.resolver.partners import strangers
from initframe.resolver.problems import Problems
from initframe.resolver.scope import Ground

Written = Recipe | Mapping[str, Any] | str | PathLike[str]
Model = nn.Module | Mapping[str, Tensor]

_DEFAULT = Rule("unmatched: default", (compile_pattern("*"),), init="torch_default", optional=True)


def resolve(recipe: Written, model: Model) -> Plan:
    """Lay a recipe over a model: which tensor will hold what, before anything happens.

    Args:
        recipe: a Recipe, a preset's name, a path to a YAML file, or a mapping.
        model: any module, wrapped or not, on any device; or a state_dict, then without module facts.

    Returns:
        The plan. The model is left as it is.

    Raises:
        RecipeError: the recipe is wrong by itself.
        ResolveError: recipe and model do not fit together. Either names every problem there is.

    >>> plan = resolve({"rules": {"*.weight": "xavier_uniform", "*.bias": "zeros"}}, nn.Linear(3, 3))
    >>> [(a.slot.name, str(a.fill)) for a in plan.assignments]
    [('weight', 'uniform(±1)'), ('bias', 'constant(0)')]
    """
    return resolve_surveyed(recipe, survey(model), model)


def resolve_surveyed(recipe: Written, seen: Survey, model: Model) -> Plan:
    """Lay a recipe over a model that was surveyed already.

    Args:
        recipe: as for :func:`resolve`.
        seen: the model's survey.
        model: the model itself, which the plan will name.

    Returns:
        The plan.

    Raises:
        RecipeError: the recipe is wrong by itself.
        ResolveError: recipe and model do not fit together.

    >>> model = nn.Linear(3, 3)
    >>> resolve_surveyed({"rules": {"bias": "zeros"}}, survey(model), model).untouched
    ('weight',)
    """
    with collector_paused():
        return _resolve(*parse_recipe(recipe), seen, model)


def _resolve(recipe: Recipe, broken: tuple[str, ...], seen: Survey, model: Model) -> Plan:
    """Resolve what could be read of a recipe; what could not is the first of its problems."""
    ground = Ground(recipe, seen)
    problems = Problems(recipe=list(broken))
    layered = [_DEFAULT, *recipe.rules] if recipe.unmatched == "default" else list(recipe.rules)
    slots = named_slots(ground.seen)
    matchers = [Matcher(rule, _prepared(rule, problems), slots) for rule in layered]
    matches = match_all(matchers, ground, problems)
    assignments, skipped, declines = _assign(matches, ground, problems)
    untouched = _untouched(matches, ground)
    idle = unused(matchers, matches, ground, problems, declines)
    if recipe.unused == "error":
        problems.model += idle
    if recipe.unmatched == "error" and untouched and not broken:  # a rule that could not be read may mean them
        problems.model.append(_uncovered(untouched))
    problems.throw()
    warnings = () if recipe.unused == "error" else tuple(idle)
    kept = _kept(ground, {*(a.slot.name for a in assignments), *skipped}, declines)
    return Plan(recipe, ground.seen.title, assignments, untouched, skipped, warnings, kept, model, LatestSurvey(seen))


def _prepared(rule: Rule, problems: Problems) -> Call | None:
    """Look a rule's initializer up; what is wrong with its call is told now."""
    call, facts = prepare(rule)
    problems.recipe += facts
    return None if rule.broken else call


def _assign(
    matches: Mapping[str, list[Match]], ground: Ground, problems: Problems
) -> tuple[tuple[Assignment, ...], dict[str, str], Declines]:
    """One assignment per slot that a rule wins; what cannot hold a fill is a problem, or skipped with its reason.

    Matches whose initializers decline the slot are taken out of ``matches``, and told by rule.
    """
    assignments: list[Assignment] = []
    skipped: dict[str, str] = {}
    declines: Declines = {}
    for slot in (*ground.seen.slots, *ground.seen.raw):
        several: list[Match] = matches.get(slot.name, [])
        declined: dict[str, str] = {}
        try:
            settled = _settle(slot, several, ground, declined)
        except (InitframeError, ArgumentError, ExpressionError, Unread) as error:
            for fact in error.args or [""]:
                problems.on(several[-1].rule, slot, str(fact))
            continue
        for rule, reason in declined.items():
            declines.setdefault(rule, []).append((slot, reason))
        if isinstance(settled, str):
            skipped[slot.name] = settled
        elif settled:
            assignments.append(settled)
    problems.model += [*_overlaps(assignments), *strangers(assignments)]
    return tuple(assignments), skipped, declines


def _settle(slot: Slot, several: list[Match], ground: Ground, declined: dict[str, str]) -> Assignment | str | None:
    """The last match that does not decline makes the assignment, or says why the slot is skipped."""
    while several:
        *lost, winner = several
        if winner.call is None:
            return None
        try:
            if reason := _skip(slot, winner, ground):
                return reason
            _check_slot(slot, winner, ground)
            fill, arguments = fit(winner, slot, ground)
            _check_ties(winner, lost, fill, slot, ground)
        except Declined as fact:
            declined[winner.rule.name] = str(fact)
            several.pop()
            continue
        shadowed = tuple(match.rule.name for match in lost if match.rule is not _DEFAULT)
        return Assignment(slot, winner.rule, fill, arguments, shadowed, declined, asked(winner, slot, ground))
    return None


def _skip(slot: Slot, winner: Match, ground: Ground) -> str:
    """Why a matched slot is passed over: a wide rule may meet buffers that hold no such numbers."""
    if slot.kind == "buffer" and _is_blocked(slot, winner, ground):
        return f"it {slot.blocked} {slot.remedy}"
    return "it has no elements." if slot.numel == 0 and not slot.blocked else ""


def _check_slot(slot: Slot, winner: Match, ground: Ground) -> None:
    """Refuse to fill what cannot be filled."""
    if _is_blocked(slot, winner, ground):
        raise ResolveError(f"it {slot.blocked} {slot.remedy}")


def _is_blocked(slot: Slot, winner: Match, ground: Ground) -> bool:
    """Whether a slot cannot hold the fill; to keep its values, or to reset a counter to zero, is fine."""
    if not slot.blocked or winner.rule.init == "keep":
        return False
    if not slot.resettable:
        return True
    try:
        return fit(winner, slot, ground)[0] != Constant(0.0)
    except (InitframeError, ArgumentError, ExpressionError, Unread):
        return True


def _overlaps(assignments: list[Assignment]) -> list[str]:
    """Tensors that are asked for twice: as a parametrized whole, and as what it is computed from."""
    by_name = {a.slot.name: a for a in assignments}
    pairs = ((a, by_name[a.slot.part_of]) for a in assignments if a.slot.part_of in by_name)
    return [
        f"{raw.rule.describe()} fills {raw.slot.name}, from which {whole.slot.name} is computed, and "
        f"{whole.rule.describe()} fills that. Exclude one of them."
        for raw, whole in pairs
        if not isinstance(whole.fill, Keep)
    ]


def _check_ties(winner: Match, lost: list[Match], fill: Fill, slot: Slot, ground: Ground) -> None:
    """A tied tensor that two rules know by different names, and would fill differently, is nobody's intention."""
    for other in lost if slot.aliases else []:
        if other.names & winner.names or other.rule is _DEFAULT or other.call is None:
            continue
        try:
            same = fit(other, slot, ground)[0] == fill
        except Declined:
            continue
        except (InitframeError, ArgumentError, ExpressionError, Unread):
            same = False
        if not same:
            mine, theirs = (", ".join(sorted(match.names)) for match in (winner, other))
            raise ResolveError(
                f"it is one tied tensor, which {winner.rule.describe()} knows as {mine} and {other.rule.describe()} "
                f"as {theirs}, with different fills. Name it in one of the rules only; exclude it from the other."
            )


def _untouched(matches: Mapping[str, list[Match]], ground: Ground) -> tuple[str, ...]:
    """Parameters that no rule matches (or all decline), nor anything that they are computed from."""
    matched = {name for name, several in matches.items() if several}
    reached = {slot.part_of for slot in ground.seen.raw if slot.name in matched} | matched
    return tuple(s.name for s in ground.seen.slots if s.kind == "parameter" and s.name not in reached)


def _kept(ground: Ground, settled: Set[str], declines: Declines) -> dict[str, str]:
    """Why the tensors that are neither assigned nor skipped keep their values, under each of their names."""
    declined = {slot.name: f"rule {rule!r} declines it: {why}" for rule, on in declines.items() for slot, why in on}
    kept: dict[str, str] = {}
    for slot in (*ground.seen.slots, *ground.seen.raw):
        if slot.name in settled:
            continue
        reason = declined.get(slot.name, "no rule matches it.")
        if slot.part_of and slot.part_of in settled:
            reason = f"{slot.part_of} is computed from it, and filled through it."
        elif slot.part_of:
            reason = f"no rule names it; {slot.part_of} is computed from it."
        elif slot.kind == "buffer" and slot.name not in declined:
            reason = "it is a buffer, and no rule of kind: buffer matches it."
        kept |= {slot.name: reason, **dict.fromkeys(slot.aliases, f"it is {slot.name}, and {reason}")}
    return kept


def _uncovered(untouched: tuple[str, ...]) -> str:
    """A recipe that must cover everything and does not."""
    shown = ", ".join(untouched[:8]) + (f" and {len(untouched) - 8} more" if len(untouched) > 8 else "")
    return f"no rule matches {shown} (unmatched: error). Add a rule, init: keep for one, or set unmatched: keep."
