"""resolve(recipe, model) → plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace

from torch import Tensor, nn

from initframe.errors import InitframeError, Problem, ResolveError
from initframe.fills import Fill, Keep
from initframe.initializers import Declined
from initframe.initializers.table import restores
from initframe.model.slot import Slot
from initframe.model.survey import LatestSurvey, Survey, collector_paused, survey
from initframe.plan import Assignment, Plan
from initframe.recipe.patterns import compile_pattern
from initframe.recipe.recipe import Recipe, Rule, Source, parse_recipe
from initframe.resolver.arguments import Call, prepare
from initframe.resolver.build import READ_AS_CONVOLUTION, build, companions, factor_of, reads_unread
from initframe.resolver.constructed import in_order, unmatched_by_constructor
from initframe.resolver.copies import follow
from initframe.resolver.diagnose import Declines, unused, without_growth
from initframe.resolver.match import Match, Matcher, match_all, named_slots
from initframe.resolver.only import Only, out_of_sight
from initframe.resolver.problems import Problems
from initframe.resolver.restored import match_originals, misfit_keys, unchosen, unread
from initframe.resolver.scope import Scope
from initframe.resolver.validate import unpartnered

Written = Source | Sequence[Source]
Model = nn.Module | Mapping[str, Tensor]

_DEFAULT = Rule("unmatched: default", (compile_pattern("*"),), init="torch_default", optional=True)


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
    return resolve_surveyed(recipe, survey(model), model, only)


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
    layered = [_DEFAULT, *recipe.rules] if recipe.unmatched == "default" else list(recipe.rules)
    slots = named_slots(seen)
    matchers = [Matcher(rule, _prepared(rule, problems), slots) for rule in layered]
    matches = match_all(matchers, scope, problems, hidden)
    replaced = match_originals(matches, scope)
    assignments, skipped, declines = _assign(matches, scope, problems)
    untouched, buffers = (_untouched(matches, scope, kind, hidden) for kind in ("parameter", "buffer"))
    if recipe.unmatched == "constructor" and not broken:
        rest = unmatched_by_constructor(untouched, seen, problems)
        assignments, untouched = in_order((*assignments, *rest), seen), ()
    idle = list(unused(matchers, matches | replaced, scope, problems, declines, hidden))
    idle += misfit_keys(matchers, matches, declines, slots, problems.failed)
    if recipe.unused == "error":
        problems.model += idle
    if recipe.unmatched == "error" and untouched and not broken:  # a rule that could not be read may mean them
        problems.model.append(_uncovered(untouched))
    problems.throw()
    warnings = () if recipe.unused == "error" else tuple(map(str, idle))
    warnings += tuple(map(str, without_growth(matchers, matches, seen)))
    warnings += tuple(unchosen(assignments))
    if not warnings and not assignments and not skipped:
        warnings = (_nothing(seen),)
    kept = _kept(scope, {*(a.slot.name for a in assignments), *skipped}, declines)
    kept |= dict.fromkeys(hidden, "it is out of sight: only leaves it out.")
    declined = {rule: tuple(slot.name for slot, _ in several) for rule, several in declines.items()}
    return Plan(
        recipe,
        seen.title,
        assignments,
        untouched,
        skipped,
        warnings,
        kept,
        model,
        LatestSurvey(seen),
        buffers=tuple(name for name in buffers if name not in skipped),
        extra=seen.extra,
        hidden=hidden,
        declined=declined,
        unread=unread(assignments),
    )


def _prepared(rule: Rule, problems: Problems) -> Call | None:
    """Prepare a rule's call, and note what is wrong with it."""
    call, found = prepare(rule)
    problems.recipe += found
    return None if rule.broken else call


