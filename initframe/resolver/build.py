"""Build what the winning rule gives a slot: arguments evaluated, blocks split, the fill made and checked."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

from initframe.errors import InitframeError, Problem, ResolveError, about, shown
from initframe.fills import Blocks, Constant, Fill, Keep, Mapped, Masked, OnCurrent, Partial, Scale, Stacked
from initframe.fills.composed import padded
from initframe.fills.pretrained import Stored
from initframe.fills.scaled import scaled
from initframe.initializers import Declined
from initframe.initializers.arguments import ArgumentError, bind
from initframe.initializers.table import restores
from initframe.model.axes import axis_fans, is_unexplained, member, without_fans
from initframe.model.slot import Slot
from initframe.recipe.expressions import Expression, number, truth
from initframe.resolver.copies import FROM_OTHERS, copied
from initframe.resolver.match import Captures, Match
from initframe.resolver.prepare import Arguments, Call
from initframe.resolver.scope import Scope, TensorScope


class Built(NamedTuple):
    """What a rule makes of a slot.

    Attributes:
        slot: the slot as the rule reads it.
        fill: what it will hold.
        arguments: the initializer's, after evaluation; a tuple of one per block if they differ between blocks.
        factor: what the fill has been multiplied with.
    """

    slot: Slot
    fill: Fill
    arguments: Arguments
    factor: float = 1.0


def build(match: Match, slot: Slot, scope: Scope) -> Built:
    """Build the fill of a slot under a rule, and check that the slot can hold it.

    Args:
        match: the rule that won.
        slot: the tensor.
        scope: recipe and model.

    Raises:
        InitframeError: the fill cannot be made, drawn or held, arguments do not fit the initializer, or an expression
            has no value; without problems if the cause was reported already.
        Declined: the initializer leaves the slot to the rules above.
    """
    rule, names, captures, call = match
    if call is None:
        raise ResolveError  # the rule is broken, which was reported
    if rule.init in FROM_OTHERS:
        arguments = dict(call.arguments)
        fill: Fill = copied(rule, names, arguments, slot, scope.seen.by_name)
        return Built(scope.read(slot, ()), _of_units(fill, match, slot, scope), arguments)
    if rule.axes or scope.axes:
        slot = scope.read(slot, rule.axes)
    fill, arguments = _made(call, captures, slot, scope)
    factor = 1.0
    if call.factor is not None:
        factor = _factor(call, captures, slot, scope)
        fill = scaled(fill, factor)
    if rule.init == "constructor":
        fill = padded(fill, slot.padding_row)
    elif slot.padding_row is not None and rule.padding == "zero" and not _keeps_rows(fill):
        fill = Masked(fill, slot.shape, (slot.padding_row,), 0.0, padding=True)
    if rule.units is not None:
        fill = _of_units(fill, match, slot, scope)
    if found := fill.problem(slot.shape, slot.dtype):
        raise ResolveError(found)
    if scope.recipe.fans == "effective" and reads_as_convolution(match, slot, scope, fill):
        fact = f"no convolution owns this tensor of {slot.ndim} dimensions, so its fans are not known."
        raise ResolveError(Problem("", fact, fix="Say what they mean, as in axes: [batch, out, in]."))
    return Built(slot, fill, arguments, factor)


def _factor(call: Call, captures: Captures, slot: Slot, scope: Scope) -> float:
    """Evaluate what a rule multiplies all values of a slot with."""
    value = float(_number(call.factor, scope.facts(slot, captures, call.numbers)))
    if not 0 < value < math.inf:
        raise ResolveError(Problem("factor", f"it is {value:g}.", fix="Give a positive number."))
    return value


def _of_units(fill: Fill, match: Match, slot: Slot, scope: Scope) -> Fill:
    """Hold a fill to the rule's units, counted along the output axis of the whole tensor."""
    units = match.rule.units
    if units is None:
        return fill
    if slot.ndim == 0:
        raise ResolveError("units needs a tensor of 1 or more dimensions.")
    if not slot.exact:
        fact = "units would change the others, too: a parametrization computes each from all."
        raise ResolveError(Problem("", fact, fix="Remove the parametrization, or fill all of it."))
    dim = output_dim(slot, "units")
    if isinstance(units, Expression):
        condition, every = units, range(slot.shape[dim])
        with about(f"units {shown(condition.text)}"):
            units = tuple(i for i in every if truth(condition, scope.facts(slot, match.captures, unit=i)))
        if not units:
            raise ResolveError(f"units {shown(condition.text)} is false for all {slot.shape[dim]}.")
    return Partial(fill, units, dim)


