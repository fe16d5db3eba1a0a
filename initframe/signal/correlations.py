"""The normal variables behind elements, and how those of two elements are correlated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from initframe.signal.fields import half, whole
from initframe.signal.hermite import ORDER, powers
from initframe.signal.moments import Moments, Number, average
from initframe.signal.quantiles import interpolate


@dataclass(frozen=True, eq=False)
class Correlations:
    """Correlations of z between two elements; attributes are those of :class:`~initframe.signal.moments.Moments`."""

    same: Number
    near: Number
    far: Number
    field: Tensor | None = None

    @cached_property
    def powers(self) -> Tensor | None:
        """The powers of the field's half: several functions of a normal ask."""
        return None if self.field is None else powers(half(self.field))


class Source:
    """A normal variable per element; compared by identity.

    Args:
        correlations: between elements, or what finds them when they are asked for.
    """

    def __init__(self, correlations: Correlations | Callable[[], Correlations]) -> None:
        self._correlations = correlations

    @property
    def correlations(self) -> Correlations:
        """The correlations between elements."""
        if not isinstance(self._correlations, Correlations):
            self._correlations = self._correlations()
        return self._correlations

    def another(self) -> Source:
        """A normal of other elements, which are correlated likewise."""
        return Source(lambda: self.correlations)


def matching(series: tuple[list[float], float], moments: Moments) -> Correlations:
    """The correlations at which a function of a normal has the given moments.

    Args:
        series: the function's Hermite coefficients and its mean square.
        moments: of one class of positions.
    """
    squares = [a * a for a in series[0]]
    squares.append(max(series[1] - sum(squares), 0.0))
    targets = torch.tensor([*squares, *map(average, moments[2:5])], dtype=torch.float64, device="cpu")
    curve = (targets[: ORDER + 2] @ _POWERS).cummax(0).values
    numbers, field = targets[ORDER + 2 :], moments.field
    if field is not None:
        numbers = torch.cat([numbers, half(field)])
    found = interpolate(numbers, curve, _CORRELATIONS)
    same, near, far = found[:3].tolist()
    return Correlations(same, near, far, None if field is None else whole(found[3:], field))


_CORRELATIONS = torch.linspace(-1, 1, 401, dtype=torch.float64, device="cpu")
_POWERS = powers(_CORRELATIONS)
"""What gives the curve from a correlation to a mean product, which is read backwards."""
