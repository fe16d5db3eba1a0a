"""Fills that give every element from its own index alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from initframe import stream
from initframe.errors import Problem
from initframe.fills.fill import FARTHEST, Fill
from initframe.model.slot import Slot


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

    @property
    def reach(self) -> float:
        """``|value|``."""
        return abs(self.value)

    def suits(self, slot: Slot) -> bool:
        """A counter can be set back to zero."""
        return slot.resettable and self.value == 0

    @property
    def torch_init(self) -> tuple[str, tuple[Any, ...]]:
        """``constant_``."""
        return "constant_", (self.value,)

    def undrawable(self) -> None:
        """Nothing is drawn."""


@dataclass(frozen=True)
class Uniform(Fill):
    """U(low, high): mean (low+high)/2, std (high−low)/√12.

    >>> Uniform(0, 3).mean
    1.5
    """

    low: float = 0.0
    high: float = 1.0
    distribution: ClassVar[str] = "uniform"

    @property
    def mean(self) -> float:
        """(low+high)/2."""
        return (self.low + self.high) / 2

    @property
    def std(self) -> float:
        """(high−low)/√12."""
        return (self.high - self.low) / math.sqrt(12)

    @property
    def reach(self) -> float:
        """The bound that is farther from 0."""
        return max(abs(self.low), abs(self.high))

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
    distribution: ClassVar[str] = "normal"

    @property
    def reach(self) -> float:
        """``|mean| + 6.67·std``."""
        return abs(self.mean) + FARTHEST * self.std


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
    distribution: ClassVar[str] = "truncated_normal"

    @property
    def mean(self) -> float:
        """Loc + scale·(φ(a)−φ(b))/Z with a, b the bounds in units of scale."""
        return self.loc + self.scale * self._moments()[0]

    @property
    def std(self) -> float:
        """scale·√(1 + (aφ(a)−bφ(b))/Z − ((φ(a)−φ(b))/Z)²)."""
        return self.scale * math.sqrt(max(self._moments()[1], 0.0))

    @property
    def reach(self) -> float:
        """The bound that is farther from 0."""
        return max(abs(self.low), abs(self.high))

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
class Mapped(Fill):
    """The face of fills whose every element is a function of its own random number.

    Derive a frozen dataclass from it, with ``transform``, ``mean`` and ``std``; ``draws`` and ``reach`` where the
    defaults do not say it.

    >>> @dataclass(frozen=True)
    ... class Cauchy(Mapped):
    ...     scale: float = 1.0
    ...     mean = std = math.nan
    ...     def transform(self, drawn):
    ...         return self.scale * torch.tan(torch.pi * (drawn - 0.5))
    >>> print(Cauchy(0.1))
    cauchy(0.1)
    """

    @property
    def draws(self) -> tuple[str, tuple[float, ...]]:
        """What is drawn for each element: a distribution of the stream and its arguments; a uniform in (0, 1)."""
        return "uniform", (0.0, 1.0)

    def transform(self, drawn: Tensor) -> Tensor:
        """Compute the values, element by element.

        Args:
            drawn: one float32 number per element, of any part of the tensor and on its device.

        Returns:
            The values, of the same shape; rounded to the tensor's dtype by the one who writes them.
        """
        raise NotImplementedError

    def undrawable(self) -> str | None:
        """Say why what is drawn cannot be drawn; ``None`` if it can."""
        found = stream.check(*self.draws)
        return f"it cannot be drawn: {found}" if found else None

    def trial(self, device: torch.device) -> Problem | None:
        """Try the function on three numbers."""
        drawn = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float32, device=device)
        try:
            values: Any = self.transform(drawn)
        except Exception as error:  # noqa: BLE001  # a function of the user's own may raise anything
            return Problem(str(self), f"it fails with {type(error).__name__}: {error}.")
        return wrong_values(self, values, (3,), "Return one value for each number that is drawn.")


@dataclass(frozen=True)
class Elementwise(Mapped):
    """A distribution of your own: every element is ``fn(u)`` of its own uniform u in (0, 1).

    A class that derives from :class:`Mapped` says the same as data, which can be compared, pickled and recorded.

    Args:
        fn: maps a float32 tensor of uniforms to values of the same shape, element by element. Torch's logarithm and its
            like differ from processor to processor in float32: take them in float64 if no bit may differ.
        mean: the distribution's mean.
        std: the distribution's standard deviation.

    >>> Elementwise(lambda u: -u.log(), mean=1.0, std=1.0).std
    1.0
    """

    fn: Callable[[Tensor], Tensor]
    mean: float
    std: float

    def transform(self, drawn: Tensor) -> Tensor:
        """fn(u)."""
        return self.fn(drawn)


def wrong_values(fill: Fill, values: Any, shape: tuple[int, ...], fix: str) -> Problem | None:
    """Say why what a fill's own code gave cannot be written.

    Args:
        fill: whose code it is.
        values: what it gave.
        shape: what it should have.
        fix: what to do about another shape.
    """
    if not isinstance(values, Tensor):
        return Problem(str(fill), f"it gives a {type(values).__name__}.", fix="Return a tensor.")
    if tuple(values.shape) != shape:
        return Problem(str(fill), f"it gives values of shape {list(values.shape)} for {list(shape)}.", fix=fix)
    if values.is_complex():
        return Problem(str(fill), f"it gives {values.dtype}.", fix="Return real numbers.")
    return None
