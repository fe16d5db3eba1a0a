"""Rules of operations that move elements: views, slices, concatenation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from initframe.signal.combine import mixture
from initframe.signal.grid import Grid, gaussian, independent, remarked, replace, without
from initframe.signal.kinship import follows, part_of
from initframe.signal.layout import ROLES, Factor, Layout, Role, images
from initframe.signal.moments import average, moments_of
from initframe.signal.positions import class_of, mean_over
from initframe.signal.products import Columns
from initframe.signal.remarks import Remark
from initframe.signal.samples import independent_rows, rows_of, samples_of
from initframe.signal.states import LARGEST, Operation, Rule, State


def same(op: Operation) -> State:
    """The same elements in the same places: a copy, a cast."""
    known = op.known("self")
    return known if known is not None and known.shape == op.shape else op.grid("self")


@dataclass(frozen=True, eq=False)
class Parts(Remark):
    """Of tensors one after another: the dimension, their sizes along it, and their grids."""

    dim: int
    sizes: tuple[int, ...]
    grids: tuple[Grid, ...]


def view(op: Operation) -> State:
    """The same elements under another shape."""
    grid = op.grid("self")
    return grid and replace(grid, layout=grid.layout.view(op.shape))


def permute(op: Operation) -> State:
    """The same elements, dimensions in another order."""
    grid = op.grid("self")
    order = [d % len(op.shape) for d in op["dims"]]
    return grid and without(replace(grid, layout=grid.layout.permute(order)), Columns)


def transpose(op: Operation) -> State:
    """Two dimensions exchanged."""
    grid, n = op.grid("self"), len(op.shape)
    if grid is None or n < 2:
        return grid
    order = list(range(n))
    a, b = (op["dim0"] % n, op["dim1"] % n) if "dim0" in op.given else (0, 1)
    order[a], order[b] = order[b], order[a]
    return without(replace(grid, layout=grid.layout.permute(order)), Columns)


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


def part(op: Operation) -> State:
    """A part along one dimension: a slice, one index, elements picked by number."""
    grid = op.grid("self")
    if grid is None:
        return None
    dim = op.given.get("dim", 0) % max(len(grid.layout.dims), 1)
    if op.shape == grid.layout.shape:
        return grid
    begin, end = _range(op, dim, grid.layout.shape[dim])
    if (own := _of_parts(grid, dim, begin, end)) is not None:
        return replace(own, layout=_without(grid.layout, dim, op.shape))
    roles, whole = grid.layout.roles(dim), grid
    if grid.classes > 1 and "position" in roles:
        grid = _at_positions(grid, op, grid.layout.shape[dim])
    profile = None if "position" in roles else grid.profile
    taken = (grid.layout, dim, begin, end) if begin < end else None
    own = part_of(whole, roles, taken)
    if whole is not grid and own.source is not None:
        own = follows(grid, own.source)
    return replace(own, layout=_without(grid.layout, dim, op.shape), profile=profile)


def _without(layout: Layout, dim: int, shape: tuple[int, ...]) -> Layout:
    """The layout of a part along a dimension, which a single index removes."""
    if len(shape) < len(layout.dims):
        layout = Layout(tuple(factors for d, factors in enumerate(layout.dims) if d != dim))
    return layout.fitted(shape)


def _range(op: Operation, dim: int, length: int) -> tuple[int, int]:
    """Where a part begins and ends; from 0 to 0 if it is none in one piece."""
    if op.given.get("step", 1) != 1:
        return 0, 0
    begin = op.given.get("index", op.given.get("start")) or 0
    if not isinstance(begin, int):
        return 0, 0
    begin = min(begin % length if begin < 0 else begin, length)
    return begin, begin + (op.shape[dim] if "index" not in op.given else 1)


def _of_parts(grid: Grid, dim: int, begin: int, end: int) -> Grid | None:
    """The grid of a range that lies in one of the tensors that are one after another; ``None`` in other cases."""
    known = grid.remark(Parts)
    if known is None or known.dim != dim or begin >= end:
        return None
    start = 0
    for size, own in zip(known.sizes, known.grids, strict=True):
        if start <= begin and end <= start + size:
            if (begin, end) == (start, start + size):
                return own
            return part_of(own, grid.layout.roles(dim), (grid.layout, dim, begin - start, end - start))
        start += size
    return None


def _at_positions(grid: Grid, op: Operation, length: int) -> Grid:
    """Of a grid with classes of positions, those that are picked."""
    if "index" in op.given and isinstance(op["index"], int):
        return _one_class(grid, class_of(length, op["index"] % length))
    start, end = op.given.get("start") or 0, op.given.get("end")
    start, end = start % length, length if end is None else min(end if end >= 0 else end + length, length)
    if end - start == 1:
        return _one_class(grid, class_of(length, start))
    return mean_over(grid)


def _averaged(grid: Grid) -> Grid:
    """The grid with one class of positions, whose elements are related to those of the grid."""
    return grid if grid.source is None else follows(mean_over(grid), grid.source)


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
        grid = _averaged(grid)
    found, begin = [], 0
    for out in op.out:
        end = begin + (out.shape[dim] if len(out.shape) == len(grid.layout.dims) else 1)
        own = _of_parts(grid, dim, begin, end)
        own = own or part_of(grid, grid.layout.roles(dim), (grid.layout, dim, begin, end))
        found.append(replace(own, layout=_without(grid.layout, dim, tuple(out.shape))))
        begin = end
    return tuple(found)


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
    layout = _stacked(largest.layout, op) if stacked else largest.layout.fitted(op.shape)
    stacked_positions = not stacked and "position" in largest.layout.roles(op.given.get("dim", 0) % len(op.shape))
    shares = [(n / count, g) for n, g in pairs if g is not None]
    found = mixture(shares, layout, of_positions=stacked_positions)
    if stacked:
        return found
    dim = int(op.given.get("dim", 0)) % len(op.shape)
    sizes = tuple(t.shape[dim] for t in tensors if t.numel())
    return remarked(found, Parts(dim, sizes, tuple(g for _, g in shares)))


def _stacked(layout: Layout, op: Operation) -> Layout:
    """The layout of tensors along a new dimension, whose places are alike as channels are."""
    dim = int(op.given.get("dim", 0)) % len(op.shape)
    return Layout((*layout.dims[:dim], (Factor("channel", op.shape[dim]),), *layout.dims[dim:])).fitted(op.shape)


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
    if grid is None:
        return None
    dims = op.given.get("dims", op.given.get("dim"))
    roles: set[Role] = set()
    for d in dims if isinstance(dims, list | tuple) else [dims]:
        roles |= grid.layout.roles(d) if isinstance(d, int) else {"channel"}
    return replace(part_of(grid, roles), layout=grid.layout.fitted(op.shape))


def windows(op: Operation) -> State:
    """All windows of a tensor: patches of an image as channels (im2col), or a dimension's windows as a new one."""
    grid = op.grid("self")
    if grid is None:
        return None
    if op.name == "im2col":
        places = [Factor("position", int(size)) for size in op["kernel_size"]]
        channels = Factor("channel", op.shape[-2] // math.prod(size for _, size in places))
        layout = images(op.shape).with_dim(len(op.shape) - 2, (channels, *places))
        return replace(independent(grid), layout=layout, profile=None)
    dim = int(op["dimension"]) % len(grid.layout.dims)
    role = next((role for role in ROLES if role in grid.layout.roles(dim)), ROLES[-1])
    layout = grid.layout.sized(dim, op.shape[dim])
    return replace(independent(grid), layout=Layout((*layout.dims, (Factor(role, op.shape[-1]),))), profile=None)


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
    known = samples_of(grid) if dim == len(shape) - 1 else None
    rows = independent_rows(grid, shape[dim]) if known is None else known
    top = rows.sort(1, descending=True).values[:, :k]
    layout = grid.layout.fitted(op.shape)
    return (rows_of(top, replace(grid, layout=layout, why="largest of samples")), picked)


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("clone", "detach", "_to_copy", "alias", "contiguous", "lift_fresh", "_conj", "resolve_conj"), same
    ),
    **dict.fromkeys(("view", "_unsafe_view", "_reshape_alias", "reshape", "unsqueeze", "squeeze", "as_strided"), view),
    "permute": permute,
    **dict.fromkeys(("transpose", "t"), transpose),
    "expand": expand,
    **dict.fromkeys(("slice", "select", "narrow"), part),
    **dict.fromkeys(("split", "split_with_sizes", "unbind", "chunk", "unsafe_split", "unsafe_chunk"), parts),
    **dict.fromkeys(("cat", "stack"), cat),
    "repeat": repeat,
    **dict.fromkeys(("roll", "flip", "gather", "pixel_shuffle", "pixel_unshuffle", "diagonal"), moved),
    **dict.fromkeys(("im2col", "unfold"), windows),
    "col2im": folded,
    **dict.fromkeys(("topk", "sort"), largest),
}
