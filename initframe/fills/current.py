"""Fills that start from the values that are there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from initframe.fills.fill import Fill


@dataclass(frozen=True)
class OnCurrent(Fill):
    """The common face of fills that start from the values that are there; their moments are not known beforehand."""

    @property
    def needs_current(self) -> bool:
        """They do."""
        return True

    @property
    def mean(self) -> float:
        """NaN: not known beforehand."""
        return math.nan

    @property
    def std(self) -> float:
        """NaN: not known beforehand."""
        return math.nan

    def apply(self, current: Tensor, normal: Callable[[], Tensor]) -> Tensor:
        """New values from the current ones (float32 or wider) and, where asked for, N(0, 1) noise of the same shape."""
        raise NotImplementedError


@dataclass(frozen=True)
class Keep(OnCurrent):
    """The tensor stays as it is, on purpose."""

    def apply(self, current: Tensor, normal: Callable[[], Tensor]) -> Tensor:  # noqa: ARG002
        """The current values."""
        return current


@dataclass(frozen=True)
class Shift(OnCurrent):
    """Current values plus ``by``."""

    by: float

    def apply(self, current: Tensor, normal: Callable[[], Tensor]) -> Tensor:  # noqa: ARG002
        """W + by."""
        return current + self.by


@dataclass(frozen=True)
class Scale(OnCurrent):
    """Current values times ``by``."""

    by: float

    def apply(self, current: Tensor, normal: Callable[[], Tensor]) -> Tensor:  # noqa: ARG002
        """W·by."""
        return current * self.by


@dataclass(frozen=True)
class ShrinkPerturb(OnCurrent):
    """shrink·W + N(0, noise²), drawn from the purpose ``"perturb"`` (Ash & Adams 2020)."""

    shrink: float
    noise: float

    def apply(self, current: Tensor, normal: Callable[[], Tensor]) -> Tensor:
        """shrink·W + noise·z."""
        return current * self.shrink + normal() * self.noise
