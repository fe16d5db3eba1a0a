"""The state beside every tensor of a predicted pass: its values as a function of a normal variable.

An element is f(z) with z ~ N(0, 1): ``law`` is f, for each class of positions. How two elements are related is the
correlation of their z, kept for the pairs that layers mix: the same place of another input, another place of the same
input, another place of another input, and, for images, each offset between two places. Elementwise operations run on
the grid of z itself; layers with new weights read second moments from it and start a new normal (the wide limit: Poole
et al. 2016, Novak et al. 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from initframe.signal.correlations import Correlations, Pairs, Source, matching
from initframe.signal.joints import Joint
from initframe.signal.laws import Law, Line, Powers
from initframe.signal.layout import Layout
from initframe.signal.moments import Moments, Number, average, products, root, within
from initframe.signal.quantiles import of_samples, of_weighted

Piece = tuple[float, tuple["Grid", ...]]
"""A product of grids, and the number that multiplies it."""


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
        keys: for attention weights, maybe times a number, Σa² over the keys as if they added up to 1; else ``None``.
        seen: for attention weights, how many keys a query of each class sees; else ``None``.
        samples: (samples, elements of a row): for rows that are independent of each other and of which more is known
            than pairs can tell, such as the k largest, samples of whole rows; else ``None``.
        largest: for a vector that a power iteration makes, the singular value that it has found; else ``None``.
        pieces: for a sum of products of grids, its terms: a number, and the factors; empty if it is on its own.
        parts: for tensors one after another, the dimension, their sizes along it, and their grids; else ``None``.
        totals_of: for sums by number, the normal of what was added up; else ``None``.
        rows: for a product over positions, the mean product of two elements of a column, of one input and of two;
            else ``None``.
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
    keys: Tensor | None = None
    seen: Tensor | None = None
    samples: Tensor | None = None
    largest: float | None = None
    pieces: tuple[Piece, ...] = ()
    parts: tuple[int, tuple[int, ...], tuple[Grid, ...]] | None = None
    totals_of: Source | None = None
    rows: tuple[float, float] | None = None

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
        for derived in ("spread_over_seeds", "samples", "pieces", "parts", "totals_of", "rows"):
            facts.pop(derived, None)
    elif not changes.keys() <= UNRELATED:
        facts.pop("spread_over_seeds", None)
    if "layout" in changes:
        facts.pop("parts", None)
    facts.update(changes)
    return new


UNRELATED = frozenset(
    (
        *("profile", "weight", "inputs", "terms", "why", "mask", "keys", "seen", "samples", "largest"),
        *("pieces", "parts", "totals_of", "rows"),
    )
)
"""Facts of a grid that its spread does not depend on."""


def independent(grid: Grid) -> Grid:
    """Other elements of the same kind: the same moments, of a normal of their own."""
    if grid.source is None:
        return grid
    new = object.__new__(Grid)
    new.__dict__.update(grid.__dict__)
    new.__dict__["source"] = Source(grid.source.correlations)
    for of_these in ("pieces", "parts"):
        new.__dict__.pop(of_these, None)
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
    if isinstance(factor, Tensor) or isinstance(shift, Tensor):
        return replace(grid, law=grid.law.scaled(factor, shift))
    more: tuple[Piece, ...] = ((shift, ()),) if shift and grid.pieces else ()
    pieces = (*((number * factor, factors) for number, factors in grid.pieces), *more)
    rows = None if grid.rows is None or shift else (grid.rows[0] * factor**2, grid.rows[1] * factor**2)
    return replace(grid, law=grid.law.scaled(factor, shift), pieces=pieces, rows=rows)


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
