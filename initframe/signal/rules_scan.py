"""Rules of running sums: what a place holds depends on how many are in front of it."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from initframe.signal.grid import Grid, gaussian
from initframe.signal.moments import Moments, average, moments_of
from initframe.signal.positions import averaged, class_of, edges
from initframe.signal.states import Operation, Rule, State

LONGEST = 2048
"""Up to how many positions are told apart; their pairs are counted one by one."""


def running_sum(op: Operation) -> State:
    """The sums of the first elements along one dimension.

    At position t it is t·q + t(t − 1)·near, and E SₛSₜ is the sum over all pairs of positions up to s and t.
    """
    grid = op.grid("self")
    if grid is None or not grid.layout.dims:
        return grid
    dim = int(op["dim"]) % len(grid.layout.dims)
    length, roles = grid.layout.shape[dim], grid.layout.roles(dim)
    if length == 1:
        return grid
    if roles == {"channel"}:
        return _over_channels(grid, length)
    if roles != {"position"} or length > LONGEST:
        return None
    out = _over_positions(grid, length)
    if grid.layout.count("position") > length:  # each row of an image, say
        out = _flat(out, grid)
    return out


def _over_positions(grid: Grid, length: int) -> Grid:
    """Running sums along the only positions, by classes of them."""
    mean, own, cross = _every(grid, length)
    sums = [one.cumsum(0).cumsum(1) for one in (own, cross)]
    spans = list(pairwise(edges(length)))
    share = torch.zeros(len(spans), length, dtype=torch.float64, device="cpu")
    for k, (begin, end) in enumerate(spans):
        share[k, begin:end] = 1 / (end - begin)
    (square, near), (same, far) = (_by_class(one, share) for one in sums)
    facts = {"spread": grid.spread_over_seeds, "channels": grid.channels, "inputs": grid.inputs, "why": grid.why}
    return gaussian(Moments(share @ mean.cumsum(0), square, same, near, far), grid.layout, **facts)


def _by_class(products: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Mean products of a position with itself, and with another one, by class."""
    own, pairs = share @ products.diagonal(), share @ products @ share.T
    sizes = 1 / share.amax(1)
    several = sizes > 1
    apart = (pairs.diagonal() * sizes - own)[several] / (sizes[several] - 1)
    pairs.diagonal()[several] = apart
    return own, pairs


def _every(grid: Grid, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """The mean at each position, and mean products of two, of one input and of two: (T,), (T, T), (T, T)."""
    m = grid.moments()
    m = m if m.classes == len(edges(length)) - 1 else averaged(grid)
    which = [class_of(length, t) for t in range(length)] if m.classes > 1 else [0] * length
    first, second, third = (torch.as_tensor(x, dtype=torch.float64, device="cpu").reshape(-1)[which] for x in m[:3])
    pairs = (torch.as_tensor(x, dtype=torch.float64, device="cpu").reshape(m.classes, -1) for x in m[3:5])
    own, cross = (x[which][:, which] for x in pairs)
    own.diagonal().copy_(second)
    cross.diagonal().copy_(third)
    return first, own, cross


def _over_channels(grid: Grid, count: int) -> Grid:
    """Running sums of independent channels: on average (n + 1)/2 of them, whose (n² − 1)/3 pairs share the mean."""
    m = averaged(grid)
    level, terms, pairs = average(m.mean) ** 2, (count + 1) / 2, (count**2 - 1) / 3
    means = (terms * average(x) + pairs * level for x in m[1:5])
    why = grid.why or "sums along channels are taken as alike"
    return gaussian(moments_of(terms * average(m.mean), *means), grid.layout, **{**grid.kept, "why": why})


def _flat(out: Grid, grid: Grid) -> Grid:
    """Running sums with one class of positions, if there are other positions than those along the dimension."""
    why = grid.why or "positions of a running sum are taken as alike"
    return gaussian(averaged(out), out.layout, **{**grid.kept, "why": why})


RULES: dict[str, Rule] = {"cumsum": running_sum}
