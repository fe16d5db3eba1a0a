"""Products of matrices that both depend on the input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from initframe.signal.attention_weights import Weights
from initframe.signal.dependence import related
from initframe.signal.grid import Grid, gaussian, remarked, replace, reshaped
from initframe.signal.hermite import W, Z
from initframe.signal.layout import ROLES, Factor, Layout
from initframe.signal.moments import Moments, average, moments_of
from initframe.signal.positions import averaged
from initframe.signal.remarks import Remark
from initframe.signal.rules_attention import common, mixed, scores
from initframe.signal.states import Operation


def of_data(a: Grid, b: Grid, count: int, op: Operation) -> Grid | None:
    """The product of two tensors that both depend on the input."""
    for one, other in ((a, b), (b, a)):
        if known := one.remark(Weights):
            return mixed(one, known, other, op.shape)
    if a.source is not None and a.source is b.source and a.classes == 1 and op.shape[-1] == op.shape[-2]:
        return gram(a, count, op.shape)
    if "position" in a.layout.roles(-1):
        return over_positions(a, b, count, op.shape)
    if "position" in a.layout.roles(-2) and "position" in b.layout.roles(-1):
        return scores(a, b, count, op.shape)
    return over_channels(a, b, count, op.shape)


def gram(x: Grid, count: int, shape: tuple[int, ...]) -> Grid:
    """The products of a tensor's rows with each other: on the diagonal the squares of their lengths, which are large.

    Args:
        x: the tensor.
        count: N, elements of a row.
        shape: of the products.

    Σ x² has the mean N·q and the mean square N·E x⁴ + N(N − 1)·q²; Σ xy of two rows that agree by c has the mean N·c
    and, of normal elements, the mean square N²c² + N(q² + c² − 2m⁴).
    """
    roles = x.layout.roles(-2)
    m, role = x.moments(), next((one for one in ROLES if one in roles), ROLES[-1])
    level, q = average(m.mean) ** 2, average(m.square)
    c = {"batch": average(m.same), "position": average(m.near), "channel": level}[role]
    rows = shape[-1]
    own = count * q, count * x.law.powers[3] + count * (count - 1) * q**2
    apart = count * c, (count * c) ** 2 + count * (q**2 + c**2 - 2 * level**2)
    mean, square = ((a + (rows - 1) * b) / rows for a, b in zip(own, apart, strict=True))
    layout = Layout((*x.layout.dims[:-1], (Factor(role, rows),))).fitted(shape)
    moments = moments_of(mean, square, mean**2, mean**2, mean**2)
    spreads = [math.sqrt(max(b - a * a, 0.0)) for a, b in (own, apart)]
    values = torch.cat([Z * spread + a for spread, (a, _) in zip(spreads, (own, apart), strict=True)])
    like = gaussian(moments, layout, **{**x.kept, "why": x.why or "products of a tensor with itself"})
    return reshaped(values, torch.cat([W, W * (rows - 1)]), moments, like)


@dataclass(frozen=True, eq=False)
class Columns(Remark):
    """Of a product over positions, the mean product of two elements of a column: of ``one`` input, and of ``two``."""

    outlives = frozenset(("layout", "elements"))

    one: float
    two: float

    def scaled(self, factor: Any, shift: Any) -> Self | None:
        """Both times the square of a number."""
        return None if shift or isinstance(factor, Tensor) else type(self)(self.one * factor**2, self.two * factor**2)


def over_positions(a: Grid, b: Grid, count: int, shape: tuple[int, ...]) -> Grid:
    """The products of channels with channels, summed over positions: a cross-covariance.

    Σₙ aₙbₙ has the mean square N·q_a·q_b + N(N − 1)·E near_a·near_b, near the product of two positions. Both factors
    come from one input, so their nears vary together, by one over the number of its channels. Two rows have the
    second factor in common: where the first one has a mean m, they agree by N·m²·(q_b + (N − 1)·near_b).
    """
    x, y = averaged(a), averaged(b)
    pairs, channels = count * (count - 1), max(a.inputs, a.layout.count("channel"), 1)
    (q, same_a, near_a, far_a), (p, same_b, near_b, far_b) = (tuple(map(average, m[1:5])) for m in (x, y))
    varying = (q - average(x.mean) ** 2) * (p - average(y.mean) ** 2)
    square = count * q * p + pairs * (near_a * near_b + (varying + near_a * near_b) / channels)
    same = count * same_a * same_b + pairs * (far_a * far_b + (varying + far_a * far_b) / channels)
    mean = count * average(x.mean) * average(y.mean)
    level = count * average(x.mean) ** 2
    rows = level * (p + (count - 1) * near_b), level * (same_b + (count - 1) * far_b)
    out = _product(a, b, moments_of(mean, square, same, square, same), shape)
    alike = (near_a / max(q, 1e-300)) ** 2 + 1 / channels
    why = out.why or "products of positions vary by the number of channels"
    return remarked(replace(out, terms=max(round(1 / (1 / count + alike)), 1), why=why), Columns(*rows))


def over_channels(a: Grid, b: Grid, count: int, shape: tuple[int, ...]) -> Grid:
    """The product of a matrix of channels with positions, summed over channels, which are independent."""
    x, y = averaged(a), averaged(b)
    known, level = b.remark(Columns), average(y.mean) ** 2
    one, two = (known.one, known.two) if known else (level, level)  # mean products of two rows
    agreed, why = common(a, b)
    shared = [count * (count - 1) * average(x.mean) ** 2 * of_rows for of_rows in (one, two, one, two)]
    if related(a, b):
        shared = [count * (count - 1) * agreed**2] * 4
    of_a, of_b = ("position" in one.layout.roles(d) for one, d in ((a, -2), (b, -1)))
    near = (x.near if of_a else x.square, y.near if of_b else y.square)
    far = (x.far if of_a else x.same, y.far if of_b else y.same)
    pairs = [(x.square, y.square), (x.same, y.same), near, far]
    means = (count * average(u) * average(v) + more for (u, v), more in zip(pairs, shared, strict=True))
    out = _product(a, b, moments_of(count * agreed, *means), shape)
    return replace(out, why=out.why or why)


def _product(a: Grid, b: Grid, moments: Moments, shape: tuple[int, ...]) -> Grid:
    """A new normal for a product of matrices."""
    last = b.layout.dims[-1] if b.layout.dims else ()
    layout = Layout((*a.layout.dims[:-1], last))
    facts = {**a.kept, "spread": a.spread_over_seeds + b.spread_over_seeds, "channels": 0, "why": a.why or b.why}
    return gaussian(moments, layout if layout.shape == shape else layout.fitted(shape), **facts)
