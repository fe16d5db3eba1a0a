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
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from initframe.signal.layout import Layout

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


class Moments(NamedTuple):
    """Means of products of two elements of one channel, by class of positions (P); second moments, not centered.

    Attributes:
        mean: (P,) of an element.
        square: (P,) of an element with itself.
        same: (P,) with the same position of another input.
        near: (P, P) with another position of the same input.
        far: (P, P) with another position of another input.
        field: (R, R) or ``None``: with the position at an offset, of the same input, offsets as on a torus.
    """

    mean: Tensor
    square: Tensor
    same: Tensor
    near: Tensor
    far: Tensor
    field: Tensor | None = None

    def times(self, factor: float | Tensor) -> Moments:
        """Of the elements times independent numbers whose mean square is ``factor``; the mean becomes zero."""
        field = None if self.field is None else self.field * factor
        zero = torch.zeros_like(self.mean)
        return Moments(zero, self.square * factor, self.same * factor, self.near * factor, self.far * factor, field)

    def plus(self, mean: float, square: float) -> Moments:
        """Plus one independent number per channel, the same at every position and for every input."""
        cross = 2 * mean * self.mean
        pairs = mean * (self.mean[:, None] + self.mean[None, :]) + square
        field = None if self.field is None else self.field + cross.mean() + square
        each = cross + square
        return Moments(
            self.mean + mean, self.square + each, self.same + each, self.near + pairs, self.far + pairs, field
        )


@dataclass(frozen=True, eq=False)
class Source:
    """A normal variable per element, as the correlations between elements; compared by identity.

    Attributes are those of :class:`Moments`, as correlations.
    """

    same: Tensor
    near: Tensor
    far: Tensor
    field: Tensor | None = None


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

    @property
    def classes(self) -> int:
        """The number of classes of positions."""
        return self.values.shape[0]

    @property
    def kept(self) -> dict[str, Any]:
        """What the next grid inherits, whatever its moments."""
        return {"spread": self.spread, "channels": self.channels, "why": self.why}

    def spread_over_seeds(self) -> float:
        """The relative variance of the rms over seeds.

        To what the inputs bring along, a channel adds as far as its elements agree: ¼·c²·(E x⁴/(E x²)² − 1)/channels.
        """
        if not self.channels:
            return self.spread
        m = self.moments()
        square = m.square.mean().clamp_min(1e-300)
        fourth = (self.values.pow(4) * W).sum(1).mean()
        several = self.layout.count("position") > 1
        agreement = ((m.far if several else m.same).mean() / square).clamp(0, 1)
        return self.spread + (0.25 * agreement**2 * (fourth / square**2 - 1) / self.channels).item()

    def moments(self) -> Moments:
        """Means of products of two elements.

        >>> grid = gaussian(moments_of(0.0, 1.0, same=0.5), Layout(()))
        >>> relu = replace(grid, values=grid.values.relu(), normal=False)
        >>> round(relu.moments().square.item(), 3), round(relu.moments().same.item(), 3)
        (0.5, 0.304)
        """
        return self._moments

    @cached_property
    def _moments(self) -> Moments:
        square = (self.values.square() * W).sum(1)
        if self.source is None:
            mean = self.values[:, 0]
            pairs = mean[:, None] * mean[None, :]
            return Moments(mean, square, square, pairs, pairs)
        a = self.values @ HERMITE[: 2 if self.normal else None].T
        if not self.normal:
            rest = (square - a.square().sum(1)).clamp_min(0).sqrt()
            a = torch.cat([a, rest[:, None]], 1)
        source = self.source
        if self.classes > 1:
            pairs = a[:, None, :] * a[None, :, :]
            near, far = series(pairs, source.near), series(pairs, source.far)
            return Moments(a[:, 0], square, series(a * a, source.same), near, far)
        field = torch.zeros(0, dtype=torch.float64, device="cpu") if source.field is None else source.field
        at = torch.cat([one.reshape(-1) for one in (source.same, source.near, source.far, field)])
        found = series((a * a)[0], at)
        field_found = None if source.field is None else found[3:].reshape(source.field.shape)
        return Moments(a[:, 0], square, found[:1], found[1:2][None], found[2:3][None], field_found)


