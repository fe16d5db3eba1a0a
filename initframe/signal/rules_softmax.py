"""Rules of softmax and its kin, over classes, over positions, and over keys."""

from __future__ import annotations

import math

import torch

from initframe.signal.attention_weights import attention_weights, concentration
from initframe.signal.grid import Grid, constant, gaussian, related_as, remarked, replace, reshaped, scaled
from initframe.signal.hermite import W
from initframe.signal.layout import channels
from initframe.signal.moments import average, moments_of
from initframe.signal.positions import averaged
from initframe.signal.samples import Samples, independent_rows, rows_of, samples_of
from initframe.signal.states import Operation, Rule, State


def softmax(op: Operation) -> State:
    """A softmax: over keys it gives attention weights, over channels likewise, as these are independent."""
    grid = op.grid("self")
    if grid is None:
        return None
    dim = op["dim"] % len(op.shape)
    if (samples := samples_of(grid)) is not None and dim == len(op.shape) - 1:
        return rows_of(samples.softmax(-1), grid)
    if grid.mask is None and "position" in grid.layout.roles(dim) and dim < len(op.shape) - 1:
        return over_places(grid, op.shape[dim])
    if "position" in grid.layout.roles(dim) or grid.mask is not None:
        return attention_weights(grid, op.shape)[0]
    return over_classes(grid, op.shape[dim])


def over_places(grid: Grid, count: int) -> Grid:
    """A softmax over positions for each channel: weights that add up to 1, which makes two of them differ.

    Args:
        grid: of the scores.
        count: of positions.
    """
    m = averaged(grid)
    square, same, near, far = map(average, m[1:5])  # what all positions share, a softmax removes
    apart = gaussian(moments_of(0.0, square - near, same - far), grid.layout, **grid.kept)
    found = over_classes(apart, count)
    level, weights = 1 / count, found.moments()
    rests = [(level - average(x)) / max(count - 1, 1) for x in (weights.square, weights.same)]
    moments = moments_of(level, average(weights.square), average(weights.same), *rests)
    return replace(related_as(found, moments), why=grid.why)


def over_classes(grid: Grid, count: int) -> Grid:
    """A softmax over independent classes.

    Args:
        grid: of the scores.
        count: of classes.

    >>> from initframe.signal.layout import Layout
    >>> even = over_classes(gaussian(moments_of(0.0, 0.0), Layout(())), 4)
    >>> round(even.moments().square, 6)
    0.0625
    """
    m = averaged(grid)
    variance = max(average(m.square) - average(m.mean) ** 2, 0.0)
    size = torch.tensor([float(count)], dtype=torch.float64, device="cpu")
    excess = count * concentration(size, torch.tensor([variance], dtype=torch.float64, device="cpu"), grid.terms).item()
    pairs = (
        excess ** min(max((average(x) - average(m.mean) ** 2) / max(variance, 1e-300), 0.0), 1.0) / count**2
        for x in m[2:5]
    )
    moments = moments_of(1 / count, excess / count**2, *pairs)
    like = gaussian(moments, grid.layout, **{**grid.kept, "why": grid.why or "softmax over independent classes"})
    values = (grid.values.mean(0) - grid.values.amax()).exp()
    if variance <= 0:
        return like
    found = reshaped(values, W, moments, like)
    if count > EXPERTS:
        return found
    return remarked(found, Samples(independent_rows(grid, count).softmax(-1)))


EXPERTS = 64
"""Classes of which samples are drawn too: the largest of them may be asked for, as routers do."""


def logsumexp(op: Operation) -> State:
    """The logarithm of a sum of exponentials over independent elements, as the number that it is on average."""
    grid, dims = op.grid("self"), op["dim"]
    if grid is None:
        return None
    m = averaged(grid)
    variance = max(average(m.square) - average(m.mean) ** 2, 0.0)
    count = math.prod(grid.layout.shape[d] for d in dims)
    level = average(m.mean) + math.log(max(count, 1)) + variance / 2
    return replace(constant(level, channels(op.shape)), why=grid.why or "the sum is taken as its mean")


def log_softmax(op: Operation) -> State:
    """A softmax's logarithm: the scores minus a number, the same for all classes."""
    grid = op.grid("self")
    if grid is None:
        return None
    m = averaged(grid)
    variance = max(average(m.square) - average(m.mean) ** 2, 0.0)
    why = grid.why or "the sum over classes is taken as its mean"
    level = average(m.mean) + math.log(op.shape[op["dim"]]) + variance / 2
    return replace(scaled(grid, 1.0, -level), why=why)


RULES: dict[str, Rule] = {
    "softmax": softmax,
    "_safe_softmax": softmax,
    "log_softmax": log_softmax,
    "logsumexp": logsumexp,
}
