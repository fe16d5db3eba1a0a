"""Rules of operations that move elements: views, slices, concatenation, lookups."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from initframe.signal.combine import mixture, total
from initframe.signal.grid import Grid, constant, gaussian, independent, replace
from initframe.signal.layout import Factor, Layout, channels, images, sequence
from initframe.signal.moments import average, moments_of
from initframe.signal.positions import class_of, mean_over
from initframe.signal.samples import rows_of
from initframe.signal.walk import LARGEST, Operation, Rule, State


def same(op: Operation) -> State:
    """The same elements in the same places: a copy, a cast."""
    known = op.known("self")
    return known if known is not None and known.shape == op.shape else op.grid("self")


def view(op: Operation) -> State:
    """The same elements under another shape."""
    grid = op.grid("self")
    return grid and replace(grid, layout=grid.layout.view(op.shape))


def permute(op: Operation) -> State:
    """The same elements, dimensions in another order."""
    grid = op.grid("self")
    return grid and replace(grid, layout=grid.layout.permute([d % len(op.shape) for d in op["dims"]]))


def transpose(op: Operation) -> State:
    """Two dimensions exchanged."""
    grid, n = op.grid("self"), len(op.shape)
    if grid is None or n < 2:
        return grid
    order = list(range(n))
    a, b = (op["dim0"] % n, op["dim1"] % n) if "dim0" in op.given else (0, 1)
    order[a], order[b] = order[b], order[a]
    return replace(grid, layout=grid.layout.permute(order))


def expand(op: Operation) -> State:
    """Copies along new dimensions; the batch's own dimension is recognized by its place in front."""
    grid = op.grid("self")
    if grid is None:
        return None
    dims: list[tuple[Factor, ...]] = [()] * (len(op.shape) - len(grid.layout.dims)) + list(grid.layout.dims)
    for i, size in enumerate(op.shape):
        if size > 1 and not any(f.size > 1 for f in dims[i]):
            dims[i] = (Factor("batch" if i == 0 else "position" if i < len(op.shape) - 1 else "channel", size),)
    return replace(grid, layout=Layout(tuple(dims)))


def fresh(grid: Grid) -> Grid:
    """Other elements of the same kind: the same correlations, a normal of their own."""
    return independent(grid)


def part(op: Operation) -> State:
    """A part along one dimension: a slice, one index, elements picked by number."""
    grid = op.grid("self")
    if grid is None:
        return None
    dim = op.given.get("dim", 0) % max(len(grid.layout.dims), 1)
    if op.shape == grid.layout.shape:
        return grid
    if grid.classes > 1 and "position" in grid.layout.roles(dim):
        grid = _at_positions(grid, op, grid.layout.shape[dim])
    layout = grid.layout
    if len(op.shape) < len(layout.dims):
        layout = Layout(tuple(factors for d, factors in enumerate(layout.dims) if d != dim))
    profile = None if "position" in grid.layout.roles(dim) else grid.profile
    return replace(fresh(grid), layout=layout.fitted(op.shape), profile=profile)


def _at_positions(grid: Grid, op: Operation, length: int) -> Grid:
    """Of a grid with classes of positions, those that are picked."""
    if "index" in op.given and isinstance(op["index"], int):
        return _one_class(grid, class_of(length, op["index"] % length))
    start, end = op.given.get("start") or 0, op.given.get("end")
    start, end = start % length, length if end is None else min(end if end >= 0 else end + length, length)
    if end - start == 1:
        return _one_class(grid, class_of(length, start))
    return mean_over(grid)


def _one_class(grid: Grid, k: int) -> Grid:
    m = grid.moments()
    one = torch.zeros(m.classes, dtype=torch.float64, device="cpu")
    one[k] = 1.0
    return replace(gaussian(m.weighted(one), grid.layout), **grid.kept)


def parts(op: Operation) -> tuple[State, ...]:
    """Several parts along one dimension, each with a normal of its own."""
    grid = op.grid("self")
    if grid is None:
        return (None,) * len(op.out)
    dim = op.given.get("dim", 0) % len(grid.layout.dims)
    if grid.classes > 1 and "position" in grid.layout.roles(dim):
        grid = mean_over(grid)
    layout = grid.layout
    if len(op.shape) < len(layout.dims):
        layout = Layout(tuple(factors for d, factors in enumerate(layout.dims) if d != dim))
    return tuple(replace(fresh(grid), layout=layout.fitted(out.shape)) for out in op.out)


def cat(op: Operation) -> State:
    """Several tensors one after another, along any dimension."""
    tensors: list[Tensor] = list(op["tensors"])
    grids = [op.states.grid(tensor) for tensor in tensors]
    pairs = [(t.numel(), g) for t, g in zip(tensors, grids, strict=True) if t.numel()]
    if any(g is None for _, g in pairs):
        return None
    count = sum(n for n, _ in pairs)
    known = [g for _, g in pairs if g is not None]
    largest = max(known, key=lambda g: g.layout.shape)
    stacked = len(op.shape) > len(largest.layout.dims)
    layout = channels(op.shape) if stacked else largest.layout.fitted(op.shape)
    stacked_positions = not stacked and "position" in largest.layout.roles(op.given.get("dim", 0) % len(op.shape))
    shares = [(n / count, g) for n, g in pairs if g is not None]
    return mixture(shares, layout, of_positions=stacked_positions)


def repeat(op: Operation) -> State:
    """Copies along dimensions."""
    grid = op.grid("self")
    if grid is None:
        return None
    dims = [()] * (len(op.shape) - len(grid.layout.dims)) + list(grid.layout.dims)
    return replace(grid, layout=Layout(tuple(dims)).fitted(op.shape))


