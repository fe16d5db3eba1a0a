"""Rules of layers that sum over inputs: linear layers, convolutions, products of two matrices."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from initframe.signal.borders import Geometry, borders
from initframe.signal.combine import total
from initframe.signal.fields import strided
from initframe.signal.grid import Grid, gaussian, replace, same_numbers, scaled
from initframe.signal.layout import Factor, Layout, Role, channels, images
from initframe.signal.moments import Moments, average, moments_of, products
from initframe.signal.positions import averaged
from initframe.signal.products import of_data
from initframe.signal.states import Operation, Rule, State


def summed(x: Moments, weight: Grid, count: float) -> Moments:
    """Moments of a sum of ``count`` inputs, each times a weight: N·E w²·q, and what weights with a mean add."""
    w = weight.moments()
    mean, square = average(w.mean), average(w.square)
    out = x.times(count * square)
    if abs(mean) <= 1e-6 * math.sqrt(square) or (weight.source is None and count <= 1):
        return out
    shift, cross = mean * count, mean * mean * count * (count - 1)
    one, two = cross * (x.mean * x.mean), cross * products(x.mean, x.mean)
    field = None if out.field is None else out.field + average(one)
    return Moments(shift * x.mean, out.square + one, out.same + one, out.near + two, out.far + two, field)


def biased(moments: Moments, bias: Grid | None) -> Moments:
    """Moments after a bias was added: one number per channel."""
    if bias is None:
        return moments
    m = bias.moments()
    return moments.plus(average(m.mean), average(m.square))


def matmul(op: Operation) -> State:
    """A product of matrices: a linear layer, attention's scores, or attention's mixing."""
    names = _operands(op)
    a, b = op.grid(names[0]), op.grid(names[1])
    if a is None or b is None:
        return None
    count = op[names[0]].shape[-1]
    if a.weight != b.weight:
        x, weight = (a, b) if b.weight else (b, a)
        contracted, bias = -1 if b.weight else -2, op.grid("self") if "mat1" in op.given else None
        if bias is not None and _is_bias(bias) and op.given.get("alpha", 1) == op.given.get("beta", 1) == 1:
            return once(op, x, weight, bias, lambda: linear(x, weight, count, op.shape, contracted, bias))
        out = once(op, x, weight, None, lambda: linear(x, weight, count, op.shape, contracted))
    elif a.weight:
        m = summed(averaged(a), b, count)
        out = gaussian(m, channels(op.shape), weight=True)
    else:
        found = of_data(a, b, count, op)
        if found is None:
            return None
        out = found
    if op.func.overloadpacket.__name__ in ("addmm", "baddbmm"):
        return _added(op, out)
    return out


def once(op: Operation, x: Grid, weight: Grid, bias: Grid | None, make: Callable[[], Grid]) -> Grid:
    """The output of a layer: the same numbers again, if its weights were given the same numbers before.

    Of other numbers, it has another normal, which is right where the two inputs share nothing.
    """
    if weight.source is None:
        return make()
    given = (x, weight) if bias is None else (x, weight, bias)
    before = op.states.outputs.setdefault(weight.source, [])
    for known, out in before:
        same = len(known) == len(given) and all(map(same_numbers, known, given))
        if same and out.layout.shape == op.shape:
            return out
    out = make()
    if any(known[0].source is not x.source for known, _ in before):
        out = replace(out, why=out.why or REUSED)
    op.states.outputs[weight.source] = [*before[-3:], (given, out)]
    return out


REUSED = "a weight is used again: its outputs are taken as independent"


def _operands(op: Operation) -> tuple[str, str]:
    """What the two matrices are called: in addmm, baddbmm, and in mm and bmm."""
    return next((pair for pair in (("mat1", "mat2"), ("batch1", "batch2")) if pair[0] in op.given), ("self", "mat2"))


def grouped(op: Operation) -> State:
    """A product with one of several matrices for each row: two rows agree only if they meet the same one."""
    out = matmul(op)
    if not isinstance(out, Grid) or len(op["mat2"].shape) != 3:
        return out
    m, share = out.moments(), 1 / op["mat2"].shape[0]
    apart = m._replace(same=m.same * share, near=m.near * share, far=m.far * share)
    return replace(gaussian(apart, out.layout), **out.kept)


def _added(op: Operation, out: Grid) -> Grid | None:
    """The first argument of addmm: a bias, or a tensor."""
    alpha, beta = float(op.given.get("alpha", 1)), float(op.given.get("beta", 1))
    if alpha != 1:
        out = scaled(out, alpha)
    bias = op.grid("self")
    if beta == 0:
        return out
    if bias is None:
        return None
    if _is_bias(bias):
        return with_bias(out, scaled(bias, beta))
    return total(out, scaled(bias, beta), out.layout)


def _is_bias(grid: Grid) -> bool:
    """Whether a grid is of one drawn number per channel."""
    return grid.weight and len(grid.layout.dims) <= 1


def with_bias(out: Grid, bias: Grid | None) -> Grid:
    """A grid plus a bias per channel."""
    if bias is None or (bias.source is None and average(bias.moments().square) == 0):
        return out
    moments = biased(out.moments(), bias)
    return replace(gaussian(moments, out.layout), profile=out.profile, **out.kept, weight=out.weight)


def linear(
    x: Grid, weight: Grid, count: int, shape: tuple[int, ...], contracted: int, bias: Grid | None = None
) -> Grid:
    """A layer that sums over one dimension of its input.

    Args:
        x: the input.
        weight: the weights.
        count: how many inputs are summed.
        shape: of the output.
        contracted: which dimension of the input is summed over.
        bias: one number per channel of the output, or none.
    """
    dim = contracted % len(x.layout.dims)
    over_positions = "position" in x.layout.roles(dim)
    m = averaged(x) if over_positions else x.moments()
    if over_positions and m.field is not None:
        m = m._replace(field=None)
    y = summed(m, weight, count)
    mixing = x.layout.roles(dim) == {"position"}
    if mixing:  # every new position has weights of its own
        y = _strangers(y, "position")
    dims = list(x.layout.dims)
    for d in _members(weight, dim, len(dims)):
        roles = x.layout.roles(d)
        if roles == {"batch"} and x.layout.count("batch") > x.layout.shape[d]:  # copies of all inputs
            dims[d] = (Factor("channel", shape[d]),)
        for role in roles - {"channel"} if dims[d] is x.layout.dims[d] else ():
            y = _strangers(y, role)
    y = biased(y, bias)
    outer = -1 if contracted == -1 else -2
    outputs = shape[outer]
    dims[dim] = (Factor("position" if mixing else "channel", outputs),)
    layout = Layout(tuple(dims))
    layout = layout if layout.shape == shape else layout.fitted(shape)
    profile = None if over_positions else x.profile
    facts = {"spread": x.spread_over_seeds, "channels": outputs, "inputs": count, "why": x.why or weight.why}
    return gaussian(y, layout, profile=profile, **facts)


def _members(weight: Grid, dim: int, dims: int) -> list[int]:
    """The dimensions along which there are several matrices, each drawn on its own, as of an ensemble's members."""
    if len(weight.layout.dims) != dims:
        return []
    return [d for d in range(dims - 2) if d != dim and weight.layout.roles(d) == {"channel"}]


