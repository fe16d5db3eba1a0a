"""Rules of attention: scores, and the mixing of values, by classes of positions.

With Σa² of a query's weights, mixing gives Σa²·q + (1 − Σa²)·(mean product of two keys' values). Under a causal mask
the number of keys is the query's own position.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from initframe.signal.attention_weights import Weights, attention_weights
from initframe.signal.combine import expanded, total
from initframe.signal.dependence import UNKNOWN, agreement, related
from initframe.signal.fields import near_inside, of_windows
from initframe.signal.grid import Grid, gaussian, replace, scaled
from initframe.signal.kinship import apart_by
from initframe.signal.layout import Factor, Layout
from initframe.signal.moments import Moments, average
from initframe.signal.positions import averaged
from initframe.signal.states import Operation, Rule, State

CAUSAL = "causal"
"""The mask of ``is_causal``, which nobody needs to write out."""


def scores(queries: Grid, keys: Grid, count: int, shape: tuple[int, ...]) -> Grid:
    """The products of queries and keys, made by weights of their own, or of two parts of one tensor.

    ``near`` of the result is the mean product of one query's scores with two keys; what they share, softmax removes.
    Of channels whose products have the mean c, as those of two parts have, each result holds N·c.
    """
    q, k = queries.moments(), _inside(keys)
    square = count * q.square * k.square
    shared = count * q.square * average(k.near)
    near = shared if isinstance(shared, float) else torch.diag(shared)
    c, why = common(queries, keys)
    level = count * (count - 1) * c * c
    zero, apart = square * 0.0, near * 0.0
    moments = Moments(zero + count * c, square + level, zero + level, near + level, apart + level)
    layout = Layout((*queries.layout.dims[:-1], (Factor("position", shape[-1]),)))
    why = queries.why or keys.why or why
    return gaussian(moments, layout if layout.shape == shape else layout.fitted(shape), why=why, terms=count)


def common(rows: Grid, columns: Grid) -> tuple[float, str]:
    """The mean product of a channel of a row with the same channel of a column, and why it is an approximation.

    Args:
        rows: (…, row, channel).
        columns: (…, channel, column).
    """
    if rows.classes > 1 or columns.classes > 1:
        mean = averaged(rows).mean * averaged(columns).mean
        return average(mean), UNKNOWN if related(rows, columns) else ""
    apart = rows.layout.roles(-2) & columns.layout.roles(-1)
    return apart_by(agreement(rows, columns), apart)[0], ""


def _inside(grid: Grid) -> Moments:
    """Moments of one class of positions, ``near`` that of two positions which attention mixes: those of one window."""
    m, sides = averaged(grid), _sides(grid)
    if m.field is None or len(sides) != 2:
        return m
    return m._replace(near=near_inside(m.field, average(m.near), sides[0], sides[1]))


def _sides(grid: Grid) -> list[int]:
    """The sides of the positions that lie along the last dimension but one."""
    return [factor.size for factor in grid.layout.dims[-2] if factor.role == "position"]


def mixed(weights: Grid, known: Weights, values: Grid, shape: tuple[int, ...]) -> Grid:
    """The values, mixed by attention's weights.

    Args:
        weights: of the attention.
        known: the remark on them.
        values: what they mix.
        shape: of the result.
    """
    squares, n, share = known.squares, known.seen, known.share
    if share.shape == (1, 1):
        moments = _mixed_alike(squares.mean().item(), n.mean().item(), _inside(values))
        moments = _across(moments, averaged(values), values)
    else:
        moments = _mixed_classes(squares, n, share, expanded(values.moments(), share.shape[1]))
    layout = values.layout.fitted(shape)
    dims = list(layout.dims)
    dims[-2] = weights.layout.fitted(shape).dims[-2] if len(dims) > 1 else dims[-2]
    out = gaussian(moments, Layout(tuple(dims)).fitted(shape), **{**values.kept, "why": weights.why or values.why})
    return scaled(out, average(weights.moments().mean) * weights.layout.shape[-1])  # weights may have been multiplied


def _mixed_alike(squares: float, n: float, v: Moments) -> Moments:
    """Moments of values that are mixed in the same way everywhere.

    Args:
        squares: Σa² of a query's weights.
        n: the number of keys.
        v: moments of the values.
    """
    rest = 1 - 1 / n
    near, far = v.square / n + rest * v.near, v.same / n + rest * v.far
    return Moments(v.mean, squares * v.square + max(1 - squares, 0.0) * v.near, far, near, far)


def _across(mixed: Moments, before: Moments, values: Grid) -> Moments:
    """Moments of what windows mix, each on its own: two positions are in one window, or are as alike as values are.

    Args:
        mixed: of one window.
        before: of the values.
        values: the values.
    """
    sides, every = _sides(values), values.layout.count("position")
    area = math.prod(sides)
    if before.field is None or len(sides) != 2 or area == every:
        return mixed
    square, inside = average(mixed.square), average(mixed.near)
    beyond = average(before.near)
    share = (area - 1) / max(every - 1, 1)
    field = of_windows(square, inside, beyond, sides[0], sides[1])
    return mixed._replace(near=share * inside + (1 - share) * beyond, field=field)


def _mixed_classes(squares: Tensor, n: Tensor, share: Tensor, v: Moments) -> Moments:
    """Moments of mixed values, by classes of queries.

    Args:
        squares: Σa² of a query's weights.
        n: the number of keys that a query sees.
        share: (queries, keys): which share of a query's sight each class of keys has.
        v: moments of the values, by classes of keys.
    """
    keys = share.shape[1]
    mean, square, same = (torch.as_tensor(x, dtype=torch.float64, device="cpu").reshape(keys) for x in v[:3])
    between, beyond = (torch.as_tensor(x, dtype=torch.float64, device="cpu").reshape(keys, keys) for x in v[3:5])
    each, pairs = share @ square, ((share @ between) * share).sum(1)
    alike, far = share @ same, ((share @ beyond) * share).sum(1)
    common = 1 / torch.maximum(n[:, None], n[None, :])
    first = torch.where((n[:, None] <= n[None, :])[..., None], share[:, None, :], share[None, :, :])
    return Moments(
        share @ mean,
        squares * each + (1 - squares).clamp_min(0) * pairs,
        alike / n + (1 - 1 / n) * far,
        common * (first @ square) + (1 - common) * (share @ between @ share.T),
        common * (first @ same) + (1 - common) * (share @ beyond @ share.T),
    )


def attention(op: Operation) -> tuple[State, ...]:
    """Scaled dot-product attention in one operation."""
    q, k, v = op.grid("query"), op.grid("key"), op.grid("value")
    if q is None or k is None or v is None:
        return (None,)
    keys, width = op["key"].shape[-2], op["query"].shape[-1]
    shape = (*op["query"].shape[:-1], keys)
    scored = scores(q, k, width, shape)
    scale = op.given.get("scale")
    scale = 1 / math.sqrt(width) if scale is None else float(scale)
    scored = scaled(scored, scale)
    bias = op.given.get("attn_mask", op.given.get("attn_bias"))
    mask: Tensor | str | None = CAUSAL if op.given.get("is_causal") else None
    if isinstance(bias, Tensor):
        state = op.states.get(bias)
        if isinstance(state, Tensor):
            mask = state.bool() if state.dtype == torch.bool else state > -30
        elif isinstance(state, Grid):
            scored = total(scored, state, scored.layout)
            mask = state.mask if isinstance(state.mask, Tensor) else None
        else:
            scored = replace(scored, why="its mask depends on the data")
    scored = replace(scored, mask=mask)
    weights, known = attention_weights(scored, shape)
    return (mixed(weights, known, v, op.shape), None)


RULES: dict[str, Rule] = {"attention": attention}
