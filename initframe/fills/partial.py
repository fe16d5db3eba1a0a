"""A fill for some units of a layer only; the others keep their values."""

from __future__ import annotations

import math
from dataclasses import dataclass

from initframe.fills.fill import Fill, Shape


@dataclass(frozen=True)
class Partial(Fill):
    """``fill`` at some indices along one dimension, with the numbers that the whole would have there.

    Attributes:
        fill: of the whole tensor.
        units: the indices, ascending.
        dim: the dimension.

    >>> from initframe.fills import Normal
    >>> str(Partial(Normal(0.0, 0.02), (3, 17)))
    'normal(0, 0.02) for 2 units'
    """

    fill: Fill
    units: tuple[int, ...]
    dim: int = 0

    @property
    def inner(self) -> tuple[Fill, ...]:
        """The fill of the whole."""
        return (self.fill,)

    @property
    def needs_current(self) -> bool:
        """Always true: the other units keep their values."""
        return True

    @property
    def mean(self) -> float:
        """NaN: it depends on the other units."""
        return math.nan

    @property
    def std(self) -> float:
        """NaN: it depends on the other units."""
        return math.nan

    @property
    def reach(self) -> float:
        """The fill's."""
        return self.fill.reach

    def misshapen(self, shape: Shape) -> str | None:
        """Say that the units are outside of the shape; ``None`` if they are not."""
        size = dict(enumerate(shape)).get(self.dim, 0)
        if not self.units or not 0 <= min(self.units) <= max(self.units) < size:
            return f"units are counted from 0 to {size - 1} along dimension {self.dim} of {list(shape)}."
        return None

    def undrawable(self) -> None:
        """The fill inside answers for itself."""

    def __str__(self) -> str:
        return f"{self.fill} for {len(self.units)} unit{'' if len(self.units) == 1 else 's'}"
