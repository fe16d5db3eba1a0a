"""How an element follows from its normal variable: on a grid of z, or in closed form.

A law's values are made when somebody asks for them. Layers, norms and rows ask for moments, mostly; these follow from
two numbers of a line, and of a sum or a product from those of its parts.
"""

from __future__ import annotations

import math
from functools import cached_property
from statistics import fmean

import torch
from torch import Tensor

from initframe.signal.correlations import Correlations
from initframe.signal.hermite import CDF, HERMITE, READ, K, W, Z, evaluated, horner, series
from initframe.signal.moments import Moments, Number, average, column, plain, products

_INTERVALS = CDF.diff().tolist()
"""How likely it is that a normal variable is between two points of the grid."""

Powers = tuple[float, float, float, float]
"""Means of an element and of its second, third and fourth power, over all classes of positions."""


class Law:
    """A function of z; what is written here follows from its values, and kinds of laws know some of it sooner.

    Attributes:
        classes: the number of classes of positions.
    """

    classes: int = 1
    _values: Tensor | None = None

    @property
    def values(self) -> Tensor:
        """The element at each grid point, for each class of positions: (P, K)."""
        if self._values is None:
            self._values = self._made()
        return self._values

    def _made(self) -> Tensor:
        """Make the values."""
        raise NotImplementedError

    @cached_property
    def _projected(self) -> list[list[list[float]]]:
        """The first four powers of the values, each by class, times the Hermite polynomials."""
        found: list[list[list[float]]] = (self.values.expand(4, -1, -1).cumprod(0) @ READ).tolist()
        return found

    @cached_property
    def powers(self) -> Powers:
        """Means of an element and of its second, third and fourth power."""
        first, second, third, fourth = (fmean([row[0] for row in rows]) for rows in self._projected)
        return first, second, third, fourth

    def share_of(self, value: float) -> float:
        """The share of elements that are exactly a number: of the grid's intervals with that number at both ends."""
        share = 0.0
        for row in self.values.tolist():
            if row.count(value) > 1:
                share += sum(w for a, b, w in zip(row, row[1:], _INTERVALS, strict=False) if a == b == value)
        return share / self.classes

    def scaled(self, factor: Number, shift: Number) -> Law:
        """The law of an element times a number, plus a number, each one for all or one for each class."""
        if isinstance(factor, Tensor) or isinstance(shift, Tensor) or self.classes > 1:
            return Table((self.values * column(factor)).add_(column(shift)))
        return Scaled(self, float(factor), float(shift))

    def at(self, z: Tensor) -> Tensor:
        """Of the first class, the element where the normal is z: between grid points, on a straight line."""
        place = ((z - Z[0].item()) / (Z[1] - Z[0]).item()).clamp(0, K - 1.001)
        left = place.long()
        f = self.values[0].to(z.dtype)
        return f[left] + (place - left) * f.diff()[left]

    def moments(self, of: Correlations | None) -> Moments:
        """Means of products of two elements.

        Args:
            of: the correlations of z; ``None`` if it is the same for all channels and inputs.
        """
        if of is None:
            return self._under(None)
        found = of.known.get(self)
        if found is None:
            found = of.known[self] = self._under(of)
        return found

    def series(self) -> tuple[list[float], float]:
        """Of one class, the Hermite coefficients and the mean square."""
        return self._projected[0][0], self._projected[1][0][0]

    def _under(self, of: Correlations | None) -> Moments:
        """Moments under correlations."""
        if of is None:
            return Line(plain(self.values[:, 0]), 0.0).moments(None)
        return self._of_classes(of) if self.classes > 1 else self._of_one(of)

    def _of_one(self, of: Correlations) -> Moments:
        """Of one class: the series in the coefficients' squares, in numbers."""
        a, square = self.series()
        coefficients = [x * x for x in a]
        coefficients.append(max(square - math.fsum(coefficients), 0.0))
        *pairs, field = of.pairs
        same, near, far = (horner(coefficients, average(c)) for c in pairs)
        if field is not None and of.powers is not None:
            field = evaluated(coefficients, of.powers).view(field.shape)
        return Moments(a[0], square, same, near, far, field)

    def _of_classes(self, of: Correlations) -> Moments:
        square = (self.values.square() * W).sum(1)
        a = self.values @ HERMITE.T
        rest = (square - a.square().sum(1)).clamp_min(0).sqrt()
        a = torch.cat([a, rest[:, None]], 1)
        pairs = a[:, None, :] * a[None, :, :]
        same, near, far = (torch.as_tensor(c, dtype=torch.float64, device="cpu") for c in of.pairs[:3])
        return Moments(a[:, 0], square, series(a * a, same), series(pairs, near), series(pairs, far))