def moved(op: Operation) -> State:
    """The same elements in other places: rolled, flipped, gathered, sorted into windows."""
    grid = op.grid("self")
    return grid and replace(fresh(grid), layout=grid.layout.fitted(op.shape))


def folded(op: Operation) -> State:
    """Patches put back into an image: where they overlap, independent ones are added."""
    grid = op.grid("self")
    if grid is None:
        return None
    overlap = max(op["self"].numel() / max(math.prod(op.shape), 1), 1.0)
    m = grid.moments()
    if m.classes > 1:
        return None
    mean, square, same, near, far = map(average, m[:5])
    more = (overlap**2 - overlap) * mean**2
    moments = moments_of(mean * overlap, *(overlap * x + more for x in (square, same, near, far)))
    return gaussian(moments, images(op.shape), **grid.kept) if overlap > 1 else replace(grid, layout=images(op.shape))


def pad(op: Operation) -> State:
    """Elements with a constant around them."""
    grid = op.grid("self")
    if grid is None:
        return None
    inside = 1.0
    for size, own in zip(op.shape, grid.layout.shape, strict=True):
        inside *= min(own / max(size, 1), 1.0)
    layout = grid.layout.fitted(op.shape)
    value = float(op.given.get("value") or 0)
    if inside >= 1.0 or not math.isfinite(value):  # −∞ around a maximum counts for nothing
        return replace(grid, layout=layout, profile=None)
    padded = [d for d, (size, own) in enumerate(zip(op.shape, grid.layout.shape, strict=True)) if size != own]
    of_positions = any("position" in grid.layout.roles(d) for d in padded)
    parts = [(inside, replace(grid, profile=None)), (1 - inside, constant(value, layout))]
    return mixture(parts, layout, of_positions=of_positions)


def largest(op: Operation) -> tuple[State, ...]:
    """The k largest along a dimension, by order statistics of samples; which they are is drawn, all equally likely."""
    grid = op.grid("self")
    shape = tuple(op["self"].shape)
    dim, k = op.given.get("dim", -1) % len(shape), int(op.given.get("k", shape[op.given.get("dim", -1)]))
    generator = torch.Generator(device="cpu")
    generator.manual_seed(0)
    if grid is None or math.prod(shape) > LARGEST:
        return (None, None)
    picked = torch.rand(shape, generator=generator, device="cpu").argsort(dim).narrow(dim, 0, k).contiguous()
    z = torch.randn(4096, shape[dim], generator=generator, dtype=torch.float64, device="cpu")
    top = grid.law.at(z).sort(1, descending=True).values[:, :k]
    layout = grid.layout.fitted(op.shape)
    return (rows_of(top, replace(grid, layout=layout, why="largest of samples")), picked)


def added_rows(op: Operation) -> State:
    """Rows added into some of a tensor's rows: each row gets its share of them."""
    grid, source = op.grid("self"), op.grid("source")
    if grid is None or source is None:
        return None
    share = op["source"].numel() / max(op["self"].numel(), 1)
    m = source.moments()
    zero = constant(0.0, grid.layout)
    if share >= 1:
        return total(grid, replace(gaussian(m.times(share), grid.layout), why=source.why), grid.layout)
    return total(
        grid, mixture([(share, replace(source, layout=grid.layout)), (1 - share, zero)], grid.layout), grid.layout
    )


def embedding(op: Operation) -> State:
    """Rows of a weight, looked up by number."""
    return lookup(op.grid("weight"), op.known("indices"), op.shape)


def index(op: Operation) -> State:
    """Rows of a weight, or elements of a tensor, picked by tensors of numbers."""
    grid = op.grid("self")
    if grid is None:
        return None
    if not grid.weight:
        return replace(fresh(grid), layout=grid.layout.fitted(op.shape))
    indices = [i for i in op["indices"] if i is not None]
    known = op.states.get(indices[0]) if indices else None
    if isinstance(known, Tensor) and known.dtype == torch.bool:
        known = None
    found = lookup(grid, known if isinstance(known, Tensor) else None, op.shape)
    many = len(grid.layout.shape) - len(indices) > 1  # whole matrices are picked (experts): they are weights still
    return found and (replace(found, weight=True) if many else found)


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


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("clone", "detach", "_to_copy", "alias", "contiguous", "lift_fresh", "_conj", "resolve_conj"), same
    ),
    **dict.fromkeys(("view", "_unsafe_view", "_reshape_alias", "reshape", "unsqueeze", "squeeze", "as_strided"), view),
    "permute": permute,
    **dict.fromkeys(("transpose", "t"), transpose),
    "expand": expand,
    **dict.fromkeys(("slice", "select", "narrow", "index_select"), part),
    **dict.fromkeys(("split", "split_with_sizes", "unbind", "chunk", "unsafe_split", "unsafe_chunk"), parts),
    **dict.fromkeys(("cat", "stack"), cat),
    "repeat": repeat,
    **dict.fromkeys(
        ("roll", "flip", "gather", "unfold", "im2col", "pixel_shuffle", "pixel_unshuffle", "diagonal"), moved
    ),
    **dict.fromkeys(("upsample_linear1d", "upsample_nearest1d", "upsample_nearest3d", "upsample_trilinear3d"), moved),
    **dict.fromkeys(
        ("upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bicubic2d_aa"), moved
    ),
    "col2im": folded,
    **dict.fromkeys(("constant_pad_nd", "reflection_pad2d", "replication_pad2d"), pad),
    "embedding": embedding,
    **dict.fromkeys(("topk", "sort"), largest),
    "index_add": added_rows,
    "index": index,
}