def _strangers(y: Moments, role: Role) -> Moments:
    """Moments where two inputs, or two positions, have weights of their own."""
    apart = products(y.mean, y.mean)
    if role == "position":
        return y._replace(near=apart, far=apart)
    return y._replace(same=y.mean * y.mean, far=apart)


def bilinear(op: Operation) -> State:
    """Σᵢⱼ xᵢ·wᵢⱼ·yⱼ for each output: a layer that sums over all products of two inputs."""
    x, weight, y = op.grid("i1"), op.grid("i2"), op.grid("i3")
    forms = tuple(list(op[name]) for name in ("expand1", "expand2", "expand3", "sumdim"))
    if x is None or weight is None or y is None or not weight.weight or forms != ([1, 3], [0], [1, 2], [2, 3]):
        return None
    if abs(average(weight.moments().mean)) > 1e-6 * math.sqrt(average(weight.moments().square)):
        return None
    ours, theirs = averaged(x), averaged(y)
    pairs = [average(a) * average(b) for a, b in zip(ours[1:5], theirs[1:5], strict=True)]
    outputs, *inputs = op["i2"].shape
    found = moments_of(0.0, *pairs).times(math.prod(inputs) * average(weight.moments().square))
    layout = x.layout.sized(-1, outputs).fitted(op.shape)
    spread = x.spread_over_seeds + y.spread_over_seeds
    return gaussian(found, layout, spread=spread, channels=outputs, why=x.why or y.why)


def convolution(op: Operation) -> State:
    """A convolution; what its padding takes from the sum is counted place by place."""
    x, weight = op.grid("input"), op.grid("weight")
    bias = op.grid("bias") if isinstance(op.given.get("bias"), Tensor) else None
    if x is None or weight is None:
        return None
    return once(op, x, weight, bias, lambda: _convolution(op, x, weight, bias))


def _convolution(op: Operation, x: Grid, weight: Grid, bias: Grid | None) -> Grid:
    shape, kernel = op["input"].shape, op["weight"].shape
    transposed, groups = bool(op["transposed"]), int(op["groups"])
    inputs = kernel[0] // groups if transposed else kernel[1]
    numbers = [tuple(map(int, op[name])) for name in ("stride", "padding", "dilation")]
    stride, padding, dilation = numbers
    geometry = Geometry(
        tuple(shape[2:]), tuple(kernel[2:]), stride, padding, dilation, transposed, tuple(op["output_padding"])
    )
    met = borders(geometry, x.profile)
    y = summed(averaged(x), weight, inputs * met.share)
    y = y._replace(near=y.near * met.apart, far=y.far * met.apart)
    y = biased(y, bias)
    if y.field is not None:
        field = strided(y.field, stride, average(y.near) / max(met.apart, 1e-300))
        y = y._replace(field=field if met.offsets is None else field * met.offsets)
    return gaussian(
        y,
        images(op.shape),
        profile=met.profile,
        spread=x.spread_over_seeds,
        channels=op.shape[1],
        inputs=round(inputs * math.prod(kernel[2:])),
        why=x.why or weight.why,
    )


RULES: dict[str, Rule] = {"matmul": matmul, "_grouped_mm": grouped, "_trilinear": bilinear, "conv": convolution}
