"""How an element follows from its normal variable: on a grid of z, or in closed form.

A law's values are made when somebody asks for them. Layers, norms and rows ask for moments, mostly; these follow from
two numbers of a line, and of a sum or a product from those of its parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from initframe.signal.correlations import Correlations
from initframe.signal.hermite import CDF, HERMITE, ORDER, READ, K, W, Z, evaluated, horner, series
from initframe.signal.moments import Moments, Number, average, column, plain, products

_INTERVALS = CDF.diff()
"""How likely it is that a normal variable is between two points of the grid."""


class Law:
    """A function of z by its values.

    Args:
        values: (P, K): the element at each grid point, for each class of positions; or what makes them.
    """

    def __init__(self, values: Tensor | Callable[[], Tensor]) -> None:
        self._values = values
        self._known: tuple[Correlations | None, Moments] | None = None

    @property
    def values(self) -> Tensor:
        """The element at each grid point, for each class of positions: (P, K)."""
        if not isinstance(self._values, Tensor):
            self._values = self._values()
        return self._values

    @property
    def classes(self) -> int:
        """The number of classes of positions."""
        return self.values.shape[0]

    @cached_property
    def higher(self) -> tuple[float, float]:
        """The mean third and fourth power of an element."""
        values = self.values.reshape(-1)
        square = values * values
        weighted = square * (W if self.classes == 1 else W.repeat(self.classes))
        return torch.dot(weighted, values).item() / self.classes, torch.dot(weighted, square).item() / self.classes

    @cached_property
    def zeros(self) -> float:
        """The share of exact zeros: of the intervals of the grid that are zero at both ends."""
        if torch.count_nonzero(self.values).item() == self.values.numel():
            return 0.0
        zero = self.values == 0
        return torch.dot((zero[:, 1:] & zero[:, :-1]).double().mean(0), _INTERVALS).item()

    def scaled(self, factor: Number, shift: Number) -> Law:
        """The law of an element times a number, plus a number, each one for all or one for each class."""
        return Law((self.values * column(factor)).add_(column(shift)))

    def at(self, z: Tensor) -> Tensor:
        """Of the first class, the element where the normal is z: between grid points, on a straight line."""
        place = ((z - Z[0].item()) / (Z[1] - Z[0]).item()).clamp(0, K - 1.001)
        left = place.long()
        f = self.values[0].to(z.dtype)
        return f[left] + (place - left) * f.diff()[left]

    def moments(self, of: Correlations | None) -> Moments:
        """Means of products of two elements; parts of a tensor ask again for the same.

        Args:
            of: the correlations of z; ``None`` if it is the same for all channels and inputs.
        """
        if self._known is None or self._known[0] is not of:
            if of is None:
                known = Line(plain(self.values[:, 0]), 0.0).moments(None)
            else:
                known = self._of_classes(of) if self.classes > 1 else self._of_one(of)
            self._known = of, known
        return self._known[1]

    def series(self) -> tuple[list[float], float]:
        """Of one class, the Hermite coefficients and the mean square."""
        values = self.values[0]
        return (values @ READ).tolist(), torch.dot(values * values, W).item()

    def _of_one(self, of: Correlations) -> Moments:
        """Of one class: the series in the coefficients' squares, in numbers."""
        a, square = self.series()
        coefficients = [x * x for x in a]
        coefficients.append(max(square - math.fsum(coefficients), 0.0))
        same, near, far = (horner(coefficients, average(c)) for c in (of.same, of.near, of.far))
        field = None
        if of.field is not None and of.powers is not None:
            field = evaluated(coefficients, of.powers).view(of.field.shape)
        return Moments(a[0], square, same, near, far, field)

    def _of_classes(self, of: Correlations) -> Moments:
        square = (self.values.square() * W).sum(1)
        a = self.values @ HERMITE.T
        rest = (square - a.square().sum(1)).clamp_min(0).sqrt()
        a = torch.cat([a, rest[:, None]], 1)
        pairs = a[:, None, :] * a[None, :, :]
        same, near, far = (torch.as_tensor(c, dtype=torch.float64, device="cpu") for c in (of.same, of.near, of.far))
        return Moments(a[:, 0], square, series(a * a, same), series(pairs, near), series(pairs, far))


