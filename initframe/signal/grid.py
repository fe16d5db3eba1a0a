"""The state beside every tensor of a predicted pass: its values as a function of a normal variable.

An element is f(z) with z ~ N(0, 1): ``values`` holds f on a grid of z, one row per class of positions. How two elements
are related is the correlation of their z, kept for the pairs that layers mix: the same place of another input, another
place of the same input, another place of another input, and, for images, each offset between two places. The product's
mean then follows from Hermite coefficients: E f(z)g(z') = Σ aₙbₙcⁿ (Mehler). Elementwise operations run on the grid
itself; layers with new weights read second moments from it and start a new normal (the wide limit: Poole et al. 2016,
Novak et al. 2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from initframe.signal.layout import Layout
from initframe.signal.moments import Moments, Number, average, column, plain, products, root, within

K = 161
"""Points of the grid, evenly spaced over ±8: the trapezoid rule is exact to 10⁻⁴ even across a kink."""
ORDER = 24
"""Hermite coefficients that are kept; what is left of the variance counts as order 25."""

Z = torch.linspace(-8, 8, K, dtype=torch.float64, device="cpu")
W = torch.exp(-Z.square() / 2) / torch.exp(-Z.square() / 2).sum()
CDF = torch.special.ndtr(Z)


def _hermite() -> Tensor:
    """Orthonormal Hermite polynomials on the grid, times the weights: (ORDER + 1, K)."""
    rows = [torch.ones_like(Z), Z]
    for n in range(1, ORDER):
        rows.append((Z * rows[n] - math.sqrt(n) * rows[n - 1]) / math.sqrt(n + 1))
    return torch.stack(rows) * W


HERMITE = _hermite()
_READ = HERMITE.T.contiguous()
_ENDS = torch.tensor([K // 2, K - 1], device="cpu")


@dataclass(frozen=True, eq=False)
class Source:
    """A normal variable per element, as the correlations between elements; compared by identity.

    Attributes are those of :class:`~initframe.signal.moments.Moments`, as correlations.
    """

    same: Number
    near: Number
    far: Number
    field: Tensor | None = None

    @cached_property
    def powers(self) -> Tensor | None:
        """The powers of the field's half from 0 to ``ORDER`` + 1, a row each: several functions of a normal ask."""
        if self.field is None:
            return None
        x = half(self.field)
        out = x.new_empty(ORDER + 2, x.numel())
        out[0] = 1.0
        out[1] = x
        known = 2
        while known < ORDER + 2:
            more = min(known - 1, ORDER + 2 - known)
            torch.mul(out[1 : more + 1], out[known - 1], out=out[known : known + more])
            known += more
        return out


