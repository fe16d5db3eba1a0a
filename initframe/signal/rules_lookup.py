"""Rules of operations that pick rows by number, and of those that add rows up by number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from initframe.signal.combine import mixture, total
from initframe.signal.grid import Grid, constant, gaussian, independent, related_as, remarked, replace, reshaped, scaled
from initframe.signal.hermite import W
from initframe.signal.layout import Factor, Layout, sequence
from initframe.signal.moments import average, moments_of
from initframe.signal.remarks import Remark
from initframe.signal.states import Operation, Rule, State

UNEVEN = "rows are taken as alike, however many were added up in them"


@dataclass(frozen=True, eq=False)
class Totals(Remark):
    """Of sums by number: what is added up is related to them in ways that pairs do not tell."""

    outlives = frozenset(("layout", "elements"))


def embedding(op: Operation) -> State:
    """Rows of a weight, looked up by number."""
    return lookup(op.grid("weight"), op.known("indices"), op.shape)


def index(op: Operation) -> State:
    """Rows of a weight, or elements of a tensor, picked by tensors of numbers."""
    grid = op.grid("self")
    if grid is None:
        return None
    indices = [i for i in op["indices"] if i is not None]
    known = op.states.get(indices[0]) if indices else None
    if isinstance(known, Tensor) and known.dtype == torch.bool:
        known = None
    numbers = known if isinstance(known, Tensor) else None
    if not grid.weight:
        if len(op["indices"]) == 1 and numbers is not None and grid.classes == 1:
            grid = picked(grid, 0, numbers)
        return replace(independent(grid), layout=grid.layout.fitted(op.shape))
    found = lookup(grid, numbers, op.shape)
    many = len(grid.layout.shape) - len(indices) > 1  # whole matrices are picked (experts): they are weights still
    return found and (replace(found, weight=True) if many else found)


def selected(op: Operation) -> State:
    """Rows along a dimension, picked by a list of numbers."""
    grid, numbers = op.grid("self"), op.known("index")
    if grid is None:
        return None
    dim = int(op["dim"]) % max(len(grid.layout.dims), 1)
    if numbers is not None and grid.classes == 1 and not grid.weight:
        grid = picked(grid, dim, numbers)
    return replace(independent(grid), layout=grid.layout.fitted(op.shape))


def picked(grid: Grid, dim: int, numbers: Tensor) -> Grid:
    """The grid of rows along one dimension, where some of them were picked several times: these are equal.

    Args:
        grid: of one class of positions.
        dim: the dimension.
        numbers: which rows, of any shape.
    """
    ids = numbers.reshape(-1)
    if ids.numel() < 2:
        return grid
    pairs = torch.bincount(ids % max(grid.layout.shape[dim], 1)).double()
    equal = ((pairs * (pairs - 1)).sum() / (ids.numel() * (ids.numel() - 1))).item()
    roles = grid.layout.roles(dim)
    if equal == 0 or not roles & {"batch", "position"}:
        return grid
    q, same, near, far = (average(x) for x in grid.moments()[1:5])
    elsewhere = q if {"batch", "position"} <= roles else near if "batch" in roles else same
    moments = moments_of(
        average(grid.moments().mean),
        q,
        equal * q + (1 - equal) * same if "batch" in roles else same,
        equal * q + (1 - equal) * near if "position" in roles else near,
        equal * elsewhere + (1 - equal) * far,
    )
    totals = grid.remark(Totals)
    found = related_as(grid, moments)
    return remarked(found, totals) if totals else found


def lookup(weight: Grid | None, indices: Tensor | None, shape: tuple[int, ...]) -> Grid | None:
    """The grid of rows picked from a weight: equal numbers share a row.

    Args:
        weight: rows of numbers.
        indices: which rows, if they are known; else any, equally likely.
        shape: of the result.
    """
    if weight is None:
        return None
    layout = sequence(shape)
    if len(shape) > 2 and (indices is None or (indices.ndim > 1 and indices.shape[0] > 1)):
        layout = layout.with_dim(0, (Factor("batch", shape[0]),))
    m = weight.moments()
    mean, square = average(m.mean), average(m.square)
    shares = _coincidences(indices, weight.layout.shape[0] if weight.layout.dims else 1)
    pairs = [mean**2 + share * (square - mean**2) for share in shares]
    return gaussian(moments_of(mean, square, *pairs), layout)


def _coincidences(indices: Tensor | None, rows: int) -> tuple[float, float, float]:
    """How often two numbers agree: at the same position of two inputs, at two positions of one, at two of two."""
    if indices is None:
        return (1 / max(rows, 1),) * 3
    ids = indices.reshape(indices.shape[0] if indices.ndim > 1 else 1, -1)[:64, :512]
    inputs, length = ids.shape
    near = ((ids[:, :, None] == ids[:, None, :]).double().sum() - ids.numel()) / max(inputs * length * (length - 1), 1)
    if inputs == 1:
        return 1.0, near.item(), near.item()
    equal = ids[:, None, :, None] == ids[None, :, None, :] if ids.numel() <= 2048 else None
    pairs = inputs * (inputs - 1)
    same = ((ids[:, None] == ids[None, :]).double().mean(-1).sum() - inputs) / pairs
    if equal is None:
        return same.item(), near.item(), near.item()
    across = equal.double().sum((2, 3))
    every = across.sum() - across.diagonal().sum()
    far = (every - same * pairs * length) / max(pairs * length * (length - 1), 1)
    return same.item(), near.item(), far.item()


def bag(op: Operation) -> tuple[State, ...]:
    """Sums or means of rows of a weight (an embedding bag)."""
    weight, numbers, begins = op.grid("weight"), op.known("indices"), op.known("offsets")
    mode = int(op.given.get("mode") or 0)
    unlike = mode > 1 or op.given.get("per_sample_weights") is not None  # maxima, and weighted sums
    if weight is None or numbers is None or begins is None or unlike:
        return (None, None, None, None)
    rows, bags = int(op["weight"].shape[0]), op.shape[0]
    which = torch.bucketize(torch.arange(numbers.numel(), device="cpu"), begins[:bags], right=True) - 1
    counts = torch.zeros(min(bags, 64), rows, dtype=torch.float64, device="cpu")
    inside = which < len(counts)
    counts.index_put_((which[inside], numbers[inside]), torch.ones((), dtype=torch.float64), accumulate=True)
    sizes = counts.sum(1, keepdim=True)
    shares = counts / sizes.clamp_min(1) if mode == 1 else counts
    products = shares @ shares.T
    sums = shares.sum(1)
    m = weight.moments()
    level, varying = average(m.mean) ** 2, average(m.square) - average(m.mean) ** 2
    pairs = max(len(shares) * (len(shares) - 1), 1)
    square = varying * products.diagonal().mean().item() + level * sums.square().mean().item()
    own, every = products.diagonal().sum().item(), (products.sum().item(), sums.sum().item() ** 2)
    same = (varying * (every[0] - own) + level * (every[1] - sums.square().sum().item())) / pairs
    mean = average(m.mean) * sums.mean().item()
    layout = Layout(((Factor("batch", bags),), (Factor("channel", op.shape[-1]),)))
    return (gaussian(moments_of(mean, square, same, square, same), layout), None, None, None)


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
    "embedding": embedding,
    **dict.fromkeys(("_embedding_bag", "_embedding_bag_forward_only"), bag),
    "index": index,
    "index_select": selected,
    "index_add": added_rows,
    "scatter_add": scattered_sums,
    "scatter_reduce": scattered_means,
    "scatter": scattered,
}
