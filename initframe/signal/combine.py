"""Joining grids: sums and products, and mixtures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from initframe.signal.dependence import (
    Settled,
    agreement,
    difference,
    multiplied,
    related,
    settled,
    summed,
)
from initframe.signal.grid import Grid, gaussian, joint, replace
from initframe.signal.hermite import K, W
from initframe.signal.laws import Line, Powers, added
from initframe.signal.layout import Layout, Role
from initframe.signal.moments import Moments, Number, average, products
from initframe.signal.quantiles import of_weighted

Join = Callable[[Any, Any], Any]
COARSE = slice(K // 8, K - K // 8, 2)
"""Points of two joined grids, every second within ±6: their pairs are sorted, and the quantiles are smooth."""


def total(one: Grid, other: Grid, layout: Layout, sign: float = 1.0) -> Grid:
    """The sum of two grids of different sources, or their difference."""
    x, y = aligned(one.moments(), other.moments())
    each = 2 * sign * x.mean * y.mean
    pairs = sign * (products(x.mean, y.mean) + products(y.mean, x.mean))
    square, both = x.square + y.square + each, average(each)
    moments = Moments(
        x.mean + sign * y.mean,
        square,
        x.same + y.same + each,
        x.near + y.near + pairs,
        x.far + y.far + pairs,
        _both(x, y, lambda a, b: (a + b).add_(both), square),
    )
    spread = _spread([average(grid.moments().square) for grid in (one, other)], (one, other))
    known = settled(one, other, moments, summed if sign == 1 else difference)
    moments, like = known.moments, _joined(one, other, known, layout, spread)
    if moments.classes > 1 or (isinstance(one.law, Line) and isinstance(other.law, Line)):
        return like
    a, b = one.law.powers, other.law.powers
    powers = added(a, (sign * b[0], b[1], sign * b[2], b[3]))
    zeros = one.law.share_of(0.0) * other.law.share_of(0.0)
    return _joint(one, other, lambda u, v: u + sign * v, known, like, (powers, zeros))


def product(one: Grid, other: Grid, layout: Layout) -> Grid:
    """The product of two grids of different sources."""
    x, y = aligned(one.moments(), other.moments())
    square = x.square * y.square
    field = _both(x, y, lambda a, b: a * b, square)
    moments = Moments(x.mean * y.mean, square, x.same * y.same, x.near * y.near, x.far * y.far, field)
    known = settled(one, other, moments, multiplied)
    moments, like = known.moments, _joined(one, other, known, layout, one.spread + other.spread)
    if moments.classes > 1:
        return like
    a, b = one.law.powers, other.law.powers
    powers = (a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3])
    zeros = 1 - (1 - one.law.share_of(0.0)) * (1 - other.law.share_of(0.0))
    return _joint(one, other, torch.mul, known, like, (powers, zeros))


def _joint(one: Grid, other: Grid, join: Join, known: Settled, like: Grid, apart: tuple[Powers, float]) -> Grid:
    """The true distribution of a sum or product; of related operands, its shape is as if they were independent."""
    powers, zeros = apart if known.apart else (None, None)
    found = joint(lambda: _of_pairs(one, other, join), known.moments, like, powers, zeros)
    return replace(found, pieces=known.pieces)


def _of_pairs(one: Grid, other: Grid, join: Join) -> Tensor:
    """The quantiles of what is joined of two independent elements."""
    return of_weighted(join(one.values[0, COARSE, None], other.values[0, None, COARSE]).reshape(-1), _PAIRS)


_PAIRS = (W[COARSE, None] * W[None, COARSE]).reshape(-1)


def spread_over(weight: Grid, layout: Layout) -> Grid:
    """A weight as it is broadcast: what has no dimension of its own is the same for all inputs, or all positions.

    Args:
        weight: a grid whose elements were drawn.
        layout: of what it is joined with; dimensions are counted from the last.
    """
    if not weight.weight or weight.source is None:
        return weight
    own = (1,) * (len(layout.dims) - len(weight.layout.shape)) + weight.layout.shape
    roles: set[Role] = {role for d, size in enumerate(own) if size > 1 for role in layout.roles(d)}
    m = weight.moments()
    same = m.same if "batch" in roles else m.square
    near = m.near if "position" in roles else m.square
    far = {(False, False): m.square, (False, True): near, (True, False): same, (True, True): m.far}[
        "batch" in roles, "position" in roles
    ]
    if (same, near, far) == (m.same, m.near, m.far):
        return weight
    like = gaussian(m._replace(same=same, near=near, far=far), weight.layout, weight=True, **weight.kept)
    return replace(weight, source=like.source)


def aligned(x: Moments, y: Moments) -> tuple[Moments, Moments]:
    """Moments over the same classes of positions; what has one class only is the same in all."""
    p = max(x.classes, y.classes)
    return expanded(x, p), expanded(y, p)


def expanded(x: Moments, p: int) -> Moments:
    """Moments over ``p`` classes of positions; averages where there are others."""
    n = x.classes
    if n == p:
        return x
    x = x.averages()
    if p == 1:
        return x
    mean, square, same = (torch.full((p,), average(each), dtype=torch.float64, device="cpu") for each in x[:3])
    near, far = (torch.full((p, p), average(each), dtype=torch.float64, device="cpu") for each in x[3:5])
    return Moments(mean, square, same, near, far, x.field)


def _both(x: Moments, y: Moments, join: Join, square: Number) -> Tensor | None:
    """Join two fields; what has none is the same at every offset."""
    if x.field is None and y.field is None:
        return None
    a, b = (average(m.near) if m.field is None else m.field for m in (x, y))
    field: Tensor = join(a, b)
    if x.field is None or y.field is None:
        field[0, 0] = average(square)
    return field


def _spread(squares: Sequence[float], grids: Sequence[Grid]) -> float:
    """The spread that parts bring along, each by its share of the whole mean square."""
    whole = max(math.fsum(squares), 1e-300)
    return math.fsum((square / whole) ** 2 * grid.spread for square, grid in zip(squares, grids, strict=True))


def _joined(one: Grid, other: Grid, known: Settled, layout: Layout, spread: float) -> Grid:
    """A normal with the moments of a sum or a product, and what it inherits."""
    profile = one.profile if other.profile is None else other.profile if one.profile is None else None
    if one.profile is not None and other.profile is not None and one.profile.shape == other.profile.shape:
        a, b = average(one.moments().square), average(other.moments().square)
        profile = (a * one.profile + b * other.profile) / max(a + b, 1e-300)
    facts = {"why": known.why, "pieces": known.pieces, "weight": one.weight and other.weight}
    counts = {"channels": max(one.channels, other.channels), "inputs": max(one.inputs, other.inputs)}
    return gaussian(known.moments, layout, profile=profile, spread=spread, **counts, **facts)


def mixture(parts: Sequence[tuple[float, Grid]], layout: Layout, *, of_positions: bool = False) -> Grid:
    """What holds a share of each grid, as a concatenation along channels does.

    Args:
        parts: shares that add up to 1, and grids.
        layout: of the whole.
        of_positions: whether positions are divided among the grids, not channels: then two positions may be of two.
    """
    p = max(grid.classes for _, grid in parts)
    every = [expanded(grid.moments(), p) for _, grid in parts]
    shares = [share for share, _ in parts]
    mixed: list[Number] = [
        sum((share * m[i] for share, m in zip(shares, every, strict=True)), start=0.0)  # type: ignore[operator]
        for i in range(5)
    ]
    if of_positions:
        mixed[3] = _two_parts(parts, every, [m.near for m in every], 0)
        mixed[4] = _two_parts(parts, every, [m.far for m in every], 1)
    first = next((m.field for m in every if m.field is not None and not of_positions), None)
    field = None
    if first is not None:
        whole = [torch.full_like(first, average(m.near)) if m.field is None else m.field for m in every]
        field = torch.stack([share * one for share, one in zip(shares, whole, strict=True)]).sum(0)
    moments = Moments(mixed[0], mixed[1], mixed[2], mixed[3], mixed[4], field)
    profiles = [g.profile for _, g in parts if g.profile is not None]
    profile = profiles[0] if profiles and all(one.shape == profiles[0].shape for one in profiles) else None
    why = next((grid.why for _, grid in parts if grid.why), "")
    weight = all(grid.weight for _, grid in parts)
    squares = [s * average(m.square) for s, m in zip(shares, every, strict=True)]
    spread = _spread(squares, [grid for _, grid in parts])
    channels = max(grid.channels for _, grid in parts)
    like = gaussian(moments, layout, profile=profile, spread=spread, channels=channels, why=why, weight=weight)
    if p > 1:
        return like
    powers = [math.fsum(share * grid.law.powers[n] for share, grid in parts) for n in range(4)]
    zeros = math.fsum(share * grid.law.share_of(0.0) for share, grid in parts)
    return joint(lambda: _of_parts(parts), moments, like, (powers[0], powers[1], powers[2], powers[3]), zeros)


def _of_parts(parts: Sequence[tuple[float, Grid]]) -> Tensor:
    """The quantiles of a mixture."""
    values = torch.cat([grid.values[0] for _, grid in parts])
    return of_weighted(values, torch.cat([share * W for share, _ in parts]))


def _two_parts(
    parts: Sequence[tuple[float, Grid]], every: Sequence[Moments], own: Sequence[Number], which: int
) -> Number:
    """The mean product of two positions, each of one part: of the same one as it is there, of two as they agree.

    Args:
        parts: shares, and grids.
        every: moments of the grids.
        own: mean products of two positions of one part.
        which: 0 of one input, 1 of two.
    """
    found: Number = 0.0
    for i, (share, one) in enumerate(parts):
        for j, (other_share, other) in enumerate(parts):
            alike = own[i] if i == j else products(every[i].mean, every[j].mean)
            if i != j and one.classes == other.classes == 1 and related(one, other):
                alike = agreement(one, other)[which]
            found = found + share * other_share * alike
    return found