class Line(Law):
    """A normal: mean + std·z.

    Args:
        mean: of an element, for each class of positions.
        std: likewise.

    >>> Line(1.0, 2.0).higher, Line(1.0, 2.0).scaled(3.0, 1.0).mean
    ((13.0, 73.0), 4.0)
    """

    def __init__(self, mean: Number, std: Number) -> None:
        super().__init__(self._made)
        self.mean, self.std = mean, std

    def _made(self) -> Tensor:
        return (Z * column(self.std) + column(self.mean)).reshape(-1, K)

    @property
    def classes(self) -> int:
        """The number of classes of positions."""
        return 1 if isinstance(self.mean, float) else self.mean.shape[0]

    @cached_property
    def higher(self) -> tuple[float, float]:
        """The mean third and fourth power, in closed form."""
        level, slope = self.mean * self.mean, self.std * self.std
        third, fourth = self.mean * (level + 3 * slope), level * (level + 6 * slope) + 3 * slope * slope
        return average(third), average(fourth)

    @cached_property
    def zeros(self) -> float:
        """The share of exact zeros: a constant may be one."""
        return average(1.0 * ((self.mean == 0) & (self.std == 0)))

    def scaled(self, factor: Number, shift: Number) -> Law:
        """A line again."""
        return Line(self.mean * factor + shift, self.std * factor)

    def at(self, z: Tensor) -> Tensor:
        """Of the first class, the element where the normal is z."""
        mean, std = (x if isinstance(x, float) else x[0].item() for x in (self.mean, self.std))
        return z * std + mean

    def moments(self, of: Correlations | None) -> Moments:
        """Means of products of two elements: mean² + std²·c."""
        mean, std = self.mean, self.std
        level, levels = mean * mean, products(mean, mean)
        if of is None:
            return Moments(mean, level, level, levels, levels)
        slope, slopes = std * std, products(std, std)
        field = None if of.field is None else of.field * average(slopes) + average(levels)
        near, far = levels + slopes * of.near, levels + slopes * of.far
        return Moments(mean, level + slope, level + slope * of.same, near, far, field)


class Rectified(Law):
    """A rectified normal, max(x, leak·x), in closed form: on the grid, its kink would cost 10⁻⁴.

    Of r = max(x, 0), E rⁿ = mean·E rⁿ⁻¹ + (n − 1)·std²·E rⁿ⁻², from P(x > 0) = Φ(mean/std) on; its Hermite coefficients
    from order 2 on are those of its second derivative, a peak at the kink.

    Args:
        mean: of x.
        std: of x; positive.
        leak: the slope below zero.

    >>> Rectified(0.0, 1.0).zeros, round(Rectified(0.0, 1.0).series()[0][0] ** 2 * 2 * math.pi, 12)
    (0.5, 1.0)
    """

    classes = 1

    def __init__(self, mean: float, std: float, leak: float = 0.0) -> None:
        super().__init__(lambda: self.at(Z)[None])
        self.mean, self.std, self.leak = mean, std, leak
        self.place = mean / std
        self.positive = 0.5 * math.erfc(-self.place / math.sqrt(2))
        self.density = math.exp(-0.5 * self.place * self.place) / math.sqrt(2 * math.pi)

    @cached_property
    def higher(self) -> tuple[float, float]:
        """The mean third and fourth power, in closed form."""
        mean, variance = self.mean, self.std * self.std
        first, second = self._rectified
        third = mean * second + 2 * variance * first
        fourth = mean * third + 3 * variance * second
        whole = Line(mean, self.std).higher
        a, b = self.leak**3, self.leak**4
        return a * whole[0] + (1 - a) * third, b * whole[1] + (1 - b) * fourth

    @property
    def _rectified(self) -> tuple[float, float]:
        """The mean of max(x, 0) and of its square."""
        first = self.mean * self.positive + self.std * self.density
        return first, self.mean * first + self.std * self.std * self.positive

    @cached_property
    def zeros(self) -> float:
        """The share of exact zeros: how likely x is negative."""
        return 0.0 if self.leak else 1 - self.positive

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


