"""A fill times a number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from initframe.errors import Problem, ResolveError
from initframe.fills.composed import Around, Blocks, Masked
from initframe.fills.current import Keep, OnCurrent, Scale, ShrinkPerturb
from initframe.fills.elementwise import Constant, Mapped, Normal, TruncatedNormal, Uniform
from initframe.fills.fill import Fill
from initframe.fills.structured import Orthogonal, Sparse
from initframe.fills.whole import Sampler, Whole


@dataclass(frozen=True)
class _Times(Around):
    """What another fill gives, times ``factor``."""

    if TYPE_CHECKING:  # a field of every subclass

        @property
        def factor(self) -> float: ...

    @property
    def mean(self) -> float:
        """The fill's, times the factor."""
        return self.factor * self.fill.mean

    @property
    def std(self) -> float:
        """The fill's, times the factor."""
        return self.factor * self.fill.std

    @property
    def reach(self) -> float:
        """The fill's, times the factor."""
        return self.factor * self.fill.reach

    def __str__(self) -> str:
        return f"{self.factor:.4g} × {self.fill}"


@dataclass(frozen=True)
class MultipliedWhole(_Times, Whole):
    """A fill that is computed for the whole tensor, times ``factor``.

    >>> from initframe.fills import Identity
    >>> MultipliedWhole((2, 2), Identity((2, 2)), 3.0).mean
    1.5
    """

    fill: Whole
    factor: float

    def misshapen(self, shape: tuple[int, ...]) -> str | None:
        """As the fill is."""
        return self.fill.misshapen(shape)

    def build(self, draw: Sampler) -> Tensor:
        """The whole tensor."""
        return self.fill.build(draw) * self.factor


@dataclass(frozen=True)
class MultipliedMap(_Times, Mapped):
    """A fill that maps each element's own random number, times ``factor``."""

    fill: Mapped
    factor: float

    @property
    def draws(self) -> tuple[str, tuple[float, ...]]:
        """What the fill draws."""
        return self.fill.draws

    def transform(self, drawn: Tensor) -> Tensor:
        """The fill's values, times the factor."""
        return self.fill.transform(drawn) * self.factor


def scaled(fill: Fill, factor: float) -> Fill:
    """Return the fill whose values are those of another times a positive number.

    A distribution scales its constants and stays what it is: the bits are those of the scaled distribution.

    Args:
        fill: any fill.
        factor: positive.

    Raises:
        ResolveError: the fill cannot be multiplied.

    >>> scaled(Normal(0.0, 0.5), 3.0)
    Normal(mean=0.0, std=1.5)
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
        case Blocks():
            return replace(fill, fills=tuple(scaled(part, factor) for part in fill.fills))
        case Masked():
            return replace(fill, fill=scaled(fill.fill, factor), value=fill.value * factor)
        case OnCurrent():
            return _on_current(fill, factor)
        case MultipliedWhole() | MultipliedMap():
            return replace(fill, factor=fill.factor * factor)
        case Whole():
            return _whole(fill, factor)
        case Mapped():
            return MultipliedMap(fill, factor)
    raise _refused(fill)


def _whole(fill: Whole, factor: float) -> Fill:
    """Scale what a fill's own constants can scale, so that torch.nn.init can still draw it."""
    match fill:
        case Orthogonal():
            return replace(fill, gain=fill.gain * factor)
        case Sparse():
            return replace(fill, scale=fill.scale * factor)
    return MultipliedWhole(fill.shape, fill, factor)


def _on_current(fill: OnCurrent, factor: float) -> Fill:
    """Scale a fill that starts from the current values."""
    match fill:
        case Keep():
            return Scale(factor)
        case Scale(by):
            return Scale(by * factor)
        case ShrinkPerturb(shrink, noise):
            return ShrinkPerturb(shrink * factor, noise * factor)
    raise _refused(fill)


def _refused(fill: Fill) -> ResolveError:
    return ResolveError(Problem("factor", f"{fill.kind} cannot be multiplied.", fix="Leave the factor out."))
