"""Fills that give every element from its own index alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from initframe.fills.fill import Fill


@dataclass(frozen=True)
class Constant(Fill):
    """Every element is ``value``.

    >>> Constant(8).mean, Constant(8).std
    (8, 0.0)
    """

    value: float

    @property
    def mean(self) -> float:
        """The value itself."""
        return self.value

    @property
    def std(self) -> float:
        """0."""
        return 0.0


@dataclass(frozen=True)
class Uniform(Fill):
    """U(low, high): mean (low+high)/2, std (high−low)/√12.

    >>> Uniform(0, 3).mean
    1.5
    """

    low: float = 0.0
    high: float = 1.0
    law: ClassVar[str] = "uniform"

    @property
    def mean(self) -> float:
        """(low+high)/2."""
        return (self.low + self.high) / 2

    @property
    def std(self) -> float:
        """(high−low)/√12."""
        return (self.high - self.low) / math.sqrt(12)

    def __str__(self) -> str:
        return f"uniform(±{self.high:.4g})" if self.low == -self.high else super().__str__()


@dataclass(frozen=True)
class Normal(Fill):
    """N(mean, std²).

    >>> Normal(0, 0.02).std
    0.02
    """

    mean: float = 0.0
    std: float = 1.0
    law: ClassVar[str] = "normal"


@dataclass(frozen=True)
class TruncatedNormal(Fill):
    """N(loc, scale²) cut to [low, high], bounds absolute as in ``torch.nn.init.trunc_normal_``.

    >>> round(TruncatedNormal(0, 1, -2, 2).std, 5)
    0.87963
    """

    loc: float = 0.0
    scale: float = 1.0
    low: float = -2.0
    high: float = 2.0
    law: ClassVar[str] = "truncated_normal"

    @property
    def mean(self) -> float:
        """Loc + scale·(φ(a)−φ(b))/Z with a, b the bounds in units of scale."""
        return self.loc + self.scale * self._moments()[0]

    @property
    def std(self) -> float:
        """scale·√(1 + (aφ(a)−bφ(b))/Z − ((φ(a)−φ(b))/Z)²)."""
        return self.scale * math.sqrt(max(self._moments()[1], 0.0))

    def _moments(self) -> tuple[float, float]:
        """Mean and variance of the standard normal cut to [a, b]."""
        if self.scale == 0:
            return 0.0, 0.0
        a, b = (self.low - self.loc) / self.scale, (self.high - self.loc) / self.scale
        if a > 0:  # erfc keeps its digits in the upper tail, so a cut above the mean is mirrored there
            mean, variance = TruncatedNormal(0, 1, -b, -a)._moments()  # noqa: SLF001
            return -mean, variance
        mass = (math.erfc(-b / math.sqrt(2)) - math.erfc(-a / math.sqrt(2))) / 2
        if mass <= 0:
            return math.nan, math.nan
        pdf_a, pdf_b = (math.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in (a, b))
        mean = (pdf_a - pdf_b) / mass
        edges = (a * pdf_a if pdf_a else 0.0) - (b * pdf_b if pdf_b else 0.0)
        return mean, 1 + edges / mass - mean * mean


@dataclass(frozen=True)
class Elementwise(Fill):
    """A law of your own: every element is ``fn(u)`` of its own uniform u in (0, 1).

    Args:
        fn: maps a float32 tensor of uniforms to values of the same shape, element by element. Torch's logarithm and its
            like differ from processor to processor in float32: take them in float64 where no bit may.
        mean: the law's mean.
        std: the law's standard deviation.

    >>> Elementwise(lambda u: -u.log(), mean=1.0, std=1.0).std
    1.0
    """

    fn: Callable[[Tensor], Tensor]
    mean: float
    std: float
