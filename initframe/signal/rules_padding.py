"""Rules of padding: elements with numbers, or with other elements, around them."""

from __future__ import annotations

import math

from initframe.signal.combine import mixture
from initframe.signal.grid import Grid, constant, gaussian, independent, joint, replace
from initframe.signal.hermite import CDF
from initframe.signal.kinship import part_of
from initframe.signal.layout import Layout
from initframe.signal.moments import moments_of
from initframe.signal.states import Operation, Rule, State

MOSTLY = 0.75
"""Below which share of places that hold elements windows differ in how full they are."""


def pad(op: Operation) -> State:
    """Elements with a constant around them."""
    grid = op.grid("self")
    if grid is None:
        return None
    inside, cut = 1.0, [0] * len(op.shape)
    for i, size in enumerate(op["pad"]):
        cut[-1 - i // 2] += max(-size, 0)
    for size, own, left in zip(op.shape, grid.layout.shape, cut, strict=True):
        inside *= min((own - left) / max(size, 1), 1.0)
    layout = grid.layout.fitted(op.shape)
    if any(op["pad"][::2]):  # what was in front of them moves elements to other places
        front = [len(op.shape) - 1 - i for i, size in enumerate(op["pad"][::2]) if size]
        grid = part_of(grid, {role for d in front for role in grid.layout.roles(d)})
    value = float(op.given.get("value") or 0)
    if inside >= 1.0 or not math.isfinite(value):  # −∞ around a maximum counts for nothing
        return replace(grid, layout=layout, profile=None)
    padded = [len(op.shape) - 1 - i // 2 for i, size in enumerate(op["pad"]) if size]
    of_positions = any("position" in grid.layout.roles(d) for d in padded)
    parts = [(inside, replace(grid, profile=None)), (1 - inside, constant(value, layout))]
    found = mixture(parts, layout, of_positions=of_positions)
    if of_positions and inside < MOSTLY:
        found = replace(found, why=found.why or "places with much padding around them are taken as equally full")
    if value or grid.source is None or grid.source.link is None or grid.classes > 1:
        return found
    return replace(found, pieces=((1.0, (_inside(inside, layout, of_positions), grid)),))


def _inside(share: float, layout: Layout, of_positions: bool) -> Grid:
    """1 where there are elements, and 0 around them, the same for all inputs."""
    pairs = share**2 if of_positions else share
    moments = moments_of(share, share, share, pairs, pairs)
    return joint((share > CDF).double, moments, gaussian(moments, layout))


def mirrored(op: Operation) -> State:
    """Elements with some of them around them once more."""
    grid = op.grid("self")
    return grid and replace(independent(grid), layout=grid.layout.fitted(op.shape), profile=None)


RULES: dict[str, Rule] = {
    "constant_pad_nd": pad,
    **dict.fromkeys([f"{how}_pad{n}d" for how in ("reflection", "replication") for n in (1, 2, 3)], mirrored),
}
