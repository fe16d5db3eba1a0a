"""Classes of positions: under a causal mask the first positions see few others, so they are told apart."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from initframe.signal.grid import Grid, gaussian, replace
from initframe.signal.laws import Line
from initframe.signal.moments import Moments

CLASSES = 20
"""Classes at most; their sizes grow with the position."""


@lru_cache(maxsize=64)
def edges(length: int) -> tuple[int, ...]:
    """Where the classes of a sequence begin, and its end.

    >>> edges(4)
    (0, 1, 2, 3, 4)
    """
    if length <= CLASSES:
        return tuple(range(length + 1))
    grown = [round(length ** (i / CLASSES)) for i in range(CLASSES + 1)]
    return tuple(sorted({0, *grown, length}))


def sizes(length: int) -> Tensor:
    """The share of the positions in each class."""
    cuts = torch.tensor(edges(length), dtype=torch.float64, device="cpu")
    return cuts.diff() / length


def class_of(length: int, position: int) -> int:
    """The class of a position."""
    return next(k for k, end in enumerate(edges(length)[1:]) if position < end)


def middle(length: int) -> list[int]:
    """A position that stands for each class."""
    cuts = edges(length)
    return [(a + b - 1) // 2 for a, b in pairwise(cuts)]


def shares(grid: Grid) -> Tensor:
    """The share of the positions in each class of a grid."""
    for length in sorted({f.size for dim in grid.layout.dims for f in dim if f.role == "position"}, reverse=True):
        if len(edges(length)) - 1 == grid.classes:
            return sizes(length)
    return torch.full((grid.classes,), 1 / grid.classes, dtype=torch.float64, device="cpu")


def by_class(known: Tensor | None, grid: Grid, lead: Grid) -> Grid:
    """A number for each position, as classes of positions tell them apart; any other grid as it is.

    Args:
        known: the values of the grid, if they are known.
        grid: of an operand.
        lead: the grid of another operand, with several classes.
    """
    if known is None or grid.classes > 1 or known.is_complex():
        return grid
    dims = [d - known.ndim for d, size in enumerate(known.shape) if size > 1]
    if len(dims) != 1 or len(lead.layout.dims) < -dims[0] or lead.layout.roles(dims[0]) != {"position"}:
        return grid
    cuts = edges(known.shape[dims[0]])
    if len(cuts) - 1 != lead.classes:
        return grid
    values = known.detach().reshape(-1).double().cpu()
    means = torch.stack([values[a:b].mean() for a, b in pairwise(cuts)])
    return replace(grid, law=Line(means, means * 0.0), source=None)


def averaged(grid: Grid) -> Moments:
    """Moments of one class: the average over all positions."""
    return grid.moments() if grid.classes == 1 else grid.moments().weighted(shares(grid))


def mean_over(grid: Grid) -> Grid:
    """The grid with one class of positions."""
    if grid.classes == 1:
        return grid
    return replace(gaussian(averaged(grid), grid.layout), weight=grid.weight, **grid.kept)
