"""Fills that start from the values that are there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from initframe.errors import Problem
from initframe.fills.elementwise import wrong_values
from initframe.fills.fill import FARTHEST, Fill, is_built_in


@dataclass(frozen=True)
class OnCurrent(Fill):
    """The face of fills that start from the values that are there; their moments are not known beforehand.

    Derive a frozen dataclass from it, with ``apply``.
    """

    needs_current = True
    mean = std = math.nan

    @property
    def reach(self) -> float:
        """0: values that are 0 stay 0."""
        return 0.0

    def undrawable(self) -> None:
        """Nothing is drawn but N(0, 1)."""

    def apply(self, current: Tensor, normal: Callable[[], Tensor]) -> Tensor:
        """Compute new values from the current ones, element by element.

        Args:
            current: the values, in float32 or wider.
            normal: draws N(0, 1), float32 of the same shape, from the purpose ``"perturb"``.

        Returns:
            Values of the same shape; rounded to the tensor's dtype by the one who writes them.
        """
        raise NotImplementedError

    def trial(self, device: torch.device) -> Problem | None:
        """Try ``apply`` on three numbers; initframe's own kinds are left to its tests."""
        if is_built_in(self):
            return None
        current = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float32, device=device)
        try:
            values: Any = self.apply(current.clone(), current.clone)
        except Exception as error:  # noqa: BLE001  # code of the user's own may raise anything
            return Problem(str(self), f"it fails with {type(error).__name__}: {error}.")
        return wrong_values(self, values, (3,), "Return one value for each current one.")


@dataclass(frozen=True)
class Keep(OnCurrent):
    """The tensor stays as it is, on purpose."""

    def apply(self, current: Tensor, normal: Callable[[], Tensor]) -> Tensor:  # noqa: ARG002
        """Return the current values."""
        return current


@dataclass(frozen=True)
class Shift(OnCurrent):
    """Current values plus ``by``."""

    by: float

    @property
    def reach(self) -> float:
        """``|by|``."""
        return abs(self.by)

    def apply(self, current: Tensor, normal: Callable[[], Tensor]) -> Tensor:  # noqa: ARG002
        """Return W + by."""
        return current + self.by


@dataclass(frozen=True)
class Scale(OnCurrent):
    """Current values times ``by``."""

    by: float

    def apply(self, current: Tensor, normal: Callable[[], Tensor]) -> Tensor:  # noqa: ARG002
        """Return W·by."""
        return current * self.by


@dataclass(frozen=True)
class ShrinkPerturb(OnCurrent):
    """shrink·W + N(0, noise²), drawn from the purpose ``"perturb"`` (Ash & Adams 2020)."""

    shrink: float
    noise: float

    @property
    def reach(self) -> float:
        """6.67·noise."""
        return FARTHEST * self.noise

    def apply(self, current: Tensor, normal: Callable[[], Tensor]) -> Tensor:
        """Return shrink·W + noise·z."""
        return current * self.shrink + normal() * self.noise
