"""Rules of layers that sum over inputs: linear layers, convolutions, products of two matrices."""

from __future__ import annotations

import math

from torch import Tensor

from initframe.signal.borders import Geometry, borders
from initframe.signal.combine import product, total
from initframe.signal.fields import strided
from initframe.signal.grid import Grid, gaussian, replace, scaled
from initframe.signal.layout import Factor, Layout, channels, images
from initframe.signal.moments import Moments, average, moments_of, products
from initframe.signal.positions import averaged
from initframe.signal.rules_attention import mixed, scores
from initframe.signal.walk import Operation, Rule, State


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
    names = (
        ("mat1", "mat2") if "mat1" in op.given else ("batch1", "batch2") if "batch1" in op.given else ("self", "mat2")
    )
    a, b = op.grid(names[0]), op.grid(names[1])
    if a is None or b is None:
        return None
    count = op[names[0]].shape[-1]
    if a.weight != b.weight:
        x, weight = (a, b) if b.weight else (b, a)
        contracted, bias = -1 if b.weight else -2, op.grid("self") if "mat1" in op.given else None
        if bias is not None and _is_bias(bias) and op.given.get("alpha", 1) == op.given.get("beta", 1) == 1:
            return linear(x, weight, count, op.shape, contracted, bias)
        out = linear(x, weight, count, op.shape, contracted)
    elif a.weight:
        m = summed(averaged(a), b, count)
        out = gaussian(m, channels(op.shape), weight=True)
    else:
        found = _of_data(a, b, count, op)
        if found is None:
            return None
        out = found
    if op.func.overloadpacket.__name__ in ("addmm", "baddbmm"):
        return _added(op, out)
    return out


def grouped(op: Operation) -> State:
    """A product with one of several matrices for each row: two rows agree only if they meet the same one."""
    out = matmul(op)
    if not isinstance(out, Grid) or len(op["mat2"].shape) != 3:
        return out
    m, share = out.moments(), 1 / op["mat2"].shape[0]
    apart = m._replace(same=m.same * share, near=m.near * share, far=m.far * share)
    return replace(gaussian(apart, out.layout), **out.kept)


def _of_data(a: Grid, b: Grid, count: int, op: Operation) -> Grid | None:
    """The product of two tensors that both depend on the input."""
    if a.keys is not None:
        return mixed(a, b, op.shape)
    if b.keys is not None:
        return mixed(b, a, op.shape)
    if "position" in a.layout.roles(-1):
        return over_positions(a, b, count, op.shape)
    if "position" in a.layout.roles(-2) and "position" in b.layout.roles(-1):
        return scores(a, b, count, op.shape)
    return over_channels(a, b, count, op.shape)


def over_positions(a: Grid, b: Grid, count: int, shape: tuple[int, ...]) -> Grid:
    """The products of channels with channels, summed over positions: a cross-covariance.

    Σₙ aₙbₙ has the mean square N·q_a·q_b + N(N − 1)·E near_a·near_b, near the product of two positions. Both factors
    come from one input of so many channels as they have, so their nears vary together, by 1/channels.
    """
    x, y = averaged(a), averaged(b)
    pairs, channels = count * (count - 1), max(a.layout.count("channel"), 1)
    (q, same_a, near_a, far_a), (p, same_b, near_b, far_b) = (tuple(map(average, m[1:5])) for m in (x, y))
    square = count * q * p + pairs * (near_a * near_b + (q * p + near_a * near_b) / channels)
    same = count * same_a * same_b + pairs * (far_a * far_b + (q * p + far_a * far_b) / channels)
    mean = count * average(x.mean) * average(y.mean)
    out = _product(a, b, moments_of(mean, square, same, square, same), shape)
    alike = (near_a / max(q, 1e-300)) ** 2 + 1 / channels
    why = out.why or "products of positions vary by the number of channels"
    return replace(out, terms=max(round(1 / (1 / count + alike)), 1), why=why)


def over_channels(a: Grid, b: Grid, count: int, shape: tuple[int, ...]) -> Grid:
    """The product of a matrix of channels with positions, summed over channels, which are independent."""
    x, y = averaged(a), averaged(b)
    common = count * (count - 1) * (average(x.mean) * average(y.mean)) ** 2
    of_a, of_b = ("position" in one.layout.roles(d) for one, d in ((a, -2), (b, -1)))
    near = (x.near if of_a else x.square, y.near if of_b else y.square)
    far = (x.far if of_a else x.same, y.far if of_b else y.same)
    pairs = [(x.square, y.square), (x.same, y.same), near, far]
    mean = count * average(x.mean) * average(y.mean)
    return _product(a, b, moments_of(mean, *(count * average(u) * average(v) + common for u, v in pairs)), shape)


def _product(a: Grid, b: Grid, moments: Moments, shape: tuple[int, ...]) -> Grid:
    """A new normal for a product of matrices."""
    last = b.layout.dims[-1] if b.layout.dims else ()
    layout = Layout((*a.layout.dims[:-1], last))
    facts = {**a.kept, "spread": a.spread_over_seeds + b.spread_over_seeds, "channels": 0, "why": a.why or b.why}
    return gaussian(moments, layout if layout.shape == shape else layout.fitted(shape), **facts)


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
        apart = products(y.mean, y.mean)
        y = y._replace(near=apart, far=apart)
    y = biased(y, bias)
    dims = list(x.layout.dims)
    outer = -1 if contracted == -1 else -2
    outputs = shape[outer]
    dims[dim] = (Factor("position" if mixing else "channel", outputs),)
    layout = Layout(tuple(dims))
    layout = layout if layout.shape == shape else layout.fitted(shape)
    profile = None if over_positions else x.profile
    return gaussian(y, layout, profile=profile, spread=x.spread_over_seeds, channels=outputs, why=x.why)


def convolution(op: Operation) -> State:
    """A convolution; what its padding takes from the sum is counted place by place."""
    x, weight = op.grid("input"), op.grid("weight")
    bias = op.grid("bias") if isinstance(op.given.get("bias"), Tensor) else None
    if x is None or weight is None:
        return None
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
        why=x.why,
    )


RULES: dict[str, Rule] = {"matmul": matmul, "_grouped_mm": grouped, "conv": convolution}

__all__ = ["RULES", "linear", "product", "summed", "with_bias"]
