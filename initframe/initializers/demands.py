"""What initializers demand of a slot and of their numbers."""

from __future__ import annotations

from collections.abc import Sequence

from initframe.errors import Problem, ResolveError
from initframe.fills.whole import dimensions
from initframe.model.slot import Slot


def refuse(fact: str, fix: str = "", options: str = "") -> ResolveError:
    """Return the error of one problem with the slot at hand; the resolver adds rule and tensor.

    >>> print(refuse("omega must be positive, got 0.").problems[0].fact)
    omega must be positive, got 0.
    """
    return ResolveError(Problem("", fact, options, fix))


def demand_dimensions(slot: Slot, init: str, dims: Sequence[int]) -> None:
    """Refuse a slot with other dimensions.

    Args:
        slot: the tensor.
        init: the initializer's name.
        dims: how many dimensions it takes.

    Raises:
        ResolveError: the slot has more or fewer.

    >>> demand_dimensions(Slot("b", (3,)), "eye", (2,))
    Traceback (most recent call last):
    initframe.errors.ResolveError: eye needs a tensor of 2 dimensions, this one has 1. Add where: ndim == 2.
    """
    if slot.ndim not in dims:
        first, last = min(dims), max(dims)
        fix = f"Add where: ndim {'==' if first == last else '>='} {first}."
        raise refuse(f"{init} needs a tensor of {dimensions(dims)}, this one has {slot.ndim}.", fix)


def demand_fans(slot: Slot) -> tuple[float, float]:
    """Return both fans of a slot.

    Raises:
        ResolveError: the slot has none, or one is not positive.

    >>> demand_fans(Slot("w", (2, 3), fan_in=3, fan_out=2))
    (3, 2)
    """
    if len(slot.shape) < 2 or slot.fan_in is None or slot.fan_out is None:
        fact = f"fan in and fan out need a tensor of 2 or more dimensions, this one has {slot.ndim}."
        raise refuse(fact, "Add where: ndim > 1.")
    if slot.fan_in <= 0 or slot.fan_out <= 0:
        raise refuse(f"the fans must be positive, got fan_in {slot.fan_in:g} and fan_out {slot.fan_out:g}.")
    return slot.fan_in, slot.fan_out


def demand_not_negative(**numbers: float) -> None:
    """Refuse numbers below zero, by name.

    Raises:
        ResolveError: a number is negative or NaN.

    >>> demand_not_negative(std=-1.0)
    Traceback (most recent call last):
    initframe.errors.ResolveError: std must not be negative, got -1.
    """
    for name, number in numbers.items():
        if not number >= 0:
            raise refuse(f"{name} must not be negative, got {number:g}.")


def demand_positive(**numbers: float) -> None:
    """Refuse numbers that are not above zero, by name.

    Raises:
        ResolveError: a number is 0, negative or NaN.

    >>> demand_positive(omega=0.0)
    Traceback (most recent call last):
    initframe.errors.ResolveError: omega must be positive, got 0.
    """
    for name, number in numbers.items():
        if not number > 0:
            raise refuse(f"{name} must be positive, got {number:g}.")