def _assign(
    matches: Mapping[str, list[Match]], scope: Scope, problems: Problems
) -> tuple[tuple[Assignment, ...], dict[str, str], Declines]:
    """Make one assignment per slot that a rule wins; what cannot hold a fill is a problem, or skipped with its reason.

    Matches whose initializers decline the slot are taken out of ``matches``, and returned by rule.
    """
    found: list[Assignment] = []
    skipped: dict[str, str] = {}
    declines: Declines = {}
    kept = {name for name, several in matches.items() if several[-1].rule.init == "keep"}
    for slot in (*scope.seen.slots, *scope.seen.raw):
        several: list[Match] = matches.get(slot.name, [])
        declined: dict[str, str] = {}
        try:
            settled = _settle(_unblocked(slot, kept), several, scope, declined)
        except InitframeError as error:
            problems.on(several[-1].rule, slot, error.problems)
            continue
        for rule, reason in declined.items():
            declines.setdefault(rule, []).append((slot, reason))
        if isinstance(settled, str):
            skipped[slot.name] = settled
        elif settled:
            found.append(settled)
    assignments = follow(found, scope.slots, problems)
    problems.model += [*_overlaps(assignments), *map(str, unpartnered(assignments))]
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
        is_restored = restores(winner.rule.init) and not slot.lazy
        if blocked and not slot.resettable and not is_restored:
            return _refused(slot)
        if slot.numel == 0 and not slot.blocked:
            return "it has no elements."
        try:
            fill, arguments = build(winner, slot, scope)
        except Declined as reason:
            declined[winner.rule.name] = str(reason)
            several.remove(winner)
            continue
        except InitframeError:
            if blocked and not slot.storable:
                return _refused(slot)
            raise
        if blocked and not fill.suits(slot):
            return _refused(slot)
        _check_ties(winner, lost, fill, slot, scope)
        shadowed = tuple(match.rule.name for match in lost if match.rule is not _DEFAULT)
        asked, factor = companions(winner, slot, scope), factor_of(winner, slot, scope)
        slot = _as_read(winner, slot, scope, fill)
        return Assignment(slot, winner.rule, fill, arguments, shadowed, declined, asked, factor=factor)
    return None


def _unblocked(slot: Slot, kept: Set[str]) -> Slot:
    """Free a slot that shares part of its memory, if a rule keeps all others that do."""
    if not slot.shares or not kept >= set(slot.shares):
        return slot
    note = f"shares part of its memory with {', '.join(slot.shares)}, kept: what they share is filled"
    return replace(slot, blocked=None, remedy="", notes=(*slot.notes, note))


def _keeps_first(several: list[Match]) -> list[Match]:
    """Move a ``keep`` of one name of a tied tensor before the rules that know the tensor by other names only."""
    *lost, last = several
    others = [match for match in lost if match.rule.init != "keep" and match.rule is not _DEFAULT]
    if last.rule.init == "keep" and not all(match.names & last.names for match in others):
        return [last, *_keeps_first(lost)]
    return several


def _as_read(winner: Match, slot: Slot, scope: Scope, fill: Fill) -> Slot:
    """Return the slot as its rule reads it, with a note if nobody says what its dimensions mean."""
    if reads_unread(winner, slot, scope, fill):
        return replace(slot, notes=(*slot.notes, READ_AS_CONVOLUTION))
    return scope.read(slot, winner.rule.axes)


def _refused(slot: Slot) -> str:
    """Say why a slot that cannot be filled is skipped, if it is a buffer: wide rules meet those.

    Raises:
        ResolveError: it is a parameter.
    """
    problem = replace(slot.problem or Problem("", "it cannot be filled."), subject="")
    if slot.kind == "buffer":
        return str(problem)
    raise ResolveError(problem)


def _overlaps(assignments: Sequence[Assignment]) -> Iterator[Problem]:
    """Find tensors that are filled twice: as a parametrized whole, and as what it is computed from."""
    by_name = {a.slot.name: a for a in assignments}
    for raw in assignments:
        whole = by_name.get(raw.slot.part_of or "")
        if whole and not isinstance(whole.fill, Keep):
            fact = f"it fills {raw.slot.name}, from which {whole.slot.name} is computed."
            also = f"{whole.slot.name} is filled by {whole.rule.describe()}."
            yield Problem(raw.rule.describe(), fact, also, fix="Exclude one of them.")


def _check_ties(winner: Match, lost: list[Match], fill: Fill, slot: Slot, scope: Scope) -> None:
    """Refuse a tied tensor that two rules know by different names and would fill differently: nobody intends that."""
    for other in lost if slot.aliases else []:
        if other.names & winner.names or other.rule is _DEFAULT or other.call is None or other.rule.init == "keep":
            continue
        try:
            same = build(other, slot, scope)[0] == fill
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


def _untouched(matches: Mapping[str, list[Match]], scope: Scope, kind: str, hidden: Set[str]) -> tuple[str, ...]:
    """List the tensors of a kind that no rule matches (or all decline), nor anything that they are computed from."""
    matched = {name for name, several in matches.items() if several}
    reached = {slot.part_of for slot in scope.seen.raw if slot.name in matched} | matched | hidden
    return tuple(s.name for s in scope.seen.slots if s.kind == kind and s.name not in reached)


def _kept(scope: Scope, settled: Set[str], declines: Declines) -> dict[str, str]:
    """Say why tensors that are neither assigned nor skipped keep their values, under each of their names."""
    declined = {slot.name: f"rule {rule!r} declines it: {why}" for rule, on in declines.items() for slot, why in on}
    through = {slot.part_of for slot in scope.seen.raw if slot.name in settled}
    kept: dict[str, str] = {}
    for slot in (*scope.seen.slots, *scope.seen.raw):
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
