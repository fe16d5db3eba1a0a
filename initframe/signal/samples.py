"""Grids that also have samples: what is related in more ways than pairs can tell, such as the k largest of a row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from initframe.signal.grid import Grid, gaussian, remarked, reshaped
from initframe.signal.moments import moments_of
from initframe.signal.remarks import Remark

ROWS = 4096
"""How many rows are drawn."""
LARGEST = 65536
"""How many samples a distribution is read from."""


@dataclass(frozen=True, eq=False)
class Samples(Remark):
    """Of rows that are independent of each other, samples of whole rows: (samples, elements of a row)."""

    outlives = frozenset(("layout", "elements"))

    values: Tensor


def samples_of(grid: Grid) -> Tensor | None:
    """The samples of a grid's rows, if it has some."""
    known = grid.remark(Samples)
    return None if known is None else known.values


def independent_rows(grid: Grid, count: int) -> Tensor:
    """Samples of rows whose elements are independent, always the same ones.

    Args:
        grid: of an element, of one class of positions.
        count: elements of a row.

    >>> from initframe.signal.layout import Layout
    >>> independent_rows(gaussian(moments_of(0.0, 1.0), Layout(())), 3).shape
    torch.Size([4096, 3])
    """
    generator = torch.Generator(device="cpu")
    generator.manual_seed(0)
    return grid.law.at(torch.randn(ROWS, count, generator=generator, dtype=torch.float64, device="cpu"))


def rows_of(samples: Tensor, like: Grid) -> Grid:
    """The grid of samples.

    Args:
        samples: (samples, elements of a row).
        like: the grid whose layout and reason are kept.

    >>> from initframe.signal.layout import Layout
    >>> grid = rows_of(torch.tensor([[3.0, 1.0], [1.0, 3.0]]), gaussian(moments_of(0.0, 1.0), Layout(())))
    >>> round(grid.moments().square, 6)
    5.0
    """
    flat = samples.reshape(-1)[:LARGEST].double()
    mean, square = flat.mean().item(), flat.square().mean().item()
    moments = moments_of(mean, square, mean**2, mean**2, mean**2)
    plain = gaussian(moments, like.layout, why=like.why)
    grid = plain if square - mean**2 <= 0 else reshaped(flat, torch.ones_like(flat), moments, plain)
    return remarked(grid, Samples(samples))
