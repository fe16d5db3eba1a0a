"""What the winning rule says to its slot: arguments evaluated, blocks split, the fill made and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from initframe import initializers
from initframe.errors import InitframeError, ResolveError
from initframe.fills import Blocks, Fill, Keep, Masked
from initframe.initializers import Declined
from initframe.initializers.arguments import bind, signature
from initframe.model import Slot
from initframe.recipe.expressions import ExpressionError, number, parse
from initframe.recipe.recipe import Rule
from initframe.resolver.facts import Facts, Ground
from initframe.resolver.holding import misfit
from initframe.resolver.matching import Match

Arguments = dict[str, Any]


def fit(match: Match, slot: Slot, ground: Ground) -> tuple[Fill, Arguments]:
    """Make the fill of a slot under a rule.

    Args:
        match: the rule that won.
        slot: the tensor.
        ground: recipe and model.

    Returns:
        The fill, and the initializer's arguments after evaluation; a tuple where they differ between blocks.

    Raises:
        ResolveError: the fill cannot be made, drawn or held.
        ArgumentError: arguments do not fit the initializer.
        ExpressionError: an expression has no value.
        Declined: the initializer leaves the slot to the rules above.
    """
    if match.rule.split is None:
        fill, arguments = _call(match, slot, ground)
    else:
        fill, arguments = _blocks(match, slot, ground)
    if slot.padding_row is not None and not any(isinstance(part, Keep) for part in fill.parts()):
        fill = Masked(fill, slot.shape, (slot.padding_row,), 0.0)
    if fact := misfit(fill, slot.shape, slot.dtype):
        raise ResolveError(fact)
    return fill, arguments


def numbers(rule: Rule) -> dict[str, Any]:
    """The rule's arguments that are expressions, as written."""
    known = signature(initializers.get(rule.init))
    return {k: v for k, v in rule.arguments.items() if k in known and known[k].numeric}


def _call(match: Match, slot: Slot, ground: Ground, block: int | None = None) -> tuple[Fill, Arguments]:
    """Call the rule's initializer on a slot, or on one block of it."""
    rule, function = match.rule, initializers.get(match.rule.init)
    written = _in_block(rule, block)
    plain = all(type(value) in _NUMBERS for value in written.values())  # then nobody asks for facts
    facts = {} if plain else ground.facts(slot, match.captures, written)
    arguments = bind(function, rule.arguments, lambda value: _number(value, facts), block)
    counted = slot if rule.init == "torch_default" else ground.counted(slot)  # a layer's own law counts as torch does
    fill = _guarded(lambda: function(counted, **arguments), rule)
    if not isinstance(fill, Fill):
        kind = type(fill).__name__
        raise ResolveError(f"{rule.init} returned {kind}, which is no Fill. Return one: initframe.Normal(0, 1), say.")
    return fill, arguments


_NUMBERS = (int, float)


def _number(written: Any, facts: Facts) -> float:
    """What a recipe wrote for a number, evaluated where it is an expression."""
    return written if type(written) in _NUMBERS else number(parse(written), facts)


def _per_block(rule: Rule) -> dict[str, Sequence[Any]]:
    """The lists that give one number per block."""
    known = signature(initializers.get(rule.init))
    return {k: v for k, v in numbers(rule).items() if isinstance(v, list | tuple) and not known[k].many}


def _in_block(rule: Rule, block: int | None) -> Arguments:
    """The numbers of one block, which the others of the same rule may name."""
    written = numbers(rule)
    return written if block is None else written | {name: values[block] for name, values in _per_block(rule).items()}


def _guarded(call: Callable[[], Any], rule: Rule) -> Any:
    """Turn whatever an initializer raises into a problem that names it."""
    try:
        return call()
    except (InitframeError, Declined):
        raise
    except Exception as error:
        raise ResolveError(f"{rule.init} failed with {type(error).__name__}: {error}.") from error


def _blocks(match: Match, slot: Slot, ground: Ground) -> tuple[Fill, Arguments]:
    """One call per block along the output axis, with the block's own shape and fans."""
    dim = slot.output_dim if slot.ndim > 1 else 0
    sizes = _sizes(match, slot, dim, ground)
    _check_lists(match.rule, len(sizes))
    calls = [_call(match, _block(slot, dim, size), ground, i) for i, size in enumerate(sizes)]
    arguments = {name: _merged([own[name] for _, own in calls]) for name in calls[0][1]}
    return Blocks(tuple(fill for fill, _ in calls), sizes, dim), arguments


def _merged(values: list[Any]) -> Any:
    """One value where all blocks have the same, else a tuple."""
    return values[0] if all(value == values[0] for value in values) else tuple(values)


def _sizes(match: Match, slot: Slot, dim: int, ground: Ground) -> tuple[int, ...]:
    """The blocks' sizes along the output axis."""
    split = match.rule.split
    if slot.ndim == 0:
        raise ResolveError("split needs a tensor of 1 or more dimensions.")
    total = slot.shape[dim]
    if isinstance(split, int):
        if total % split:
            raise ResolveError(f"split: {split} does not divide dimension {dim}, which is {total}. List the sizes.")
        return (total // split,) * split
    facts = ground.facts(slot, match.captures, numbers(match.rule))
    try:
        values = [number(expression, facts) for expression in split or ()]
    except ExpressionError as error:
        raise ResolveError(f"split: {error}.") from None
    sizes = tuple(int(value) for value in values)
    if sizes != tuple(values) or min(sizes) < 1 or sum(sizes) != total:
        shown = ", ".join(f"{value:g}" for value in values)
        raise ResolveError(f"split: the sizes [{shown}] must be positive integers that add up to {total}.")
    return sizes


def _check_lists(rule: Rule, blocks: int) -> None:
    """A list for one number needs one value per block."""
    for name, values in _per_block(rule).items():
        if len(values) != blocks:
            raise ResolveError(f"argument {name!r}: {len(values)} values for {blocks} blocks. Write one per block.")


def _block(slot: Slot, dim: int, size: int) -> Slot:
    """A block of a slot: its shape, and the fans that follow from it."""
    share = size / slot.shape[dim]
    fans: dict[str, Any] = {}
    if dim == 1 and slot.fan_in is not None:  # torch's fan_in is the second dimension, whatever it means
        fans["fan_in"] = round(slot.fan_in * share)
    if dim == 0 and slot.fan_out is not None:
        fans["fan_out"] = round(slot.fan_out * share)
    if slot.effective_fan_out is not None:
        fans["effective_fan_out"] = slot.effective_fan_out * slot.fused * share
    return replace(slot, shape=(*slot.shape[:dim], size, *slot.shape[dim + 1 :]), fused=1, **fans)