READ_AS_CONVOLUTION = (
    "read as (out, in, *kernel), and no convolution owns it; for stacked weights write axes: [batch, out, in]"
)
"""What a plan notes of a tensor whose dimensions nobody explains."""


def reads_as_convolution(match: Match, slot: Slot, scope: Scope, fill: Fill) -> bool:
    """Tell whether a fill depends on what a tensor's dimensions mean, and nobody says it: a convolution's are assumed.

    Args:
        match: the rule that won.
        slot: the tensor.
        scope: recipe and model.
        fill: what the rule gives the slot.
    """
    call = match.call
    if call is None or match.rule.axes or not is_unexplained(slot) or call.rule.init == "torch_default":
        return False
    if any(part.layout for part in fill.parts()):
        return True
    try:
        _made(call, match.captures, without_fans(slot), scope)
    except InitframeError:
        return True
    return False


def _keeps_rows(fill: Fill) -> bool:
    """Whether a fill leaves a row of padding as it is, or takes it from a file."""
    return any(isinstance(part, Keep | Scale | Stored) for part in fill.parts())


def _made(call: Call, captures: Captures, slot: Slot, scope: Scope, block: int | None = None) -> tuple[Fill, Arguments]:
    """Call the rule's initializer on a slot: block by block if the rule splits it, and this is none of the blocks."""
    if call.rule.split is not None and block is None:
        return _blocks(call, captures, slot, scope)
    arguments = call.settled
    if arguments is None:
        facts = scope.facts(slot, captures, call.numbers_of(block))
        arguments = bind(call.function, call.arguments, lambda value: _number(value, facts), block)
    if call.rule.init == "torch_default":  # a layer's own distribution counts as torch does
        return _guarded(call, slot, arguments), arguments
    counted = slot if scope.recipe.fans == "torch" else scope.counted(slot)
    if not slot.axes or restores(call.rule.init):  # a file has all of the tensor, whatever its dimensions mean
        return _guarded(call, counted, arguments), arguments
    fill = _guarded(call, member(counted), arguments)
    return fill if _is_elementwise(fill) else Stacked(fill, slot.shape, slot.axes), arguments


def _is_elementwise(fill: Fill) -> bool:
    """Whether a fill covers any shape: then every element has its number, whatever the dimensions mean."""
    return fill.distribution is not None or isinstance(fill, Constant | Mapped | OnCurrent)


def _number(written: Any, facts: TensorScope) -> float:
    """Evaluate what a recipe wrote for a number."""
    if isinstance(written, Expression):
        return number(written, facts)
    if type(written) in (int, float):
        return written  # type: ignore[no-any-return]
    raise ArgumentError(f"a number is needed, got {shown(written)}.")


def _guarded(call: Call, slot: Slot, arguments: Arguments) -> Fill:
    """Call an initializer; an exception of its own becomes a problem that names it."""
    init = call.rule.init
    try:
        fill: Any = call.function(slot, **arguments)
    except (InitframeError, Declined):
        raise
    except Exception as error:
        raise ResolveError(f"{init} failed with {type(error).__name__}: {error}.") from error
    if not isinstance(fill, Fill):
        fact = f"{init} returned {type(fill).__name__}, which is not a Fill."
        raise ResolveError(Problem("", fact, fix="Return one, such as initframe.Normal(0, 1)."))
    return fill


def _blocks(call: Call, captures: Captures, slot: Slot, scope: Scope) -> tuple[Fill, Arguments]:
    """Call the initializer for each block along the output axis, with the block's own shape and fans."""
    dim = output_dim(slot, "split")
    sizes = _sizes(call, captures, slot, dim, scope)
    _check_lists(call, len(sizes))
    filled = [_made(call, captures, _block(slot, dim, size), scope, i) for i, size in enumerate(sizes)]
    arguments = {name: _merged([own[name] for _, own in filled]) for name in filled[0][1]}
    return Blocks(tuple(fill for fill, _ in filled), sizes, dim), arguments


