"""A fill times a number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from initframe.errors import Problem, ResolveError
from initframe.fills.composed import Blocks, Masked
from initframe.fills.current import Keep, Scale, ShrinkPerturb
from initframe.fills.elementwise import Constant, Elementwise, Normal, TruncatedNormal, Uniform
from initframe.fills.fill import Fill
from initframe.fills.whole import Draw, Orthogonal, Sparse, Whole


@dataclass(frozen=True)
class Multiplied(Whole):
    """A fill that is computed for the full tensor, times ``factor``.

    >>> round(Multiplied((4, 4), Orthogonal((4, 4)), 3.0).std, 6)
    1.5
    """

    fill: Whole
    factor: float

    @property
    def mean(self) -> float:
        """The fill's, times the factor."""
        return self.factor * self.fill.mean

    @property
    def std(self) -> float:
        """The fill's, times the factor."""
        return abs(self.factor) * self.fill.std

    def parts(self) -> Iterator[Fill]:
        """This fill and all fills inside it."""
        yield self
        yield from self.fill.parts()

    def build(self, draw: Draw) -> Tensor:
        """The full tensor."""
        return self.fill.build(draw) * self.factor

    def __str__(self) -> str:
        return f"{self.factor:.4g} × {self.fill}"


def scaled(fill: Fill, factor: float) -> Fill:
    """A fill whose values are those of another, times a positive number.

    Elementwise fills scale their constants, so that they stay what they are; the bits are those of the scaled law.

    Args:
        fill: any fill.
        factor: positive.

    Returns:
        The scaled fill; NaN moments stay NaN.

    >>> scaled(Normal(0.0, 0.02), 3.0)
    Normal(mean=0.0, std=0.06)
    >>> str(scaled(Blocks((Constant(1.0), Uniform(-1.0, 1.0)), (1, 1)), 2.0))
    'constant(2) | uniform(±2)'
    """
    match fill:
        case Constant(value):
            return Constant(value * factor)
        case Uniform(low, high):
            return Uniform(low * factor, high * factor)
        case Normal(mean, std):
            return Normal(mean * factor, std * factor)
        case TruncatedNormal(loc, scale, low, high):
            return TruncatedNormal(loc * factor, scale * factor, low * factor, high * factor)
        case Elementwise(fn, mean, std):
            return Elementwise(partial(_times, fn, factor), mean * factor, std * factor)
        case Blocks():
            return replace(fill, fills=tuple(scaled(part, factor) for part in fill.fills))
        case Masked():
            return replace(fill, fill=scaled(fill.fill, factor), value=fill.value * factor)
        case Keep():
            return Scale(factor)
        case Scale(by):
            return Scale(by * factor)
        case ShrinkPerturb(shrink, noise):
            return ShrinkPerturb(shrink * factor, noise * factor)
        case Orthogonal():
            return replace(fill, gain=fill.gain * factor)
        case Sparse():
            return replace(fill, scale=fill.scale * factor)
        case Multiplied():
            return replace(fill, factor=fill.factor * factor)
        case Whole():
            return Multiplied(fill.shape, fill, factor)
    raise ResolveError(Problem("factor", f"{fill.kind} cannot be multiplied.", "", "Leave the factor out."))


def _times(fn: object, factor: float, u: Tensor) -> Tensor:
    """A law of one's own, times a factor."""
    return fn(u) * factor  # type: ignore[operator, no-any-return]
