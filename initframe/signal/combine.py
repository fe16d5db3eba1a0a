"""Joining grids: sums and products of independent ones, and mixtures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from initframe.signal.grid import Grid, K, Moments, W, gaussian, reshaped
from initframe.signal.layout import Layout

Join = Callable[[Tensor, Tensor], Tensor]
COARSE = slice(K // 8, K - K // 8, 2)
"""Points of two joined grids, every second within ±6: their pairs are sorted, and the quantiles are smooth."""


def total(one: Grid, other: Grid, layout: Layout, sign: float = 1.0) -> Grid:
    """The sum of two grids of independent sources, or their difference."""
    x, y = aligned(one.moments(), other.moments())
    moments = Moments(
        x.mean + sign * y.mean,
        x.square + y.square + 2 * sign * x.mean * y.mean,
        x.same + y.same + 2 * sign * x.mean * y.mean,
        x.near + y.near + sign * _crossed(x.mean, y.mean),
        x.far + y.far + sign * _crossed(x.mean, y.mean),
        _both(x, y, lambda a, b: a + b + 2 * sign * (x.mean * y.mean).mean()),
    )
    shares = [grid.moments().square.mean().item() for grid in (one, other)]
    spread = (shares[0] ** 2 * one.spread + shares[1] ** 2 * other.spread) / max(sum(shares), 1e-300) ** 2
    join = None if one.normal and other.normal else lambda a, b: a + sign * b
    return _joined(one, other, moments, layout, spread, join)


def product(one: Grid, other: Grid, layout: Layout) -> Grid:
    """The product of two grids of independent sources."""
    x, y = aligned(one.moments(), other.moments())
    field = _both(x, y, lambda a, b: a * b)
    moments = Moments(x.mean * y.mean, x.square * y.square, x.same * y.same, x.near * y.near, x.far * y.far, field)
    return _joined(one, other, moments, layout, one.spread + other.spread, lambda a, b: a * b)


def aligned(x: Moments, y: Moments) -> tuple[Moments, Moments]:
    """Moments over the same classes of positions; what has one class only is the same in all."""
    p = max(x.mean.shape[0], y.mean.shape[0])
    return expanded(x, p), expanded(y, p)


def expanded(x: Moments, p: int) -> Moments:
    """Moments over ``p`` classes of positions; averages where there are others."""
    n = x.mean.shape[0]
    if n == p:
        return x
    if n > 1:
        mean, square, same = (one.mean()[None] for one in x[:3])
        x = Moments(mean, square, same, x.near.mean()[None, None], x.far.mean()[None, None], x.field)
    return Moments(
        x.mean.expand(p), x.square.expand(p), x.same.expand(p), x.near.expand(p, p), x.far.expand(p, p), x.field
    )


def _crossed(a: Tensor, b: Tensor) -> Tensor:
    return a[:, None] * b[None, :] + b[:, None] * a[None, :]


def _both(x: Moments, y: Moments, join: Join) -> Tensor | None:
    """Join two fields; what has none is the same at every offset."""
    fields: list[Tensor | None] = []
    for one, other in ((x, y), (y, x)):
        field = one.field
        if field is None and other.field is not None:
            field = torch.full_like(other.field, one.near.mean().item())
            field[0, 0] = one.square.mean()
        fields.append(field)
    return None if fields[0] is None or fields[1] is None else join(fields[0], fields[1])


def _joined(one: Grid, other: Grid, moments: Moments, layout: Layout, spread: float, join: Join | None) -> Grid:
    """The grid of a sum or product: a normal without ``join``, else the true distribution of one class of positions."""
    profile = one.profile if other.profile is None else other.profile if one.profile is None else None
    if one.profile is not None and other.profile is not None and one.profile.shape == other.profile.shape:
        a, b = one.moments().square.mean(), other.moments().square.mean()
        profile = (a * one.profile + b * other.profile) / (a + b).clamp_min(1e-300)
    channels = max(one.channels, other.channels)
    like = gaussian(moments, layout, profile=profile, spread=spread, channels=channels, why=one.why or other.why)
    like = replace(like, weight=one.weight and other.weight)
    if join is None or moments.mean.shape[0] > 1:
        return like
    values = join(one.values[0, COARSE][:, None], other.values[0, COARSE][None, :]).reshape(-1)
    return reshaped(values, (W[COARSE, None] * W[None, COARSE]).reshape(-1), moments, like)


def mixture(parts: Sequence[tuple[float, Grid]], layout: Layout) -> Grid:
    """What holds a share of each grid, as a concatenation along channels does.

    Args:
        parts: shares that add up to 1, and grids.
        layout: of the whole.
    """
    p = max(grid.classes for _, grid in parts)
    every = [expanded(grid.moments(), p) for _, grid in parts]
    shares = [share for share, _ in parts]
    mixed = [_weighted(shares, [m[i] for m in every]) for i in range(5)]
    first = next((m.field for m in every if m.field is not None), None)
    field = None
    if first is not None:
        whole = [torch.full_like(first, m.near.mean().item()) if m.field is None else m.field for m in every]
        field = _weighted(shares, whole)
    moments = Moments(mixed[0], mixed[1], mixed[2], mixed[3], mixed[4], field)
    profiles = [g.profile for _, g in parts if g.profile is not None]
    profile = profiles[0] if profiles and all(one.shape == profiles[0].shape for one in profiles) else None
    why = next((grid.why for _, grid in parts if grid.why), "")
    weight = all(grid.weight for _, grid in parts)
    squares = [s * m.square.mean().item() for s, m in zip(shares, every, strict=True)]
    spread = (
        sum(q * q * grid.spread for q, (_, grid) in zip(squares, parts, strict=True)) / max(sum(squares), 1e-300) ** 2
    )
    channels = max(grid.channels for _, grid in parts)
    like = gaussian(moments, layout, profile=profile, spread=spread, channels=channels, why=why, weight=weight)
    if p > 1:
        return like
    values = torch.cat([grid.values[0] for _, grid in parts])
    return reshaped(values, torch.cat([share * W for share in shares]), moments, like)


def _weighted(shares: Sequence[float], tensors: Sequence[Tensor | None]) -> Tensor:
    """The sum of tensors times their shares."""
    known = [share * tensor for share, tensor in zip(shares, tensors, strict=True) if tensor is not None]
    return torch.stack(known).sum(0)