def series(coefficients: Tensor, at: Tensor) -> Tensor:
    """Σ cₙxⁿ over the last dimension of the coefficients, which otherwise broadcast with x."""
    total = torch.zeros_like(at)
    for n in range(coefficients.shape[-1] - 1, -1, -1):
        total = total * at + coefficients[..., n]
    return total


def moments_of(mean: float, square: float, same: float = 0.0, near: float = 0.0, far: float = 0.0) -> Moments:
    """Moments of one class of positions, from numbers.

    >>> moments_of(0.0, 4.0).square.tolist()
    [4.0]
    """
    one = [torch.tensor([value], dtype=torch.float64, device="cpu") for value in (mean, square, same)]
    two = [torch.tensor([[value]], dtype=torch.float64, device="cpu") for value in (near, far)]
    return Moments(one[0], one[1], one[2], two[0], two[1])


def gaussian(moments: Moments, layout: Layout, **facts: object) -> Grid:
    """A new normal with the given moments.

    Args:
        moments: of the elements.
        layout: what the dimensions mean.
        **facts: further fields of the grid.
    """
    mean, square, same, near, far, field = moments
    variance = (square - mean.square()).clamp_min(0)
    std = variance.sqrt()
    safe = std.clamp_min(1e-150)
    pairs, means = safe[:, None] * safe[None, :], mean[:, None] * mean[None, :]
    source = Source(
        same=((same - mean.square()) / safe.square()).clamp(-1, 1),
        near=((near - means) / pairs).clamp(-1, 1),
        far=((far - means) / pairs).clamp(-1, 1),
        field=None if field is None else ((field - mean.square().mean()) / safe.square().mean()).clamp(-1, 1),
    )
    return Grid(mean[:, None] + std[:, None] * Z, source, layout, normal=True, **facts)  # type: ignore[arg-type]


def constant(value: float, layout: Layout, *, weight: bool = False) -> Grid:
    """The same number everywhere."""
    return Grid(torch.full((1, K), float(value), dtype=torch.float64, device="cpu"), None, layout, weight=weight)


def reshaped(values: Tensor, weights: Tensor, moments: Moments, like: Grid) -> Grid:
    """A grid with the distribution of weighted values and the given moments: the values' quantile function.

    Args:
        values: any number of them.
        weights: one for each.
        moments: of one class of positions.
        like: the grid whose other facts are kept.
    """
    order = values.argsort()
    values, weights = values[order], weights[order]
    level = (weights.cumsum(0) - weights / 2) / weights.sum()
    quantiles = _interpolate(CDF, level, values)
    m, q = (quantiles * W).sum(), (quantiles.square() * W).sum()
    target = (moments.square[0] - moments.mean[0] ** 2).clamp_min(0)
    scale = (target / (q - m * m).clamp_min(1e-300)).sqrt()
    quantiles = (moments.mean[0] + (quantiles - m) * scale)[None]
    a = (quantiles @ HERMITE.T)[0]
    rest = (moments.square[0] - a.square().sum()).clamp_min(0)
    squares = torch.cat([a.square(), rest[None]])
    field = None if moments.field is None else _inverse(squares, moments.field)
    same, near, far = (_inverse(squares, one) for one in (moments.same, moments.near, moments.far))
    source = Source(same, near, far, field)
    return replace(like, values=quantiles, source=source, normal=False)


def _inverse(squares: Tensor, target: Tensor) -> Tensor:
    """The correlation c with Σ squaresₙ cⁿ = target."""
    at = torch.linspace(-1, 1, 401, dtype=torch.float64, device="cpu")
    curve = series(squares, at).cummax(0).values
    return _interpolate(target, curve, at)


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Linear interpolation through (xs, ys), xs ascending, constant beyond its ends."""
    right = torch.searchsorted(xs.contiguous(), x.contiguous()).clamp(1, xs.numel() - 1)
    x0, x1 = xs[right - 1], xs[right]
    share = ((x - x0) / (x1 - x0).clamp_min(1e-300)).clamp(0, 1)
    return ys[right - 1] + share * (ys[right] - ys[right - 1])


def at(grid: Grid, z: Tensor) -> Tensor:
    """The grid's function at normal samples."""
    place = ((z - Z[0].item()) / (Z[1] - Z[0]).item()).clamp(0, K - 1.001)
    left = place.long()
    f = grid.values[0].to(z.dtype)
    return f[left] + (place - left) * f.diff()[left]
