"""resolve(recipe, model) → plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from torch import Tensor, nn

from initframe.collector import collector_paused
from initframe.errors import Problem
from initframe.model.latest import LatestSurvey
from initframe.model.survey import Survey, survey
from initframe.model.uncompiled import uncompiled
from initframe.plan import Plan
from initframe.plan.plan import OpenPlan
from initframe.recipe.recipe import Recipe, Rule, Source, parse_recipe
from initframe.resolver.assign import DEFAULT, assign
from initframe.resolver.constructed import in_order, unmatched_by_constructor
from initframe.resolver.diagnose import unused, without_growth
from initframe.resolver.match import Declines, Match, Matcher, match_all
from initframe.resolver.only import Only, out_of_sight
from initframe.resolver.prepare import Call, prepare
from initframe.resolver.problems import Problems
from initframe.resolver.restored import idle_renamings, match_originals, stored, unchosen, unread
from initframe.resolver.scope import Scope

Written = Source | Sequence[Source]
Model = nn.Module | Mapping[str, Tensor]


@uncompiled
def resolve(recipe: Written, model: Model, *, only: Only = None) -> Plan:
    """Compute which tensor of a model will hold what under a recipe; nothing is written.

    Args:
        recipe: a Recipe, a preset's name, a path to a YAML file, or a mapping; or a list of them, laid over each other.
        model: any module, wrapped or not, on any device; or a state_dict, then without module facts.
        only: names or patterns of the tensors that are meant; the rest of the model is out of sight, and rules that
            match nothing because of it are no error.

    Returns:
        The plan. The model is left as it is.

    Raises:
        RecipeError: the recipe is wrong by itself.
        ResolveError: recipe and model do not fit together. Either names every problem there is.

    >>> plan = resolve({"rules": {"*.weight": "xavier_uniform", "*.bias": "zeros"}}, nn.Linear(3, 3))
    >>> [(a.slot.name, str(a.fill)) for a in plan.assignments]
    [('weight', 'uniform(±1)'), ('bias', 'constant(0)')]
    """
    seen = survey(model)
    plan = resolve_surveyed(recipe, seen, model, only)
    plan.latest.take(seen, model)
    return plan


def resolve_surveyed(recipe: Written, seen: Survey, model: Model, only: Only = None) -> Plan:
    """Resolve a recipe against a model that was surveyed already.

    Args:
        recipe: as for :func:`resolve`.
        seen: the model's survey.
        model: the model itself, which the plan will name.
        only: as for :func:`resolve`.

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
        return _resolve(*parse_recipe(recipe), seen, model, out_of_sight(only, seen))


def _resolve(recipe: Recipe, broken: tuple[Problem, ...], seen: Survey, model: Model, hidden: frozenset[str]) -> Plan:
    """Resolve what could be read of a recipe; what could not is the first of its problems."""
    scope = Scope(recipe, seen)
    problems = Problems(recipe=list(broken))
    layered = [DEFAULT, *recipe.rules] if recipe.unmatched == "default" else list(recipe.rules)
    matchers = [Matcher(rule, _prepared(rule, problems), seen.by_name) for rule in layered]
    matches = match_all(matchers, scope, problems, hidden)
    replaced = match_originals(matches, scope)
    assignments, skipped, declines = assign(matches, scope, problems)
    covered = len(assignments) + len(skipped) == len(seen.every)
    untouched, buffers = ((), ()) if covered else _untouched(matches, scope, hidden)
    if recipe.unmatched == "constructor" and not broken:
        rest = unmatched_by_constructor(untouched, seen, problems)
        assignments, untouched = in_order((*assignments, *rest), seen), ()
    idle = list(unused(matchers, matches | replaced, scope, problems, declines, hidden))
    idle += idle_renamings(matchers, matches, declines, seen.by_name, problems.failed)
    if recipe.unused == "error":
        problems.model += idle
    if recipe.unmatched == "error" and untouched and not broken:  # a rule that could not be read may mean them
        problems.model.append(_uncovered(untouched))
    problems.throw()
    warnings = () if recipe.unused == "error" else tuple(map(str, idle))
    warnings += tuple(map(str, without_growth(matchers, matches, seen)))
    if from_files := stored(assignments):
        warnings += tuple(unchosen(from_files))
    if not warnings and not assignments and not skipped:
        warnings = (_nothing(seen),)
    kept = {} if covered else _kept(scope, {*[a.slot.name for a in assignments], *skipped}, declines)
    kept |= dict.fromkeys(hidden, "it is out of sight: only leaves it out.")
    declined = {rule: tuple(slot.name for slot, _ in several) for rule, several in declines.items()}
    buffers = tuple([name for name in buffers if name not in skipped])
    facts = recipe, seen.title, assignments, untouched, skipped, warnings, kept, model, LatestSurvey(), buffers
    plan = OpenPlan(*facts, seen.extra, hidden, declined, unread(from_files) if from_files else {})
    plan.__class__ = Plan
    return plan


def _prepared(rule: Rule, problems: Problems) -> Call | None:
    """Prepare a rule's call, and note what is wrong with it."""
    call, found = prepare(rule)
    problems.recipe += found
    return None if rule.broken else call


def _untouched(
    matches: Mapping[str, list[Match]], scope: Scope, hidden: Set[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """List the parameters and the buffers that no rule matches (or all decline), nor what they are computed from."""
    matched = {name for name, several in matches.items() if several}
    reached = {slot.part_of for slot in scope.seen.raw if slot.name in matched} | matched | hidden
    rest = [slot for slot in scope.seen.slots if slot.name not in reached]
    parameters = tuple([slot.name for slot in rest if slot.kind == "parameter"])
    return parameters, tuple([slot.name for slot in rest if slot.kind == "buffer"])


def _kept(scope: Scope, settled: Set[str], declines: Declines) -> dict[str, str]:
    """Say why tensors that are neither assigned nor skipped keep their values, under each of their names."""
    declined = {slot.name: f"rule {rule!r} declines it: {why}" for rule, on in declines.items() for slot, why in on}
    through = {slot.part_of for slot in scope.seen.raw if slot.name in settled}
    kept: dict[str, str] = {}
    for slot in scope.seen.every:
        if slot.name in settled:
            continue
        reason = declined.get(slot.name, "no rule matches it.")
        if slot.part_of and slot.part_of in settled:
            reason = f"{slot.part_of} is computed from it, and filled through it."
        elif slot.part_of:
            reason = f"no rule names it; {slot.part_of} is computed from it."
        elif slot.name in through:
            reason = "it is computed from tensors that a rule fills."
        elif slot.kind == "buffer" and slot.name not in declined:
            reason = "it is a buffer, and no rule of kind: buffer matches it."
        kept |= {slot.name: reason, **dict.fromkeys(slot.aliases, f"it is {slot.name}, and {reason}")}
    return kept


def _nothing(seen: Survey) -> str:
    """Say that a plan fills nothing, though no rule had to match."""
    why = "no rule matches one of its tensors." if seen.every else "it has no parameters and no buffers."
    return f"nothing of {seen.title} is filled: {why}"


def _uncovered(untouched: tuple[str, ...]) -> Problem:
    """Refuse what a recipe leaves over that must cover everything."""
    some = ", ".join(untouched[:8]) + (f" and {len(untouched) - 8} more" if len(untouched) > 8 else "")
    fix = "Add a rule, init: keep for one, or set unmatched: keep."
    return Problem("", f"no rule matches {some} (unmatched: error).", fix=fix)
