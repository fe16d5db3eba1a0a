"""Rules of norms and of sums over dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from initframe.signal.combine import product, spread_over, total
from initframe.signal.correlations import Four
from initframe.signal.fields import near_inside
from initframe.signal.grid import Grid, constant, gaussian, replace, scaled
from initframe.signal.hermite import W
from initframe.signal.joints import Shared
from initframe.signal.kinship import follows
from initframe.signal.laws import Line, Table
from initframe.signal.layout import Layout, Role
from initframe.signal.moments import Moments, Number, at_least, average, diagonal, moments_of, products, root
from initframe.signal.positions import averaged, mean_over
from initframe.signal.samples import rows_of, samples_of
from initframe.signal.states import Operation, Rule, State


def affine(grid: Grid, op: Operation) -> Grid | None:
    """A norm's own factor and shift per channel."""
    for name, join in (("weight", product), ("bias", total)):
        if not isinstance(op.given.get(name), Tensor):
            continue
        own = op.grid(name)
        if own is None:
            return None
        own = replace(spread_over(own, grid.layout), weight=False)
        if own.source is None:
            value = own.moments().mean
            grid = scaled(grid, value) if name == "weight" else scaled(grid, 1.0, value)
        else:
            grid = join(grid, own, grid.layout)
    return grid


def layer_norm(op: Operation) -> tuple[State, ...]:
    """LayerNorm: over channels of each position, or over all that an input has."""
    x = op.grid("input")
    if x is None:
        return (None,)
    dims = range(len(op.shape) - len(op["normalized_shape"]), len(op.shape))
    over_positions = any("position" in x.layout.roles(d) for d in dims)
    channels = x.layout.count("channel", list(dims))
    positions = x.layout.count("position", list(dims)) if over_positions else 1
    return (affine(normalized(x, channels, positions, float(op["eps"])), op), None, None)


