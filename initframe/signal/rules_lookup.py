"""Rules of operations that pick rows by number."""

from __future__ import annotations

import torch
from torch import Tensor

from initframe.signal.grid import Grid, gaussian, independent, related_as, remarked, replace
from initframe.signal.kinship import follows, part_of
from initframe.signal.layout import Factor, Layout, sequence
from initframe.signal.moments import average, moments_of
from initframe.signal.rules_scatter import Totals
from initframe.signal.states import Operation, Rule, State


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
        whole, first = grid, next(d for d, one in enumerate(op["indices"]) if one is not None)
        if len(op["indices"]) == 1 and numbers is not None and grid.classes == 1:
            grid = picked(grid, 0, numbers)
        return replace(_of(whole, grid, first), layout=grid.layout.fitted(op.shape))
    found = lookup(grid, numbers, op.shape)
    many = len(grid.layout.shape) - len(indices) > 1  # whole matrices are picked (experts): they are weights still
    return found and (replace(found, weight=True) if many else found)


def selected(op: Operation) -> State:
    """Rows along a dimension, picked by a list of numbers."""
    grid, numbers = op.grid("self"), op.known("index")
    if grid is None:
        return None
    dim, whole = int(op["dim"]) % max(len(grid.layout.dims), 1), grid
    if numbers is not None and grid.classes == 1 and not grid.weight:
        grid = picked(grid, dim, numbers)
    return replace(_of(whole, grid, dim), layout=grid.layout.fitted(op.shape))


def _of(whole: Grid, grid: Grid, dim: int) -> Grid:
    """Rows that were picked along a dimension, as parts of the whole."""
    if grid is whole or whole.source is None or not whole.layout.dims:
        return part_of(grid, grid.layout.roles(dim) if grid.layout.dims else set())
    roles = whole.layout.roles(dim)
    found = independent(grid)
    return found if not roles or "channel" in roles else follows(found, whole.source, roles)


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


RULES: dict[str, Rule] = {
    "embedding": embedding,
    **dict.fromkeys(("_embedding_bag", "_embedding_bag_forward_only"), bag),
    "index": index,
    "index_select": selected,
}
