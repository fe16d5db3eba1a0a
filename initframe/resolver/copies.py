"""Copies inside a plan: the tensor that each one's source is, and what that tensor gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from initframe.errors import Problem, ResolveError, about, closest
from initframe.fills import Copied, Fill, Keep, Norms, Partial
from initframe.initializers import Declined
from initframe.model.slot import Slot
from initframe.plan import Assignment
from initframe.recipe.rename import rename
from initframe.recipe.rule import Rule
from initframe.resolver.prepare import FACTOR
from initframe.resolver.problems import Problems

FROM_OTHERS = ("copy", "row_norms")
"""The initializers whose fill follows from another tensor of the model."""


def copied(
    rule: Rule, names: frozenset[str], arguments: Mapping[str, object], slot: Slot, slots: Mapping[str, Slot]
) -> Copied:
    """Find the source of a slot that a rule makes a copy, or the norms of another tensor.

    Args:
        rule: the rule that won.
        names: the slot's names that the rule matches.
        arguments: its ``source``, and the ``dim`` of norms.
        slot: the tensor.
        slots: all of the model, by each of their names.

    Returns:
        The copy, without its source's fill yet.

    Raises:
        ResolveError: there is no such tensor, it has another shape, it is the slot itself, or the rule has keys that a
            copy has no use for.
        Declined: the slot is tied to its source, so there is nothing to copy.
    """
    template = arguments["source"]
    if not isinstance(template, str):
        raise ResolveError(Problem("argument 'source'", f"a text is needed, got {template!r:.60}."))
    if rule.split is not None or rule.axes:
        raise ResolveError(Problem("", "a copy has its source's blocks.", fix="Leave split and axes out."))
    if FACTOR in rule.arguments:
        fix = "Leave it out, or give it to the source."
        raise ResolveError(Problem(FACTOR, "the values follow from the source's.", fix=fix))
    name = slot.name if slot.name in names else min(names)
    pattern = next(pattern for pattern in rule.match if pattern.regex.match(name))
    with about("argument 'source'"):
        wanted = rename(name, pattern.text, template)
    source = slots.get(wanted or "")
    if source is None:
        raise ResolveError(Problem("", f"its source {wanted} is not in the model.", closest(wanted or "", slots)))
    if source is slot and wanted == name:
        raise ResolveError(Problem("", "it is its own source.", fix="Fix source, or exclude it."))
    if source is slot:
        raise Declined(f"it is one tensor with its source {wanted}.")
    if rule.init == "row_norms":
        return _norms(rule, arguments.get("dim"), slot, source)
    if source.shape != slot.shape:
        fact = f"its shape is {list(slot.shape)}, that of its source {wanted} {list(source.shape)}."
        raise ResolveError(Problem("", fact, fix="Exclude it."))
    if source.blocked and not (source.resettable and slot.resettable):
        raise ResolveError(Problem("", f"its source {wanted} {source.blocked}", fix="Exclude it."))
    return Copied(source.name, Keep())


def _norms(rule: Rule, given: object, slot: Slot, source: Slot) -> Norms:
    """Make the norms of a source, if the slot has an element for each."""
    dim = source.output_dim if given is None else given
    if not isinstance(dim, int) or not 0 <= dim < source.ndim:
        options = f"It has dimensions 0 to {source.ndim - 1}."
        raise ResolveError(Problem("argument 'dim'", f"{source.name} has no dimension {dim!r:.60}.", options))
    if rule.units is not None:
        raise ResolveError(Problem("units", "norms are written all together.", fix="Leave it out."))
    if source.blocked:
        raise ResolveError(Problem("", f"its source {source.name} {source.blocked}", fix="Exclude it."))
    if slot.numel != source.shape[dim]:
        fact = f"it has {slot.numel} elements, and its source {source.name} {source.shape[dim]} along dimension {dim}."
        raise ResolveError(Problem("", fact, fix="Give the dimension that it counts: dim."))
    return Norms(source.name, Keep(), from_memory=True, dim=dim)


def follow(assignments: Sequence[Assignment], slots: Mapping[str, Slot], problems: Problems) -> tuple[Assignment, ...]:
    """Give every copy its source's fill; of a chain, that of the first tensor.

    Args:
        assignments: of the whole plan.
        slots: all of the model, by each of their names.
        problems: where circles, and dtypes that do not hold the source's fill, are noted.

    Returns:
        The assignments, copies completed.
    """
    if not any(isinstance(a.fill, (Copied, Partial)) for a in assignments):
        return tuple(assignments)
    fills = {a.slot.name: a.fill for a in assignments}
    followed = []
    for a in assignments:
        inner = a.fill.fill if isinstance(a.fill, Partial) else a.fill
        if isinstance(inner, Copied):
            try:
                made: Fill = _completed(inner, fills, slots, [a.slot.name])
            except ResolveError as error:
                problems.on(a.rule, a.slot, error.problems)
                continue
            made = replace(a.fill, fill=made) if isinstance(a.fill, Partial) else made
            if found := made.problem(a.slot.shape, a.slot.dtype):
                problems.on(a.rule, a.slot, [found])
                continue
            a = replace(a, fill=made)  # noqa: PLW2901
        followed.append(a)
    return tuple(followed)


def _completed(copy: Copied, fills: Mapping[str, Fill], slots: Mapping[str, Slot], chain: list[str]) -> Copied:
    name, fill = copy.source, fills.get(copy.source, Keep())
    if name in chain:
        circle = " → ".join([*chain[chain.index(name) :], name])
        raise ResolveError(Problem("", f"copies go in a circle: {circle}.", fix="Give one of them values of its own."))
    if isinstance(fill, Norms):
        fact = f"its source {name} has norms of {fill.source}, which are written last."
        raise ResolveError(Problem("", fact, fix=f"Give it the rule of {name}."))
    if isinstance(fill, Copied) and not isinstance(copy, Norms):
        return _completed(fill, fills, slots, [*chain, name])
    if isinstance(fill, Partial) and isinstance(fill.fill, Copied):
        _completed(fill.fill, fills, slots, [*chain, name])  # it may be part of a circle
    if isinstance(copy, Norms):
        return copy
    return Copied(name, fill, from_memory=fill.needs_current or not slots[name].exact)
