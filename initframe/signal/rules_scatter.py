"""Rules of sums by number, and of elements that are replaced by number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from initframe.signal.combine import mixture, total
from initframe.signal.grid import Grid, constant, gaussian, remarked, replace, reshaped, scaled
from initframe.signal.hermite import W
from initframe.signal.layout import Layout
from initframe.signal.moments import average, moments_of
from initframe.signal.remarks import Remark
from initframe.signal.states import Operation, Rule, State

UNEVEN = "rows are taken as alike, however many were added up in them"


@dataclass(frozen=True, eq=False)
class Totals(Remark):
    """Of sums by number: what is added up is related to them in ways that pairs do not tell."""

    outlives = frozenset(("layout", "elements"))


class Counts(NamedTuple):
    """How many rows are added up in each, as means over all of them.

    Attributes:
        once: of n·w, w the weight that a row's summands have.
        squares: of n·w².
        pairs: of n(n − 1)·w².
        apart: of n·w·n′·w′ of two different ones.
        empty: the share of those in which nothing is added.
        single: the share of those in which one is added.
    """

    once: float
    squares: float
    pairs: float
    apart: float
    empty: float
    single: float


def counted(numbers: Tensor | None, rows: int, added: int, dim: int, *, averaging: bool = False) -> Counts | None:
    """How many rows are added up in each.

    Args:
        numbers: into which, if they are known: one for each row, or one for each element; else any, equally likely.
        rows: how many there are.
        added: how many are added in all.
        dim: the dimension of ``numbers`` along which rows are counted.
        averaging: whether each becomes a mean instead of a sum.

    >>> counted(torch.tensor([0, 0, 1]), 2, 3, 0)
    Counts(once=1.5, squares=1.5, pairs=1.0, apart=2.0, empty=0.0, single=0.5)
    """
    if numbers is None:
        rate = added / rows
        several = rate * (added - 1) / rows
        return None if averaging else Counts(rate, rate, several, several, math.exp(-rate), rate * math.exp(-rate))
    ids = numbers.movedim(dim, 0).reshape(numbers.shape[dim], -1)
    n = torch.zeros(rows, ids.shape[1], dtype=torch.float64, device="cpu")
    n.scatter_add_(0, ids % rows, torch.ones(ids.shape, dtype=torch.float64, device="cpu"))
    w = 1 / n.clamp_min(1) if averaging else torch.ones_like(n)
    each = n * w
    apart = (each.sum(0).square() - each.square().sum(0)) / max(rows * (rows - 1), 1)
    means = (each, each * w, n * (n - 1) * w * w, apart, n == 0, n == 1)
    return Counts(*(one.double().mean().item() for one in means))


def summed_rows(source: Grid, counts: Counts, dim: int, layout: Layout) -> Grid:
    """The grid of sums of rows that lie along one dimension.

    Args:
        source: of one class of positions.
        counts: how many are added up in each.
        dim: the dimension.
        layout: of the result.
    """
    m = source.moments()
    mean, q, same, near, far = (average(x) for x in m[:5])
    inputs, places = source.layout.count("batch", [dim]), source.layout.count("position", [dim])
    level = mean * mean
    if inputs * places > 1:
        apart = (inputs - 1) * same + (places - 1) * near + (inputs - 1) * (places - 1) * far
        pair, other = apart / (inputs * places - 1), far
    else:
        pair, other = level, level
    square = counts.squares * q + counts.pairs * pair
    beside = counts.apart * pair  # another row; what is another element of the same row has the same counts
    same = beside if inputs > 1 else counts.squares * same + counts.pairs * other
    near = beside if places > 1 else counts.squares * near + counts.pairs * other
    if inputs > 1 and places > 1:
        far = beside
    else:
        far = counts.apart * far if inputs * places > 1 else counts.squares * far + counts.pairs * level
    moments = moments_of(mean * counts.once, square, same, near, far)
    why = source.why or ("" if counts.pairs == 0 else UNEVEN)
    like = gaussian(moments, layout, **{**source.kept, "why": why})
    if counts.empty + counts.single == 0 or square <= moments.mean**2:
        return like
    more = max(1 - counts.empty - counts.single, 0.0)
    spread = math.sqrt(max(square - counts.single * q, 0.0) / max(more, 1e-12))
    normal = gaussian(moments_of(0.0, spread**2), layout).values[0]
    values = torch.cat([torch.zeros(1, dtype=torch.float64, device="cpu"), source.values[0], normal])
    weights = torch.cat([W.new_tensor([counts.empty]), counts.single * W, more * W]).clamp_min(1e-15)
    return reshaped(values, weights, moments, like)


def added_rows(op: Operation) -> State:
    """Rows added to some of a tensor's rows, by number (``index_add``)."""
    return _added(op, op.grid("source"), op["source"].shape, 1)


def scattered_sums(op: Operation) -> State:
    """Elements added to some of a tensor's, by number (``scatter_add``)."""
    return _added(op, op.grid("src"), op["index"].shape, op["index"].ndim)


def scattered_means(op: Operation) -> State:
    """Sums or means of elements by number (``scatter_reduce``)."""
    how, include, grid = op["reduce"], bool(op.given.get("include_self", True)), op.grid("self")
    if how == "sum" and include:
        return scattered_sums(op)
    if how not in ("sum", "mean") or include or grid is None or average(grid.moments().square) > 0:
        return None  # what was there remains only where nothing is added
    return _added(op, op.grid("src"), op["index"].shape, op["index"].ndim, averaging=how == "mean")


def _added(
    op: Operation, source: Grid | None, shape: tuple[int, ...], dims: int, *, averaging: bool = False
) -> Grid | None:
    """A tensor plus sums of rows."""
    grid = op.grid("self")
    if grid is None or source is None or source.classes > 1:
        return None
    dim = int(op["dim"]) % len(op.shape)
    numbers = op.known("index")
    counts = counted(numbers, op.shape[dim], shape[dim], dim if dims > 1 else 0, averaging=averaging)
    if counts is None:
        return None
    source = scaled(source, float(op.given.get("alpha", 1)))
    found = summed_rows(source, counts, dim, source.layout.sized(dim, op.shape[dim]).fitted(op.shape))
    if grid.source is None and average(grid.moments().square) == 0:
        return found if source.source is None else remarked(found, Totals())
    return total(grid, found, grid.layout)


def scattered(op: Operation) -> State:
    """Elements of a tensor replaced by others, by number; each is taken to be replaced once at most."""
    grid, other = op.grid("self"), op.given.get("src", op.given.get("value"))
    source = (
        op.states.grid(other) if isinstance(other, Tensor) else constant(float(other), grid.layout) if grid else None
    )
    if grid is None or source is None:
        return None
    dim = int(op["dim"]) % len(op.shape)
    share = min(op["index"].shape[dim] / op.shape[dim], 1.0)
    layout = source.layout.fitted(op.shape) if isinstance(other, Tensor) else grid.layout
    of_positions = "position" in layout.roles(dim)
    parts = [(1 - share, replace(grid, layout=layout)), (share, replace(source, layout=layout))]
    found = mixture([(s, g) for s, g in parts if s > 0], layout, of_positions=of_positions)
    return replace(found, why=found.why or "which elements are replaced is taken as random")


RULES: dict[str, Rule] = {
    "index_add": added_rows,
    "scatter_add": scattered_sums,
    "scatter_reduce": scattered_means,
    "scatter": scattered,
}
