"""``only``: the part of a model that a call is about; the rest is out of sight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from initframe.errors import Problem, RecipeError, ResolveError, closest, shown
from initframe.fills import Copied, Fill, Keep
from initframe.model.survey import Survey
from initframe.plan import Plan
from initframe.recipe.patterns import compile_pattern

Only = Sequence[str] | str | None


def out_of_sight(only: Only, seen: Survey) -> frozenset[str]:
    """Find the tensors that are not meant.

    Args:
        only: names or patterns; ``None``: everything is meant.
        seen: the model's survey.

    Returns:
        The slots' names. A parametrized tensor is meant if one is that it is computed from.

    Raises:
        ResolveError: a name or pattern matches nothing, or is none.

    >>> from torch import nn
    >>> from initframe.model.survey import survey
    >>> sorted(out_of_sight(["weight"], survey(nn.Linear(2, 3))))
    ['bias']
    """
    if only is None:
        return frozenset()
    if not isinstance(only, Iterable):
        raise ResolveError(Problem("only", f"got {shown(only)}.", "It takes names or patterns of tensors."))
    given: list[object] = [only] if isinstance(only, str) else list(only)
    names = seen.by_name
    meant: set[str] = set()
    problems: list[Problem] = []
    for text in given:
        if not isinstance(text, str):
            problems.append(Problem("only", f"got {shown(text)}.", "It takes names or patterns of tensors."))
            continue
        try:
            regex = None if text in names else compile_pattern(text).regex
        except RecipeError as error:
            problems += [problem.on("only") for problem in error.problems]
            continue
        found = {text} if regex is None else set(filter(regex.match, names))
        if not found:
            fact = f"{shown(text)} matches no tensor of {seen.title}."
            is_module = any(name.startswith(f"{text}.") for name in names)
            fix = f"Write {shown(f'{text}.*')} for all of it." if is_module else "Fix or remove it."
            problems.append(Problem("only", fact, closest(text, names), fix))
        meant |= {names[name].name for name in found}
    if problems:
        raise ResolveError(*problems)
    meant |= {slot.part_of for slot in seen.raw if slot.name in meant and slot.part_of}
    return frozenset(slot.name for slot in seen.every if slot.name not in meant)


def restricted(plan: Plan, hidden: frozenset[str]) -> Plan:
    """Return a plan without what is out of sight; a copy whose source is, reads the source's memory.

    Args:
        plan: of a whole model.
        hidden: from :func:`out_of_sight`.

    >>> from torch import nn
    >>> from initframe import resolve
    >>> plan = resolve({"rules": {"*": "zeros"}}, nn.Linear(2, 3))
    >>> [a.slot.name for a in restricted(plan, frozenset({"bias"})).assignments]
    ['weight']
    """
    if not hidden:
        return plan

    def seen(fill: Fill) -> Fill:
        hides = isinstance(fill, Copied) and fill.source in hidden
        return replace(fill, fill=Keep(), from_memory=True) if hides else fill  # type: ignore[call-arg]

    return replace(
        plan,
        assignments=tuple(replace(a, fill=seen(a.fill)) for a in plan.assignments if a.slot.name not in hidden),
        untouched=tuple(name for name in plan.untouched if name not in hidden),
        buffers=tuple(name for name in plan.buffers if name not in hidden),
        skipped={name: why for name, why in plan.skipped.items() if name not in hidden},
        hidden=plan.hidden | hidden,
    )
