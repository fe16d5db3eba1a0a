"""Rectified normals in closed form."""

from __future__ import annotations

import math
from functools import cached_property

from torch import Tensor
from torch.nn import functional

from initframe.signal.hermite import ORDER, Z
from initframe.signal.laws import Law, Line, Powers


class Rectified(Law):
    """A rectified normal, max(x, leak·x), in closed form: on the grid, its kink would cost 10⁻⁴.

    Of r = max(x, 0), E rⁿ = mean·E rⁿ⁻¹ + (n − 1)·std²·E rⁿ⁻², from P(x > 0) = Φ(mean/std) on; its Hermite coefficients
    from order 2 on are those of its second derivative, a peak at the kink.

    Args:
        mean: of x.
        std: of x; positive.
        leak: the slope below zero.

    >>> Rectified(0.0, 1.0).share_of(0.0), round(Rectified(0.0, 1.0).series()[0][0] ** 2 * 2 * math.pi, 12)
    (0.5, 1.0)
    """

    def __init__(self, mean: float, std: float, leak: float = 0.0) -> None:
        self.mean, self.std, self.leak = mean, std, leak
        self.place = mean / std
        self.positive = 0.5 * math.erfc(-self.place / math.sqrt(2))
        self.density = math.exp(-0.5 * self.place * self.place) / math.sqrt(2 * math.pi)

    def _made(self) -> Tensor:
        return self.at(Z)[None]

    @property
    def _rectified(self) -> tuple[float, float]:
        """The mean of max(x, 0) and of its square."""
        first = self.mean * self.positive + self.std * self.density
        return first, self.mean * first + self.std * self.std * self.positive

    @cached_property
    def powers(self) -> Powers:
        """Means of an element and of its second, third and fourth power, in closed form."""
        first, second = self._rectified
        variance = self.std * self.std
        third = self.mean * second + 2 * variance * first
        own = (first, second, third, self.mean * third + 3 * variance * second)
        if not self.leak:
            return own
        shares = [self.leak**n for n in range(1, 5)]
        line = Line(self.mean, self.std).powers
        a, b, c, d = (s * x + (1 - s) * r for s, x, r in zip(shares, line, own, strict=True))
        return a, b, c, d

    def share_of(self, value: float) -> float:
        """The share of elements that are exactly a number: where x is negative, without a leak, all are zero."""
        return 0.0 if self.leak or value else 1 - self.positive

    def at(self, z: Tensor) -> Tensor:
        """The element where the normal is z."""
        return functional.leaky_relu(z * self.std + self.mean, self.leak)

    def series(self) -> tuple[list[float], float]:
        """The Hermite coefficients and the mean square, in closed form."""
        first, second = self._rectified
        bent, leak = 1 - self.leak, self.leak
        coefficients = [bent * first + leak * self.mean, self.std * (bent * self.positive + leak)]
        before, now = 0.0, bent * self.std * self.density / math.sqrt(2)
        for one, two in _RECURSION:
            coefficients.append(now)
            before, now = now, -self.place * one * now - two * before
        square = leak * leak * (self.mean * self.mean + self.std * self.std)
        return coefficients, square + (1 - leak * leak) * second


_RECURSION = [(1 / math.sqrt(n + 1), (n - 2) / math.sqrt(n * (n + 1))) for n in range(2, ORDER + 1)]
"""That of the Hermite polynomials of order n − 2, each over √n!."""