def law_of(values: Tensor) -> Law:
    """The law with the given values: a line if they are affine in z, else a table of them.

    Args:
        values: (P, K): for each class of positions.

    >>> law = law_of(3 * Z[None] + 1)
    >>> isinstance(law, Line) and round(law.mean, 9)
    1.0
    """
    if not _is_affine(values):
        return Law(values)
    middle, end = values[:, K // 2], values[:, -1]
    return Line(plain(middle), plain((end - middle) / Z[-1]))


def _is_affine(values: Tensor) -> bool:
    """Whether values are affine in z; most that are not show it at five points."""
    if values.shape[0] == 1:
        a, b, c, d, e = values[0, :: K // 4].tolist()
        if max(abs(a - 2 * b + c), abs(b - 2 * c + d), abs(c - 2 * d + e)) > 1e-6 * max(map(abs, (a, b, c, d, e))):
            return False
    bend = (values[:, 2:] - 2 * values[:, 1:-1] + values[:, :-2]).abs().amax()
    return bool(bend <= 1e-9 * values.abs().amax().clamp_min(1e-300))


class Joint(Law):
    """A law of one class of which mean powers are known before its values are.

    Args:
        quantiles: gives values that are like those, but for a factor and a shift.
        powers: the mean of an element and of its square; of its third and fourth power, too, if they are known.
        zeros: the share of exact zeros, if it is known.
    """

    classes = 1

    def __init__(self, quantiles: Callable[[], Tensor], powers: tuple[float, ...], zeros: float | None = None) -> None:
        super().__init__(self._matched)
        self.quantiles, self.mean, self.square = quantiles, powers[0], powers[1]
        if len(powers) == 4:
            self.higher = powers[2], powers[3]
        if zeros is not None:
            self.zeros = zeros

    def _matched(self) -> Tensor:
        q = self.quantiles()
        mean, square = torch.dot(q, W).item(), torch.dot(q.square(), W).item()
        scale = math.sqrt(max(self.square - self.mean * self.mean, 0.0) / max(square - mean * mean, 1e-300))
        return q.sub(mean).mul_(scale).add_(self.mean)[None]

    def scaled(self, factor: Number, shift: Number) -> Law:
        """The same with other powers."""
        if isinstance(factor, Tensor) or isinstance(shift, Tensor):
            return super().scaled(factor, shift)
        third, fourth = self.__dict__.get("higher", (0.0, 0.0))
        own = (factor * self.mean, factor**2 * self.square, factor**3 * third, factor**4 * fourth)
        powers = added(own, (shift, shift**2, shift**3, shift**4))
        known = powers if "higher" in self.__dict__ else powers[:2]
        return Joint(lambda: self.values[0] * factor + shift, known, self.zeros if shift == 0 else 0.0)


Powers = tuple[float, float, float, float]
"""Means of an element and of its second, third and fourth power."""


def added(x: Powers, y: Powers) -> Powers:
    """Mean powers of the sum of two independent elements.

    >>> added((0.0, 1.0, 0.0, 3.0), (0.0, 1.0, 0.0, 3.0))
    (0.0, 2.0, 0.0, 12.0)
    """
    return (
        x[0] + y[0],
        x[1] + 2 * x[0] * y[0] + y[1],
        x[2] + 3 * x[1] * y[0] + 3 * x[0] * y[1] + y[2],
        x[3] + 4 * x[2] * y[0] + 6 * x[1] * y[1] + 4 * x[0] * y[2] + y[3],
    )
