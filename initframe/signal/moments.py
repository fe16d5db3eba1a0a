"""Means of products of two elements: numbers where all positions are alike, tensors where they fall into classes.

Most tensors have one class of positions. Their moments are Python floats, which cost a fiftieth of what a tensor of one
element costs; under a causal mask there are several classes, and the same formulas run on tensors. What the two have no
common spelling for is here.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

from torch import Tensor

Number = float | Tensor
"""Of one class of positions a float; of P classes a tensor of shape (P,), or (P, P) for pairs of them."""
Either = TypeVar("Either", float, Tensor, Number)


class Moments(NamedTuple):
    """Means of products of two elements of one channel, by class of positions (P); second moments, not centered.

    Attributes:
        mean: of an element.
        square: of an element with itself.
        same: with the same position of another input.
        near: with another position of the same input, for pairs of classes.
        far: with another position of another input, for pairs of classes.
        field: (R/2 + 1, R) or ``None``: with the position at an offset, of the same input (:mod:`.fields`).
    """

    mean: Number
    square: Number
    same: Number
    near: Number
    far: Number
    field: Tensor | None = None

    @property
    def classes(self) -> int:
        """The number of classes of positions."""
        return 1 if isinstance(self.mean, float) else self.mean.shape[0]

    def weighted(self, weights: Tensor) -> Moments:
        """Of one class: averages over classes, each with its weight; weights add up to 1."""
        if isinstance(self.mean, float):
            return self
        pairs = weights[:, None] * weights[None, :]
        mean, square, same = ((weights * x).sum().item() for x in self[:3])
        near, far = ((pairs * x).sum().item() for x in self[3:5])
        return Moments(mean, square, same, near, far, self.field)

    def averages(self) -> Moments:
        """Of one class: averages over classes, all with the same weight."""
        mean, square, same, near, far = map(average, self[:5])
        return Moments(mean, square, same, near, far, self.field)

    def scaled(self, factor: float, shift: float) -> Moments:
        """Of one class: of the elements times a number, plus a number.

        >>> moments_of(1.0, 2.0, 1.5).scaled(2.0, 1.0)[:3]
        (3.0, 13.0, 11.0)
        """
        square, more = factor * factor, shift * (2 * factor * average(self.mean) + shift)
        field = None if self.field is None else self.field * square + more
        squares, same, near, far = (square * x + more for x in (self.square, self.same, self.near, self.far))
        return Moments(factor * self.mean + shift, squares, same, near, far, field)

    def times(self, factor: float) -> Moments:
        """Of the elements times independent numbers whose mean square is ``factor``; the mean becomes zero."""
        field = None if self.field is None else self.field * factor
        zero = self.mean * 0.0
        return Moments(zero, self.square * factor, self.same * factor, self.near * factor, self.far * factor, field)

    def plus(self, mean: float, square: float) -> Moments:
        """Plus one independent number per channel, the same at every position and for every input."""
        each = 2 * mean * self.mean + square
        pairs = mean * sums(self.mean, self.mean) + square
        field = None if self.field is None else self.field + average(each)
        return Moments(
            self.mean + mean, self.square + each, self.same + each, self.near + pairs, self.far + pairs, field
        )


def moments_of(mean: float, square: float, same: float = 0.0, near: float = 0.0, far: float = 0.0) -> Moments:
    """Moments of one class of positions.

    >>> moments_of(0, 4).square
    4.0
    """
    return Moments(float(mean), float(square), float(same), float(near), float(far))


def plain(value: Number) -> Number:
    """A tensor of one element as a float, anything else as it is."""
    return value if isinstance(value, float) or value.numel() > 1 else value.item()


def at_least(value: Number, low: float) -> Number:
    """The larger of a number and a bound; what is no number stays none."""
    return max(value, low) if isinstance(value, float) else value.clamp_min(low)


def within(value: Number, low: float, high: float) -> Number:
    """A number, held between two bounds."""
    return min(max(value, low), high) if isinstance(value, float) else value.clamp(low, high)


def root(value: Number) -> Number:
    """The square root; of what is negative by rounding, 0."""
    return math.sqrt(max(value, 0.0)) if isinstance(value, float) else value.clamp_min(0).sqrt()


def average(value: Number) -> float:
    """The mean over classes."""
    return value if isinstance(value, float) else value.mean().item()


def products(one: Number, other: Number) -> Number:
    """Products of all pairs of classes.

    >>> products(2.0, 3.0)
    6.0
    """
    if isinstance(one, float) or isinstance(other, float):
        return one * other
    return one[:, None] * other[None, :]


def sums(one: Number, other: Number) -> Number:
    """Sums of all pairs of classes."""
    if isinstance(one, float) or isinstance(other, float):
        return one + other
    return one[:, None] + other[None, :]


def diagonal(value: Number) -> Number:
    """Of pairs of classes, those of a class with itself."""
    return value if isinstance(value, float) else value.diagonal()


def column(value: Number) -> Number:
    """A number per class, to be multiplied with a grid's values."""
    return value if isinstance(value, float) else value[:, None]