def output_dim(slot: Slot, key: str) -> int:
    """Return the dimension along which a slot's outputs are counted.

    Args:
        slot: of one dimension or more.
        key: the rule's key that asks.

    Raises:
        ResolveError: the slot's axes name no outputs, or several dimensions of them.

    >>> output_dim(Slot("b", (3,)), "split")
    0
    """
    if slot.axes and slot.axes.count("out") != 1:
        fact = f"{key} needs one axis of outputs, and axes [{', '.join(slot.axes)}] have {slot.axes.count('out')}."
        raise ResolveError(Problem("", fact))
    return slot.output_dim if slot.axes or slot.ndim > 1 else 0


def _merged(values: list[Any]) -> Any:
    """One value if all blocks have the same, else a tuple."""
    return values[0] if all(value == values[0] for value in values) else tuple(values)


def _sizes(call: Call, captures: Captures, slot: Slot, dim: int, scope: Scope) -> tuple[int, ...]:
    """Compute the blocks' sizes along the output axis."""
    split = call.rule.split
    if slot.ndim == 0:
        raise ResolveError("split needs a tensor of 1 or more dimensions.")
    total = slot.shape[dim]
    if isinstance(split, int):
        if total % split:
            fact = f"{split} does not divide dimension {dim}, which is {total}."
            raise ResolveError(Problem("split", fact, fix="List the sizes."))
        return (total // split,) * split
    facts = scope.facts(slot, captures, call.numbers)
    with about("split"):
        values = [number(expression, facts) for expression in split or ()]
    sizes = tuple(int(value) for value in values)
    if sizes != tuple(values) or min(sizes) < 1 or sum(sizes) != total:
        given = ", ".join(f"{value:g}" for value in values)
        raise ResolveError(Problem("split", f"the sizes [{given}] must be positive integers that add up to {total}."))
    return sizes


def _check_lists(call: Call, blocks: int) -> None:
    """Refuse a list for one number that does not have one value per block."""
    for name, values in call.lists.items():
        if len(values) != blocks:
            fact = f"{len(values)} values for {blocks} blocks."
            raise ResolveError(Problem(f"argument {name!r}", fact, fix="Write one per block."))


def _block(slot: Slot, dim: int, size: int) -> Slot:
    """A block of a slot: its shape, and the fans that follow from it."""
    share = size / slot.shape[dim]
    shape = (*slot.shape[:dim], size, *slot.shape[dim + 1 :])
    if slot.axes and (count := axis_fans(shape, slot.axes, slot.meaning)):
        return replace(
            slot,
            shape=shape,
            fan_in=count.fan_in,
            fan_out=count.fan_out,
            effective_fan_in=count.effective_in,
            effective_fan_out=count.effective_out,
        )
    fans: dict[str, Any] = {}
    # torch's fan_in counts the weight's second dimension, whatever it means; a bias has its weight's.
    counted = "fan_in" if slot.output_dim else "fan_out"
    if (whole := getattr(slot, counted)) is not None:
        fans[counted] = round(whole * share)
    if slot.effective_fan_out is not None:
        fans["effective_fan_out"] = slot.effective_fan_out * slot.fused * share
    held = replace(slot.meaning, groups=max(1, round(slot.meaning.groups * share)))
    return replace(slot, shape=shape, fused=1, meaning=held, **fans)


def companions(match: Match, slot: Slot, scope: Scope) -> dict[str, float]:
    """Evaluate what a rule needs besides a tensor's values, by name.

    Args:
        match: the rule that won.
        slot: the tensor, as the rule reads it.
        scope: recipe and model.

    Raises:
        ResolveError: a number has no value.
    """
    facts, found = scope.facts(slot, match.captures), {}
    for name, expression in match.rule.companions.items():
        with about(f"companion {name!r}"):
            found[name] = number(expression, facts)
    return found
