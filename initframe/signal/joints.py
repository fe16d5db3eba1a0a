"""Laws of sums, products and mixtures, and of samples: moments first, values when somebody asks for them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from initframe.signal.hermite import W
from initframe.signal.laws import Law, Powers


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
