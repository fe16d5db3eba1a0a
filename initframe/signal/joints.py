"""Laws of sums, products and mixtures, and of samples: moments first, values when somebody asks for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from initframe.signal.hermite import W, Z, evaluated, powers
from initframe.signal.laws import Law, Powers
from initframe.signal.quantiles import place


class Joint(Law):
    """A law of one class whose moments are known before its values are.

    Args:
        quantiles: gives values that are like those, but for a factor and a shift.
        mean: of an element.
        square: its mean square.
        powers: these two, and the mean of its third and fourth power, if they are known.
        zeros: the share of exact zeros, if it is known.
    """

    def __init__(
        self,
        quantiles: Callable[[], Tensor],
        mean: float,
        square: float,
        powers: Powers | None = None,
        zeros: float | None = None,
    ) -> None:
        self.quantiles, self.mean, self.square, self.zeros = quantiles, mean, square, zeros
        if powers is not None:
            self.powers = powers

    def _made(self) -> Tensor:
        q = self.quantiles()
        mean, square = torch.dot(q, W).item(), torch.dot(q.square(), W).item()
        scale = math.sqrt(max(self.square - self.mean * self.mean, 0.0) / max(square - mean * mean, 1e-300))
        return q.sub(mean).mul_(scale).add_(self.mean)[None]

    def share_of(self, value: float) -> float:
        """The share of elements that are exactly a number."""
        if self.zeros is None:
            return super().share_of(value)
        return 0.0 if value else self.zeros


class Shared(Law):
    """What many elements of one law have in common: the mean of an element, given a normal that agrees with its own.

    Args:
        law: of an element, of one class.
        square: the mean square of what is shared, which says how well the normals agree.

    >>> from initframe.signal.laws import Line
    >>> round(Shared(Line(0.0, 1.0), 0.25).powers[1], 3)
    0.25
    """

    def __init__(self, law: Law, square: float) -> None:
        self.law, self.square = law, square

    @cached_property
    def correlation(self) -> float:
        """Of the normals of two elements that share this and nothing else."""
        a, square = self.law.series()
        squares = [x * x for x in a]
        curve = evaluated([*squares, max(square - math.fsum(squares), 0.0)], _POWERS).cummax(0).values
        return place(curve.new_tensor([self.square]), curve).item() / (len(curve) - 1)

    def _made(self) -> Tensor:
        c = self.correlation
        z = math.sqrt(c) * Z[:, None] + math.sqrt(1 - c) * Z[None, :]
        return (self.law.at(z) @ W)[None]


_POWERS = powers(torch.linspace(0, 1, 201, dtype=torch.float64, device="cpu"))
"""Of correlations from 0 to 1."""