def group_norm(op: Operation) -> tuple[State, ...]:
    """GroupNorm: over some channels and all positions."""
    x = op.grid("input")
    if x is None:
        return (None,)
    return (affine(normalized(x, int(op["C"]) // int(op["group"]), int(op["HxW"]), float(op["eps"])), op), None, None)


def normalized(x: Grid, channels: int, positions: int, eps: float, *, centred: bool = True) -> Grid:
    """A grid without the mean over a group of elements, over their standard deviation.

    Args:
        x: any grid.
        channels: how many channels a group has.
        positions: how many positions.
        eps: added to the variance.
        centred: whether the mean is taken away.
    """
    if positions > 1:
        x = mean_over(x)
    m = x.moments()
    inside = diagonal(m.near) if positions > 1 else m.square
    level = m.mean * m.mean
    shared = (inside + (m.square - inside) / positions - level) / max(channels, 1)
    middle = (level + shared) if centred else level * 0.0
    variance = at_least(m.square - middle, 0.0)
    scale = 1 / root(variance + eps)
    if x.source is None:
        found = scaled(x, scale, -m.mean * scale if centred else 0.0)
        return replace(found, profile=None, spread=0.0, channels=0)
    if channels < 16 and centred:
        far = average(level) + (average(m.far) - average(level)) / channels
        pairs, square = products(scale, scale), scale * scale
        field = None if m.field is None else (m.field - average(middle)) * average(pairs)
        near = (m.near - average(middle)) * pairs
        rest = Moments(level * 0.0, variance * square, (m.same - far) * square, near, (m.far - far) * pairs, field)
        return gaussian(rest, x.layout, why=x.why)
    factor = scale * root(variance / at_least(m.square - (level if centred else level * 0.0), 1e-300))
    found = scaled(x, factor, -m.mean * factor if centred else 0.0)
    return replace(found, profile=None, spread=0.0, channels=0)


def rms_norm(op: Operation) -> tuple[State, ...]:
    """RMSNorm over channels."""
    x = op.grid("input")
    if x is None:
        return (None,)
    eps = op.given.get("eps")
    return (affine(normalized(x, 1, 1, 1e-7 if eps is None else float(eps), centred=False), op), None)


def batch_norm(op: Operation) -> tuple[State, ...]:
    """BatchNorm: the batch's own statistics in training, the stored ones in evaluation."""
    x = op.grid("input")
    if x is None:
        return (None,)
    name = op.func.overloadpacket.__name__
    training = bool(op.given.get("training", "no_training" not in name and "no_update" not in name))
    eps = float(op.given.get("eps", op.given.get("epsilon", 1e-5)))
    y = _over_batch(x, op, eps) if training else _stored(x, op, eps)
    return (None if y is None else affine(y, op), None, None, None)


def _over_batch(x: Grid, op: Operation, eps: float) -> Grid:
    """Every channel without its own mean over inputs and positions."""
    inputs = op.shape[0]
    positions = math.prod(op.shape[2:])
    x = mean_over(x)
    m = x.moments()
    across = m.same + (positions - 1) * m.far
    middle = (m.square + (positions - 1) * m.near + (inputs - 1) * across) / (inputs * positions)
    if x.weight:  # standardized weights: every filter by its own statistics
        middle = m.mean * m.mean
    variance = at_least(m.square - middle, 0.0)
    scale = 1 / (variance + eps)
    field = None if m.field is None else (m.field - middle) * scale
    rest = ((m.same - middle) * scale, (m.near - middle) * scale, (m.far - middle) * scale)
    return gaussian(
        Moments(m.mean * 0.0, variance * scale, *rest, field), x.layout, profile=x.profile, why=x.why, weight=x.weight
    )


def _stored(x: Grid, op: Operation, eps: float) -> Grid | None:
    """Minus the running mean, over the root of the running variance."""
    mean, var = op.grid("running_mean"), op.grid("running_var")
    if mean is None or var is None:
        return None
    inverse = ((1 / (var.values.clamp_min(0) + eps)) * W).sum().item()
    shift = average(mean.moments().mean)
    if mean.source is not None:
        x = total(x, replace(mean, layout=x.layout), x.layout, -1.0)
    elif shift:
        x = scaled(x, 1.0, -shift)
    return scaled(x, math.sqrt(inverse))


def mean(op: Operation) -> State:
    """A mean over channels, positions, inputs, or several of them."""
    grid, dims = op.grid("self"), _dims(op)
    if grid is None:
        return None
    return pooled(grid, dims, op.shape, bool(op.given.get("keepdim")))


def total_over(op: Operation) -> State:
    """A sum over dimensions: the mean, times their number."""
    grid, dims = op.grid("self"), _dims(op)
    if grid is None:
        return None
    if (samples := samples_of(grid)) is not None and dims == [len(grid.layout.dims) - 1]:
        left = grid.layout.with_dim(dims[0], ()) if op.given.get("keepdim") else Layout(grid.layout.dims[:-1])
        return rows_of(samples.sum(-1, keepdim=True), replace(grid, layout=left))
    count = math.prod(grid.layout.shape[d] for d in dims)
    out = pooled(grid, dims, op.shape, bool(op.given.get("keepdim")))
    return scaled(out, count)


def _dims(op: Operation) -> list[int]:
    grid = op.grid("self")
    n = len(grid.layout.dims) if grid else 0
    given = op.given.get("dim")
    every: Sequence[int] = range(n) if given is None or given == [] else [given] if isinstance(given, int) else given
    return [d % n for d in every]


def pooled(grid: Grid, dims: Sequence[int], shape: tuple[int, ...], keep: bool) -> Grid:
    """The mean of a grid over dimensions.

    Over positions, the parts that two of them share remain: q/T + (1 − 1/T)·near. Over channels, which are independent,
    the mean remains; where it is small, as that of differences or of a few experts is, what it varies by: (q − m²)/n.
    """
    layout = grid.layout
    roles = {role for d in dims for role in layout.roles(d)}
    kept = (
        [() if d in dims else factors for d, factors in enumerate(layout.dims)]
        if keep
        else [factors for d, factors in enumerate(layout.dims) if d not in dims]
    )
    left = Layout(tuple(kept)).fitted(shape)
    if "channel" in roles or not roles:
        if not roles:
            return replace(grid, layout=left)
        return _over_channels(grid, dims, left)
    return _linked(grid, _over_places(grid, dims, roles, left))


def _over_places(grid: Grid, dims: Sequence[int], roles: set[Role], left: Layout) -> Grid:
    """The mean over positions, inputs, or both."""
    layout, m = grid.layout, averaged(grid)
    count = layout.count("position", dims)
    near = near_over(grid, m)
    square = (m.square + (count - 1) * near) / count
    same = (m.same + (count - 1) * m.far) / count
    if "batch" in roles:
        inputs = layout.count("batch", dims)
        square = (square + (inputs - 1) * same) / inputs
        same = square
    if layout.count("position") > count:  # other positions are left
        return gaussian(Moments(m.mean, square, same, near, m.far), left, **grid.kept)
    return gaussian(Moments(m.mean, square, same, square, same), left, **grid.kept)


def _over_channels(grid: Grid, dims: Sequence[int], left: Layout) -> Grid:
    """The mean over channels, and maybe over positions: a number, or a normal where the number is small next to it."""
    m = averaged(grid)
    level, count = average(m.mean) ** 2, grid.layout.count("position", dims)
    square, same, near, far = (average(x) - level for x in m[1:5])
    if count > 1:
        square, same = (square + (count - 1) * near) / count, (same + (count - 1) * far) / count
    n = grid.layout.count("channel", dims)
    if grid.classes > 1 or level >= square / n:
        middle = (m if count > 1 else grid.moments()).mean
        return replace(constant(0.0, left, weight=grid.weight), law=Line(middle, middle * 0.0), why=grid.why)
    varying = (level + x / n for x in (square, same, near, far))
    return _linked(grid, gaussian(moments_of(average(m.mean), *varying), left, **grid.kept, weight=grid.weight))


def _linked(grid: Grid, out: Grid) -> Grid:
    """A mean, related to the elements that it is of: E xm is E m², for the element's own mean and for others."""
    if grid.source is None or out.source is None or grid.weight:
        return out
    known, pairs = out.moments(), out.source.correlations
    shared = Shared(grid.law if grid.classes == 1 else Line(0.0, 1.0), average(known.square))

    def found() -> Four:
        root = math.sqrt(shared.correlation)
        same, near, far = (root * average(c) for c in pairs.pairs[:3])
        return root, same, near, far

    out = follows(out, grid.source, found=found)
    return out if out.classes > 1 or grid.classes > 1 else replace(out, pieces=((1.0, (replace(out, law=shared),)),))


def near_over(grid: Grid, m: Moments) -> Number:
    """The mean product of two positions of an input: from the field where there is one, with its shape."""
    sides = [f.size for dim in grid.layout.dims for f in dim if f.role == "position"]
    return m.near if m.field is None or len(sides) != 2 else near_inside(m.field, average(m.near), sides[0], sides[1])


def variance(op: Operation) -> State | tuple[State, ...]:
    """A variance or standard deviation over channels, with the mean where it is asked for."""
    grid = op.grid("self")
    if grid is None:
        return None
    middle = pooled(grid, _dims(op), _first_shape(op), bool(op.given.get("keepdim")))
    m = grid.moments()
    values = at_least(m.square - m.mean * m.mean, 0.0)
    if op.func.overloadpacket.__name__.startswith("std"):
        values = root(values)
    spread = replace(middle, law=Line(values, values * 0.0), source=None)
    return (spread, middle) if isinstance(op.out, tuple | list) else spread


def _first_shape(op: Operation) -> tuple[int, ...]:
    return op.shape


def vector_norm(op: Operation) -> State:
    """The Euclidean norm over channels: √(N·q)."""
    grid = op.grid("self")
    order = op.given.get("ord", op.given.get("p", 2))
    if grid is None or (order is not None and float(order) != 2):
        return None
    dims = _dims(op)
    count = math.prod(grid.layout.shape[d] for d in dims)
    squares = replace(grid, law=Table(grid.values.square()))
    out = pooled(squares, dims, op.shape, bool(op.given.get("keepdim")))
    length = root(out.moments().mean * count)
    return replace(out, law=Line(length, length * 0.0), source=None)


def weight_norm(op: Operation) -> tuple[State, ...]:
    """A weight whose rows have the lengths g: the mean square is g² over the elements of a row."""
    v, g = op.grid("v"), op.grid("g")
    if v is None or g is None:
        return (None, None)
    each = op["v"].numel() / max(op["v"].shape[op.given.get("dim", 0)], 1)
    square = average(g.moments().square) / max(each, 1)
    return (gaussian(moments_of(0.0, square), v.layout, weight=True), g)


RULES: dict[str, Rule] = {
    "_weight_norm_interface": weight_norm,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
    "rms_norm": rms_norm,
    "batch_norm": batch_norm,
    "mean": mean,
    "sum": total_over,
    **dict.fromkeys(("var", "var_mean", "std", "std_mean"), variance),
    **dict.fromkeys(("linalg_vector_norm", "norm"), vector_norm),
}
