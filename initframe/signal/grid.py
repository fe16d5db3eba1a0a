"""The state beside every tensor of a predicted pass: its values as a function of a normal variable.

An element is f(z) with z ~ N(0, 1): ``law`` is f, for each class of positions. How two elements are related is the
correlation of their z, kept for the pairs that layers mix: the same place of another input, another place of the same
input, another place of another input, and, for images, each offset between two places. Elementwise operations run on
the grid of z itself; layers with new weights read second moments from it and start a new normal (the wide limit: Poole
et al. 2016, Novak et al. 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from initframe.signal.correlations import Correlations, Pairs, Source, matching
from initframe.signal.joints import Joint
from initframe.signal.laws import Law, Line, Powers
from initframe.signal.layout import Layout
from initframe.signal.moments import Moments, Number, average, products, root, within
from initframe.signal.quantiles import of_samples, of_weighted
from initframe.signal.remarks import Remark

Piece = tuple[float, tuple["Grid", ...]]
"""A product of grids, and the number that multiplies it."""
R = TypeVar("R", bound=Remark)


@dataclass(frozen=True, eq=False)
class Grid:
    """What is known of a tensor.

    Attributes:
        law: the element as a function of its normal, for each class of positions.
        source: that normal; ``None`` if it is the same for all channels and inputs.
        layout: what the tensor's dimensions mean.
        profile: for images, the relative mean square by place (mean 1), which borders lower; else ``None``.
        weight: whether it is a weight, so that what it multiplies starts a new normal.
        spread: the relative variance of the rms over seeds that the tensor's inputs bring along.
        channels: over how many independent channels its own size is averaged; 0 if it is fixed (inputs, after norms).
        inputs: how many inputs the layer summed that it comes from; 0 if it comes from none.
        terms: for attention scores, how many products each of them sums.
        why: why it is an approximation; empty if it is none.
        mask: for attention scores, which keys a query sees, or ``None``.
        pieces: for a sum of products of grids, its terms: a number, and the factors; empty if it is on its own.
        remarks: what rules tell other rules, each of a class of its own.
    """

    law: Law
    source: Source | None
    layout: Layout
    profile: Tensor | None = None
    weight: bool = False
    spread: float = 0.0
    channels: int = 0
    inputs: int = 0
    terms: int = 0
    why: str = ""
    mask: Tensor | str | None = None
    pieces: tuple[Piece, ...] = ()
    remarks: tuple[Remark, ...] = ()

    @property
    def values(self) -> Tensor:
        """The element at each grid point, for each class of positions: (P, K)."""
        return self.law.values

    @property
    def classes(self) -> int:
        """The number of classes of positions."""
        return self.law.classes

    @property
    def kept(self) -> dict[str, Any]:
        """What the next grid inherits, whatever its moments."""
        return {"spread": self.spread, "channels": self.channels, "inputs": self.inputs, "why": self.why}

    def remark(self, kind: type[R]) -> R | None:
        """The remark of a class, if there is one."""
        for one in self.remarks:
            if type(one) is kind:
                return one
        return None

    @cached_property
    def spread_over_seeds(self) -> float:
        """The relative variance of the rms over seeds.

        To what the inputs bring along, a channel adds as far as its elements agree: ¼·c²·(E x⁴/(E x²)² − 1)/channels.
        """
        if not self.channels:
            return self.spread
        m = self.moments()
        square = average(m.square)
        if square < 1e-150:  # all zeros
            return self.spread
        several = self.layout.count("position") > 1
        agreement = min(max(average(m.far if several else m.same) / square, 0.0), 1.0)
        return self.spread + 0.25 * agreement**2 * (self.law.powers[3] / square / square - 1) / self.channels

    def moments(self) -> Moments:
        """Means of products of two elements.

        >>> from initframe.signal.laws import Table
        >>> grid = gaussian(Moments(0.0, 1.0, 0.5, 0.0, 0.0), Layout(()))
        >>> relu = replace(grid, law=Table(grid.values.relu()))
        >>> round(relu.moments().square, 3), round(relu.moments().same, 3)
        (0.5, 0.304)
        """
        return self.law.moments(None if self.source is None else self.source.correlations)


def _grid(law: Law, source: Source | None, layout: Layout, facts: dict[str, Any]) -> Grid:
    """A new grid; a dataclass takes several times as long to fill in its fields."""
    grid = object.__new__(Grid)
    grid.__dict__.update(facts, law=law, source=source, layout=layout)
    return grid


def gaussian(moments: Moments, layout: Layout, **facts: object) -> Grid:
    """A new normal with the given moments.

    Args:
        moments: of the elements.
        layout: what the dimensions mean.
        **facts: further fields of the grid.
    """
    if isinstance(moments.mean, Tensor):
        if moments.classes > 1:
            return _gaussian_classes(moments, layout, facts)
        moments = moments.averages()
    mean, square, same, near, far, field = moments
    level = mean * mean
    slope = max(square - level, 0.0)
    low, high = level - slope, level + slope
    same, near, far = min(max(same, low), high), min(max(near, low), high), min(max(far, low), high)

    def find() -> Pairs:
        scale = slope + 1e-300
        own = None if field is None else (field - level).div_(scale).clamp_(-1, 1)
        return Pairs((same - level) / scale, (near - level) / scale, (far - level) / scale, own)

    law, found = Line(mean, math.sqrt(slope)), Correlations(find)
    found.known[law] = Moments(mean, high, same, near, far, field)
    return _grid(law, Source(found), layout, facts)


def _gaussian_classes(moments: Moments, layout: Layout, facts: dict[str, Any]) -> Grid:
    """A new normal of several classes of positions."""
    mean, square, same, near, far, _ = moments
    std = root(square - mean * mean)
    safe = std + 1e-150
    pairs, means = products(safe, safe), products(mean, mean)
    found = Pairs(
        same=within((same - mean * mean) / (safe * safe), -1.0, 1.0),
        near=within((near - means) / pairs, -1.0, 1.0),
        far=within((far - means) / pairs, -1.0, 1.0),
    )
    return _grid(Line(mean, std), Source(Correlations(lambda: found)), layout, facts)


def replace(grid: Grid, **changes: object) -> Grid:
    """The grid with other facts; what is known of its spread stays known as long as it is the same.

    >>> grid = gaussian(Moments(0.0, 1.0, 0.5, 0.0, 0.0), Layout(()))
    >>> replace(grid, why="rounded").why, replace(grid, law=grid.law.scaled(2.0, 0.0)).moments().square
    ('rounded', 4.0)
    """
    new = object.__new__(Grid)
    facts = new.__dict__
    facts.update(grid.__dict__)
    if "law" in changes or "source" in changes:
        facts.pop("pieces", None)
        facts.pop("spread_over_seeds", None)
    elif not changes.keys() <= UNRELATED:
        facts.pop("spread_over_seeds", None)
    if grid.remarks:
        facts["remarks"] = _outliving(grid.remarks, changes.keys() & {"law", "source", "layout"})
    facts.update(changes)
    return new


UNRELATED = frozenset(("profile", "weight", "inputs", "terms", "why", "mask", "pieces", "remarks"))
"""Facts of a grid that its spread does not depend on."""


def _outliving(remarks: Iterable[Remark], changes: Set[str]) -> tuple[Remark, ...]:
    return tuple([one for one in remarks if changes <= one.outlives])


def remarked(grid: Grid, *remarks: Remark) -> Grid:
    """The grid with more remarks; they take the place of others of their classes."""
    kinds = set(map(type, remarks))
    return replace(grid, remarks=(*(one for one in grid.remarks if type(one) not in kinds), *remarks))


def without(grid: Grid, kind: type[Remark]) -> Grid:
    """The grid without a remark."""
    return replace(grid, remarks=tuple([one for one in grid.remarks if type(one) is not kind]))


def independent(grid: Grid) -> Grid:
    """Other elements of the same kind: the same moments, of a normal of their own."""
    if grid.source is None:
        return grid
    new = object.__new__(Grid)
    new.__dict__.update(grid.__dict__)
    new.__dict__["source"] = Source(grid.source.correlations)
    new.__dict__.pop("pieces", None)
    if grid.remarks:
        new.__dict__["remarks"] = _outliving(grid.remarks, {"elements"})
    return new


def same_numbers(one: Grid, other: Grid) -> bool:
    """Whether two grids are the same function of the same normal, and have the same layout."""
    if one.source is not other.source or one.layout != other.layout or one.classes != other.classes:
        return False
    return one.law is other.law or torch.equal(one.values, other.values)


def scaled(grid: Grid, factor: Number, shift: Number = 0.0) -> Grid:
    """The grid times a number, plus a number, each one for all or one for each class.

    >>> scaled(gaussian(Moments(0.0, 1.0, 0.5, 0.0, 0.0), Layout(())), 2.0, 1.0).moments()[:3]
    (1.0, 5.0, 3.0)
    """
    if not (isinstance(factor, Tensor) or isinstance(shift, Tensor)) and (factor, shift) == (1, 0):
        return grid
    remarks = tuple([one for known in grid.remarks if (one := known.scaled(factor, shift)) is not None])
    if isinstance(factor, Tensor) or isinstance(shift, Tensor):
        return replace(grid, law=grid.law.scaled(factor, shift), remarks=remarks)
    more: tuple[Piece, ...] = ((shift, ()),) if shift and grid.pieces else ()
    pieces = (*((number * factor, factors) for number, factors in grid.pieces), *more)
    return replace(grid, law=grid.law.scaled(factor, shift), pieces=pieces, remarks=remarks)


def constant(value: float, layout: Layout, *, weight: bool = False) -> Grid:
    """The same number everywhere."""
    return _grid(Line(float(value), 0.0), None, layout, {"weight": weight})


def reshaped(values: Tensor, weights: Tensor, moments: Moments, like: Grid) -> Grid:
    """A grid with the distribution of weighted values and the given moments: the values' quantile function.

    Args:
        values: any number of them.
        weights: one for each.
        moments: of one class of positions.
        like: the grid whose other facts are kept.
    """
    return joint(partial(of_weighted, values, weights), moments, like)


def sampled(values: Tensor, moments: Moments, like: Grid) -> Grid:
    """As :func:`reshaped`, of values that all weigh the same.

    Args:
        values: any number of them.
        moments: of one class of positions.
        like: the grid whose other facts are kept.
    """
    return joint(partial(of_samples, values), moments, like)


def joint(
    quantiles: Callable[[], Tensor],
    moments: Moments,
    like: Grid,
    powers: Powers | None = None,
    zeros: float | None = None,
) -> Grid:
    """A grid of some quantiles and the given moments; nobody computes them before somebody asks.

    Args:
        quantiles: gives values at the grid points, but for a factor and a shift.
        moments: of one class of positions.
        like: the grid whose other facts are kept.
        powers: the mean of an element and of its second, third and fourth power, if they are known.
        zeros: the share of exact zeros, if it is known.
    """
    law = Joint(quantiles, average(moments.mean), average(moments.square), powers, zeros)
    found = Correlations(lambda: matching(law.series(), moments))
    found.known[law] = moments
    return replace(like, law=law, source=Source(found))


def related_as(grid: Grid, moments: Moments) -> Grid:
    """The grid with other correlations.

    Args:
        grid: of one class of positions.
        moments: its mean and mean square, and how its elements are related.

    >>> x = related_as(gaussian(Moments(0.0, 1.0, 0.5, 0.0, 0.0), Layout(())), Moments(0.0, 1.0, 0.25, 0.0, 0.0))
    >>> x.moments().same
    0.25
    """
    if grid.source is None or isinstance(grid.law, Line):
        return gaussian(moments, grid.layout, profile=grid.profile, **grid.kept, weight=grid.weight)
    found = Correlations(lambda: matching(grid.law.series(), moments))
    return replace(grid, source=Source(found))