class Table(Law):
    """A function of z by its values.

    Args:
        values: (P, K): the element at each grid point, for each class of positions.
    """

    def __init__(self, values: Tensor) -> None:
        self._values, self.classes = values, values.shape[0]


class Scaled(Law):
    """A law of one class times a number, plus a number.

    Args:
        law: of the element.
        factor: the first number.
        shift: the second number.

    >>> round(Scaled(Table(Z.relu()[None]), -2.0, 1.0).share_of(1.0), 6)
    0.5
    """

    def __init__(self, law: Law, factor: float, shift: float) -> None:
        self.law, self.factor, self.shift = law, factor, shift

    def _made(self) -> Tensor:
        return (self.law.values * self.factor).add_(self.shift)

    @cached_property
    def powers(self) -> Powers:
        """Means of an element and of its second, third and fourth power, from those of the law."""
        first, second, third, fourth = self.law.powers
        f, s, square, level = self.factor, self.shift, self.factor * self.factor, self.shift * self.shift
        own = (f * first, square * second, f * square * third, square * square * fourth)
        return added(own, (s, level, s * level, level * level))

    def share_of(self, value: float) -> float:
        """The share of elements that are exactly a number."""
        if self.factor == 0:
            return float(self.shift == value)
        return self.law.share_of((value - self.shift) / self.factor)

    def _under(self, of: Correlations | None) -> Moments:
        return self.law.moments(of).scaled(self.factor, self.shift)


class Line(Law):
    """A normal: mean + std·z.

    Args:
        mean: of an element, for each class of positions.
        std: likewise.

    >>> Line(1.0, 2.0).powers, Line(1.0, 2.0).scaled(3.0, 1.0).moments(None).mean
    ((1.0, 5.0, 13.0, 73.0), 4.0)
    """

    def __init__(self, mean: Number, std: Number) -> None:
        self.mean, self.std = mean, std
        if isinstance(mean, Tensor):
            self.classes = mean.shape[0]

    def _made(self) -> Tensor:
        return (Z * column(self.std) + column(self.mean)).reshape(-1, K)

    @cached_property
    def powers(self) -> Powers:
        """Means of an element and of its second, third and fourth power, in closed form."""
        mean, level, slope = self.mean, self.mean * self.mean, self.std * self.std
        fourth = level * (level + 6 * slope) + 3 * slope * slope
        return average(mean), average(level + slope), average(mean * (level + 3 * slope)), average(fourth)

    def share_of(self, value: float) -> float:
        """The share of elements that are exactly a number: a constant may be it."""
        return average(1.0 * ((self.mean == value) & (self.std == 0)))

    def scaled(self, factor: Number, shift: Number) -> Law:
        """A line again."""
        return Line(self.mean * factor + shift, self.std * factor)

    def at(self, z: Tensor) -> Tensor:
        """Of the first class, the element where the normal is z."""
        mean, std = (x if isinstance(x, float) else x[0].item() for x in (self.mean, self.std))
        return z * std + mean

    def _under(self, of: Correlations | None) -> Moments:
        """Moments under correlations: mean² + std²·c."""
        mean, std = self.mean, self.std
        level, levels = mean * mean, products(mean, mean)
        if of is None:
            return Moments(mean, level, level, levels, levels)
        slope, slopes = std * std, products(std, std)
        same, near, far, field = of.pairs
        if field is not None:
            field = field * average(slopes) + average(levels)
        return Moments(mean, level + slope, level + slope * same, levels + slopes * near, levels + slopes * far, field)


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


def law_of(values: Tensor) -> Law:
    """The law with the given values: a line if they are affine in z, else a table of them.

    Args:
        values: (P, K): for each class of positions.

    >>> law = law_of(3 * Z[None] + 1)
    >>> isinstance(law, Line) and round(law.mean, 9)
    1.0
    """
    if not _is_affine(values):
        return Table(values)
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
