"""What the winning rule says to its slot: arguments evaluated, blocks split, the fill made and checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from initframe.errors import InitframeError, ResolveError
from initframe.fills import Blocks, Fill, Keep, Masked, Scale
from initframe.fills.pretrained import Stored
from initframe.initializers import Declined
from initframe.initializers.arguments import bind
from initframe.model.slot import Slot
from initframe.recipe.expressions import Expression, ExpressionError, number, parse
from initframe.resolver.arguments import Arguments, Call
from initframe.resolver.match import Captures, Match
from initframe.resolver.scope import Facts, Ground


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
    if match.call is None:
        raise ResolveError(f"{match.rule.describe()} is broken.")
    make = _fill if match.rule.split is None else _blocks
    fill, arguments = make(match.call, match.captures, slot, ground)
    if slot.padding_row is not None and match.rule.padding == "zero" and not _keeps_rows(fill):
        fill = Masked(fill, slot.shape, (slot.padding_row,), 0.0, padding=True)
    if found := fill.problem(slot.shape, slot.dtype):
        raise ResolveError(found)
    return fill, arguments


def _keeps_rows(fill: Fill) -> bool:
    """Whether a row of padding comes out of a fill as it went in, or as it lies in a file."""
    return any(isinstance(part, Keep | Scale | Stored) for part in fill.parts())


def _fill(
    call: Call, captures: Captures, slot: Slot, ground: Ground, block: int | None = None
) -> tuple[Fill, Arguments]:
    """Call the rule's initializer on a slot, or on one block of it."""
    arguments = call.settled
    if arguments is None:
        facts = ground.facts(slot, captures, call.written(block))
        arguments = bind(call.function, call.arguments, lambda value: _number(value, facts), block)
    counted = slot if call.rule.init == "torch_default" else ground.counted(slot)  # a layer's own law counts as torch
    return _guarded(call, counted, arguments), arguments


def _number(written: Any, facts: Facts) -> float:
    """What a recipe wrote for a number, evaluated where it is an expression."""
    if type(written) in (int, float):
        return written  # type: ignore[no-any-return]
    return number(written if isinstance(written, Expression) else parse(written), facts)


def _guarded(call: Call, slot: Slot, arguments: Arguments) -> Fill:
    """Turn whatever an initializer raises into a problem that names it."""
    init = call.rule.init
    try:
        fill: Any = call.function(slot, **arguments)
    except (InitframeError, Declined):
        raise
    except Exception as error:
        raise ResolveError(f"{init} failed with {type(error).__name__}: {error}.") from error
    if not isinstance(fill, Fill):
        kind = type(fill).__name__
        raise ResolveError(f"{init} returned {kind}, which is no Fill. Return one: initframe.Normal(0, 1), say.")
    return fill


def _blocks(call: Call, captures: Captures, slot: Slot, ground: Ground) -> tuple[Fill, Arguments]:
    """One call per block along the output axis, with the block's own shape and fans."""
    dim = slot.output_dim if slot.ndim > 1 else 0
    sizes = _sizes(call, captures, slot, dim, ground)
    _check_lists(call, len(sizes))
    filled = [_fill(call, captures, _block(slot, dim, size), ground, i) for i, size in enumerate(sizes)]
    arguments = {name: _merged([own[name] for _, own in filled]) for name in filled[0][1]}
    return Blocks(tuple(fill for fill, _ in filled), sizes, dim), arguments


def _merged(values: list[Any]) -> Any:
    """One value where all blocks have the same, else a tuple."""
    return values[0] if all(value == values[0] for value in values) else tuple(values)


def _sizes(call: Call, captures: Captures, slot: Slot, dim: int, ground: Ground) -> tuple[int, ...]:
    """The blocks' sizes along the output axis."""
    split = call.rule.split
    if slot.ndim == 0:
        raise ResolveError("split needs a tensor of 1 or more dimensions.")
    total = slot.shape[dim]
    if isinstance(split, int):
        if total % split:
            raise ResolveError(f"split: {split} does not divide dimension {dim}, which is {total}. List the sizes.")
        return (total // split,) * split
    facts = ground.facts(slot, captures, call.numbers)
    try:
        values = [number(expression, facts) for expression in split or ()]
    except ExpressionError as error:
        raise ResolveError(f"split: {error}") from None
    sizes = tuple(int(value) for value in values)
    if sizes != tuple(values) or min(sizes) < 1 or sum(sizes) != total:
        shown = ", ".join(f"{value:g}" for value in values)
        raise ResolveError(f"split: the sizes [{shown}] must be positive integers that add up to {total}.")
    return sizes


def _check_lists(call: Call, blocks: int) -> None:
    """A list for one number needs one value per block."""
    for name, values in call.lists.items():
        if len(values) != blocks:
            raise ResolveError(f"argument {name!r}: {len(values)} values for {blocks} blocks. Write one per block.")


def _block(slot: Slot, dim: int, size: int) -> Slot:
    """A block of a slot: its shape, and the fans that follow from it."""
    share = size / slot.shape[dim]
    fans: dict[str, Any] = {}
    # torch's fan_in counts the weight's second dimension, whatever it means; a bias has its weight's.
    counted = "fan_in" if slot.output_dim else "fan_out"
    if (whole := getattr(slot, counted)) is not None:
        fans[counted] = round(whole * share)
    if slot.effective_fan_out is not None:
        fans["effective_fan_out"] = slot.effective_fan_out * slot.fused * share
    held = replace(slot.meaning, groups=max(1, round(slot.meaning.groups * share)))
    return replace(slot, shape=(*slot.shape[:dim], size, *slot.shape[dim + 1 :]), fused=1, meaning=held, **fans)
