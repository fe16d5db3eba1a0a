"""The normal variables behind elements, and how those of two elements are correlated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from initframe.signal.hermite import evaluated, powers
from initframe.signal.moments import Moments, Number, average
from initframe.signal.quantiles import place


@dataclass(frozen=True, eq=False)
class Correlations:
    """Correlations of z between two elements; attributes are those of :class:`~initframe.signal.moments.Moments`."""

    same: Number
    near: Number
    far: Number
    field: Tensor | None = None

    @cached_property
    def powers(self) -> Tensor | None:
        """The powers of the field: several functions of a normal ask."""
        return None if self.field is None else powers(self.field)


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
    curve = evaluated(squares, _POWERS).cummax(0).values
    targets, field = torch.tensor([*map(average, moments[2:5])], dtype=torch.float64, device="cpu"), moments.field
    if field is not None:
        targets = torch.cat([targets, field.reshape(-1)])
    found = place(targets, curve).mul_(2 / (len(curve) - 1)).sub_(1)
    same, near, far = found[:3].tolist()
    return Correlations(same, near, far, None if field is None else found[3:].view(field.shape))


_POWERS = powers(torch.linspace(-1, 1, 401, dtype=torch.float64, device="cpu"))
"""Of evenly spaced correlations: what gives the curve from them to a mean product, which is read backwards."""