def half(field: Tensor) -> Tensor:
    """The half of an autocovariance that tells the other one: an offset and its opposite have the same."""
    return field[: field.shape[0] // 2 + 1].reshape(-1) if field.ndim > 1 else field


def whole(part: Tensor, like: Tensor) -> Tensor:
    """The autocovariance whose half is given.

    >>> field = torch.tensor([[4.0, 3.0, 3.0], [2.0, 1.0, 0.0], [2.0, 0.0, 1.0]])
    >>> torch.equal(whole(half(field), field), field)
    True
    """
    return part[_mirror(*like.shape)].view(like.shape)


@lru_cache(maxsize=8)
def _mirror(height: int, width: int) -> Tensor:
    """Where each offset, or its opposite, is in the half of an autocovariance."""
    rows, columns = torch.arange(height, device="cpu")[:, None], torch.arange(width, device="cpu")[None, :]
    opposite = (-rows % height) * width + -columns % width
    return torch.where(rows <= height // 2, rows * width + columns, opposite).reshape(-1)


Piece = tuple[float, tuple["Grid", ...]]
"""A product of grids, and the number that multiplies it."""


@dataclass(frozen=True, eq=False)
class Grid:
    """What is known of a tensor.

    Attributes:
        values: (P, K): the element at each grid point, for each class of positions.
        source: the normal that it is a function of; ``None`` if it is the same for all channels and inputs.
        layout: what the tensor's dimensions mean.
        profile: for images, the relative mean square by place (mean 1), which borders lower; else ``None``.
        weight: whether it is a weight, so that what it multiplies starts a new normal.
        normal: whether ``values`` is affine in z.
        spread: the relative variance of the rms over seeds that the tensor's inputs bring along.
        channels: over how many independent channels its own size is averaged; 0 if it is fixed (inputs, after norms).
        terms: for attention scores, how many products each of them sums.
        why: why it is an approximation; empty if it is none.
        mask: for attention scores, which keys a query sees, or ``None``.
        keys: for attention weights, the sum over keys of their mean square times their number; else ``None``.
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

    values: Tensor
    source: Source | None
    layout: Layout
    profile: Tensor | None = None
    weight: bool = False
    normal: bool = False
    spread: float = 0.0
    channels: int = 0
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

    def __getattr__(self, name: str) -> Any:
        """The values of a line, when they are asked for: what follows from it asks for its moments, mostly.

        Raises:
            AttributeError: there is no such attribute.
        """
        line = self.__dict__.get("line")
        if name != "values" or line is None:
            raise AttributeError(name)
        values = self.__dict__["values"] = (Z * line[1]).add_(line[0])[None]
        return values

    @cached_property
    def line(self) -> tuple[float, float] | None:
        """Mean and standard deviation of one class of a normal: its values are mean + std·z; else ``None``."""
        if not self.normal or self.values.shape[0] > 1:
            return None
        middle, end = self.values[0, _ENDS].tolist()
        return middle, (end - middle) / 8

    @property
    def classes(self) -> int:
        """The number of classes of positions."""
        return 1 if self.__dict__.get("line") is not None else self.values.shape[0]

    @property
    def kept(self) -> dict[str, Any]:
        """What the next grid inherits, whatever its moments."""
        return {"spread": self.spread, "channels": self.channels, "why": self.why}

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
        return self.spread + 0.25 * agreement**2 * (self.fourth / square**2 - 1) / self.channels

    @property
    def fourth(self) -> float:
        """The mean fourth power of an element."""
        if self.line is not None:
            mean, std = self.line
            return mean**4 + 6 * (mean * std) ** 2 + 3 * std**4
        return (self.values.pow(4) @ W).mean().item()

    def moments(self) -> Moments:
        """Means of products of two elements.

        >>> grid = gaussian(Moments(0.0, 1.0, 0.5, 0.0, 0.0), Layout(()))
        >>> relu = replace(grid, values=grid.values.relu(), normal=False)
        >>> round(relu.moments().square, 3), round(relu.moments().same, 3)
        (0.5, 0.304)
        """
        return self._moments

    @cached_property
    def _moments(self) -> Moments:
        if self.source is not None and self.line is not None:
            return self._moments_of_line(self.source, *self.line)
        if self.source is None:
            mean = plain(self.values[:, 0]) if self.line is None else self.line[0]
            pairs = products(mean, mean)
            return Moments(mean, mean * mean, mean * mean, pairs, pairs)
        if self.classes > 1:
            return self._moments_of_classes(self.source)
        return self._moments_of_one(self.source)

    def _moments_of_line(self, source: Source, mean: float, std: float) -> Moments:
        """Of one class, affine in z: mean² + std²·c."""
        level, slope = mean * mean, std * std
        field = None if source.field is None else source.field * slope + level
        same, near, far = (level + slope * float(c) for c in (source.same, source.near, source.far))
        return Moments(mean, level + slope, same, near, far, field)

    def _moments_of_one(self, source: Source) -> Moments:
        """Of one class: the series in the coefficients' squares, in numbers."""
        values = self.values[0]
        a: list[float] = (values @ _READ).tolist()
        square = torch.dot(values * values, W).item()
        coefficients = [x * x for x in a]
        coefficients.append(max(square - math.fsum(coefficients), 0.0))
        same, near, far = (_horner(coefficients, float(c)) for c in (source.same, source.near, source.far))
        field = None
        if source.field is not None and source.powers is not None:
            row = torch.tensor(coefficients, dtype=torch.float64, device="cpu")
            field = whole(row @ source.powers, source.field)
        return Moments(a[0], square, same, near, far, field)

    def _moments_of_classes(self, source: Source) -> Moments:
        square = (self.values.square() * W).sum(1)
        a = self.values @ HERMITE[: 2 if self.normal else None].T
        if not self.normal:
            rest = (square - a.square().sum(1)).clamp_min(0).sqrt()
            a = torch.cat([a, rest[:, None]], 1)
        pairs = a[:, None, :] * a[None, :, :]
        near, far = series(pairs, _as_tensor(source.near)), series(pairs, _as_tensor(source.far))
        return Moments(a[:, 0], square, series(a * a, _as_tensor(source.same)), near, far)


def _as_tensor(value: Number) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, device="cpu") if isinstance(value, float) else value


def _horner(coefficients: list[float], x: float) -> float:
    """Σ cₙxⁿ."""
    total = 0.0
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def series(coefficients: Tensor, at: Tensor) -> Tensor:
    """Σ cₙxⁿ over the last dimension of the coefficients, which otherwise broadcast with x."""
    total = torch.zeros_like(at)
    for n in range(coefficients.shape[-1] - 1, -1, -1):
        total = total * at + coefficients[..., n]
    return total


def gaussian(moments: Moments, layout: Layout, **facts: object) -> Grid:
    """A new normal with the given moments.

    Args:
        moments: of the elements.
        layout: what the dimensions mean.
        **facts: further fields of the grid.
    """
    if moments.classes == 1:
        return _gaussian_line(moments, layout, facts)
    mean, square, same, near, far, _ = moments
    std = root(square - mean * mean)
    safe = std + 1e-150
    pairs, means = products(safe, safe), products(mean, mean)
    source = Source(
        same=within((same - mean * mean) / (safe * safe), -1.0, 1.0),
        near=within((near - means) / pairs, -1.0, 1.0),
        far=within((far - means) / pairs, -1.0, 1.0),
        field=_correlations(moments.field, average(mean * mean), average(safe * safe)),
    )
    values = (Z * column(std)).add_(column(mean)).reshape(-1, K)
    return Grid(values, source, layout, normal=True, **facts)  # type: ignore[arg-type]


def _gaussian_line(moments: Moments, layout: Layout, facts: dict[str, Any]) -> Grid:
    """A new normal of one class of positions."""
    mean, square, same, near, far = map(average, moments[:5])
    level = mean * mean
    std = math.sqrt(max(square - level, 0.0))
    scale = (std + 1e-150) ** 2
    same, near, far = (min(max((x - level) / scale, -1.0), 1.0) for x in (same, near, far))
    return _line(mean, std, Source(same, near, far, _correlations(moments.field, level, scale)), layout, facts)


def _correlations(field: Tensor | None, level: float, scale: float) -> Tensor | None:
    """The field of a normal, from its mean products."""
    return None if field is None else (field - level).div_(scale).clamp_(-1, 1)


def _line(mean: float, std: float, source: Source | None, layout: Layout, facts: dict[str, Any]) -> Grid:
    """A normal of one class of positions, or a constant; its values are left until they are asked for."""
    grid = object.__new__(Grid)
    grid.__dict__.update({"normal": True, **facts}, source=source, layout=layout, line=(mean, std))
    return grid


def replace(grid: Grid, **changes: object) -> Grid:
    """The grid with other facts; what is known of its values stays known as long as they are the same.

    >>> grid = gaussian(Moments(0.0, 1.0, 0.5, 0.0, 0.0), Layout(()))
    >>> replace(grid, why="rounded").why, replace(grid, values=grid.values * 2).moments().square
    ('rounded', 4.0)
    """
    known = grid.__dict__
    new = object.__new__(Grid)
    facts = new.__dict__
    facts.update(known)
    if "values" in changes or "source" in changes or "normal" in changes:
        for derived in ("_moments", "spread_over_seeds", "samples", "pieces", "parts", "totals_of", "rows"):
            facts.pop(derived, None)
        if "values" in changes or "normal" in changes:
            facts.pop("line", None)
            if "values" not in changes:
                facts["values"] = grid.values
    elif not changes.keys() <= UNRELATED:
        facts.pop("spread_over_seeds", None)
    if "layout" in changes:
        facts.pop("parts", None)
    facts.update(changes)
    return new


UNRELATED = frozenset(
    ("profile", "weight", "terms", "why", "mask", "keys", "seen", "samples", "largest", "pieces", "rows")
)
"""Facts of a grid that its moments and their spread do not depend on."""


def independent(grid: Grid) -> Grid:
    """Other elements of the same kind: the same moments, of a normal of their own."""
    if grid.source is None:
        return grid
    own = object.__new__(Source)
    own.__dict__.update(grid.source.__dict__)
    new = object.__new__(Grid)
    new.__dict__.update(grid.__dict__)
    new.__dict__["source"] = own
    for of_these in ("pieces", "parts"):
        new.__dict__.pop(of_these, None)
    return new


def same_numbers(one: Grid, other: Grid) -> bool:
    """Whether two grids are the same function of the same normal, and have the same layout."""
    if one.source is not other.source or one.layout != other.layout or one.classes != other.classes:
        return False
    if one.line is not None and other.line is not None:
        return one.line == other.line
    return torch.equal(one.values, other.values)


def scaled_pieces(grid: Grid, factor: float, shift: float) -> tuple[Piece, ...]:
    """The terms of a grid times a number, plus a number."""
    if not grid.pieces:
        return ()
    more: tuple[Piece, ...] = ((shift, ()),) if shift else ()
    return (*((number * factor, factors) for number, factors in grid.pieces), *more)


def scaled(grid: Grid, factor: float, shift: float = 0.0) -> Grid:
    """The grid times a number, plus a number.

    >>> scaled(gaussian(Moments(0.0, 1.0, 0.5, 0.0, 0.0), Layout(())), 2.0, 1.0).moments()[:3]
    (1.0, 5.0, 3.0)
    """
    if factor == 1 and shift == 0:
        return grid
    line = grid.line
    pieces = scaled_pieces(grid, factor, shift)
    rows = None if grid.rows is None or shift else (grid.rows[0] * factor**2, grid.rows[1] * factor**2)
    if line is None:
        return replace(grid, values=(grid.values * factor).add_(shift), pieces=pieces, rows=rows)
    new = replace(grid, source=grid.source, pieces=pieces, rows=rows)
    new.__dict__.pop("values", None)
    new.__dict__["line"] = (line[0] * factor + shift, line[1] * factor)
    return new


def constant(value: float, layout: Layout, *, weight: bool = False) -> Grid:
    """The same number everywhere."""
    return _line(float(value), 0.0, None, layout, {"weight": weight, "normal": False})


def reshaped(values: Tensor, weights: Tensor, moments: Moments, like: Grid) -> Grid:
    """A grid with the distribution of weighted values and the given moments: the values' quantile function.

    Args:
        values: any number of them.
        weights: one for each.
        moments: of one class of positions.
        like: the grid whose other facts are kept.
    """
    values, order = values.sort()
    weights = weights[order]
    level = weights.cumsum(0).sub_(weights / 2).div_(weights.sum())
    return _matched(_interpolate(CDF, level, values), moments, like)


def sampled(values: Tensor, moments: Moments, like: Grid) -> Grid:
    """As :func:`reshaped`, of values that all weigh the same.

    Args:
        values: any number of them.
        moments: of one class of positions.
        like: the grid whose other facts are kept.
    """
    place = (CDF * values.numel()).sub_(0.5).clamp_(0, values.numel() - 1)
    left = place.long()
    ranks = torch.cat([left, (left + 1).clamp_max(values.numel() - 1)])
    low, high = order_statistics(values, ranks).double().view(2, K)
    return _matched((high - low).mul_(place - left).add_(low), moments, like)


def related_as(grid: Grid, moments: Moments) -> Grid:
    """The grid with other correlations.

    Args:
        grid: of one class of positions.
        moments: its mean and mean square, and how its elements are related.

    >>> x = related_as(gaussian(Moments(0.0, 1.0, 0.5, 0.0, 0.0), Layout(())), Moments(0.0, 1.0, 0.25, 0.0, 0.0))
    >>> x.moments().same
    0.25
    """
    like = gaussian(moments, grid.layout, profile=grid.profile, **grid.kept, weight=grid.weight)
    return like if grid.normal or grid.source is None else _matched(grid.values[0], moments, like)


BUCKETS = 4096
"""Of what is sorted in part only."""


def order_statistics(values: Tensor, ranks: Tensor) -> Tensor:
    """The values of some ranks, without sorting those between them.

    >>> order_statistics(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([2, 0])).tolist()
    [3.0, 1.0]
    """
    low, high = values.aminmax()
    width = (high - low) / BUCKETS
    if values.numel() < BUCKETS or not math.isfinite(width) or width == 0:
        return values.sort().values[ranks]
    bucket = ((values - low) / width).long().clamp_(0, BUCKETS - 1)
    below = torch.cat([bucket.new_zeros(1), torch.bincount(bucket, minlength=BUCKETS).cumsum(0)])
    asked = torch.searchsorted(below, ranks, right=True) - 1
    wanted = bucket.new_zeros(BUCKETS, dtype=torch.bool)
    wanted[asked] = True
    kept = values[wanted[bucket]].sort().values
    skipped = torch.where(wanted, 0, below.diff()).cumsum(0)  # how many of smaller buckets are not among the kept
    return kept[ranks - skipped[asked]]


def _matched(quantiles: Tensor, moments: Moments, like: Grid) -> Grid:
    """A grid of the given quantiles, shifted and scaled to the given moments; its correlations give the others."""
    mean, square = average(moments.mean), average(moments.square)
    m, q = torch.dot(quantiles, W).item(), torch.dot(quantiles.square(), W).item()
    scale = math.sqrt(max(square - mean * mean, 0.0) / max(q - m * m, 1e-300))
    quantiles = quantiles.sub_(m).mul_(scale).add_(mean)
    squares = (quantiles @ _READ).square_()
    rest = max(square - squares.sum().item(), 0.0)
    targets = torch.tensor(
        [*squares.tolist(), rest, *map(average, moments[2:5])],
        dtype=torch.float64,
        device="cpu",
    )
    curve = (targets[: ORDER + 2] @ _CURVE.powers).cummax(0).values  # type: ignore[operator]
    numbers, field = targets[ORDER + 2 :], moments.field
    if field is not None:
        numbers = torch.cat([numbers, half(field)])
    found = _interpolate(numbers, curve, _CORRELATIONS)
    same, near, far = found[:3].tolist()
    source = Source(same, near, far, None if field is None else whole(found[3:], field))
    return replace(like, values=quantiles[None], source=source, normal=False)


_CORRELATIONS = torch.linspace(-1, 1, 401, dtype=torch.float64, device="cpu")
_CURVE = Source(0.0, 0.0, 0.0, _CORRELATIONS)
"""Correlations, whose powers give the curve from a correlation to a mean product, which is read backwards."""


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Linear interpolation through (xs, ys), xs ascending, constant beyond its ends."""
    right = torch.searchsorted(xs, x).clamp_(1, xs.numel() - 1)
    left = right - 1
    x0, y0 = xs[left], ys[left]
    share = (x - x0).div_((xs[right] - x0).clamp_min_(1e-300)).clamp_(0, 1)
    return share.mul_(ys[right] - y0).add_(y0)


def at(grid: Grid, z: Tensor) -> Tensor:
    """The grid's function at normal samples."""
    place = ((z - Z[0].item()) / (Z[1] - Z[0]).item()).clamp(0, K - 1.001)
    left = place.long()
    f = grid.values[0].to(z.dtype)
    return f[left] + (place - left) * f.diff()[left]
