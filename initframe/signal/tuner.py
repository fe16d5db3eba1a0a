"""The factors of calibration, one weight after the other: the numbers alone, whether they are measured or predicted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from initframe.plan import Assignment

CLOSE = 0.05
"""How far from the target an output may be, relatively."""


@dataclass(frozen=True)
class Calibrated:
    """What was found for one weight.

    Attributes:
        name: the weight's name.
        factor: what its values are multiplied by; 1 if it is left.
        before: the output's rms without the factor, at the weight's first call.
        after: with it.
        reason: why the weight is left or off the target; empty if neither.
    """

    name: str
    factor: float
    before: float
    after: float
    reason: str = ""


@dataclass
class Tuner:
    """Finds factors, one weight after the other.

    Attributes:
        able: the assignments of the weights that get a factor.
        left: those that were asked for and get none, with the reason; what is in neither stays as it is.
        target: the rms of every output.
        rows: what was found so far, in order.
    """

    able: Mapping[str, Assignment]
    left: Mapping[str, str]
    target: float
    rows: dict[str, Calibrated] = field(default_factory=dict)

    def factor(self, name: str, part: float, cross: float, bias: float) -> float:
        """The factor of a weight whose output has mean square part·f² + 2·cross·f + bias; its first call decides.

        Args:
            name: of the weight.
            part: the mean square of what the weight makes.
            cross: the mean product with the bias.
            bias: the bias's mean square.
        """
        if name in self.rows:
            return self._again(name, part, cross, bias)
        if name not in self.able and name not in self.left:
            return 1.0
        before = math.sqrt(max(part + 2 * cross + bias, 0.0))
        if name in self.left:
            self.rows[name] = Calibrated(name, 1.0, before, before, self.left[name])
            return 1.0
        factor, reason = _solved(part, cross, bias - self.target**2)
        after = math.sqrt(max(part * factor**2 + 2 * cross * factor + bias, 0.0))
        self.rows[name] = Calibrated(name, factor, before, after, reason)
        return factor

    def _again(self, name: str, part: float, cross: float, bias: float) -> float:
        row = self.rows[name]
        after = math.sqrt(max(part * row.factor**2 + 2 * cross * row.factor + bias, 0.0))
        if not row.reason and abs(after / self.target - 1) > CLOSE:
            reason = f"its first call decides; a later call gives rms {after:.3g}."
            self.rows[name] = replace(row, reason=reason)
        return row.factor


def _solved(a: float, b: float, c: float) -> tuple[float, str]:
    """The positive root of a·f² + 2·b·f + c, or 1 and the reason that there is none."""
    if not all(map(math.isfinite, (a, b, c))):
        return 1.0, "its output is not finite."
    if a <= 0:
        return 1.0, "its output is zero: its input is."
    root = b * b - a * c
    factor = (-b + math.sqrt(root)) / a if root >= 0 else -1.0
    return (factor, "") if factor > 0 else (1.0, "its bias alone is larger than the target.")
