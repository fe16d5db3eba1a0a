"""Rules of attention: scores, their softmax over keys, and the mixing of values, by classes of positions.

A query's weights over T keys are lognormal: with scores of variance v between keys, Σa² = 1/(1 + (T − 1)e^(−v)). Mixing
then gives Σa²·q + (1 − Σa²)·(mean product of two keys' values). Under a causal mask T is the query's own position.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from functools import lru_cache
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor

from initframe.signal.combine import expanded, total
from initframe.signal.fields import near_inside, of_windows
from initframe.signal.grid import Grid, constant, gaussian, related_as, remarked, replace, reshaped, scaled
from initframe.signal.hermite import W
from initframe.signal.layout import Factor, Layout, channels
from initframe.signal.moments import Moments, at_least, average, diagonal, moments_of
from initframe.signal.positions import averaged, edges, middle
from initframe.signal.remarks import Remark
from initframe.signal.samples import Samples, independent_rows, rows_of, samples_of
from initframe.signal.states import Operation, Rule, State

CAUSAL = "causal"
"""The mask of ``is_causal``, which nobody needs to write out."""


@dataclass(frozen=True, eq=False)
class Weights(Remark):
    """Of attention's weights, maybe times a number: how they spread over keys.

    Attributes:
        squares: Σa² over the keys as if they added up to 1, by class of positions.
        seen: how many keys a query sees, by class.
        share: which share of its sight each class of keys has.
    """

    outlives = frozenset(("layout", "elements"))

    squares: Tensor
    seen: Tensor
    share: Tensor

    def scaled(self, factor: Any, shift: Any) -> Self | None:  # noqa: ARG002  # squares are relative
        """The same, unless a number is added."""
        return None if isinstance(shift, Tensor) or shift else self

    def spread(self, factor: float) -> Weights:
        """Weights whose squares have another mean, as after dropout."""
        return replace_fields(self, squares=self.squares * factor)


def scores(queries: Grid, keys: Grid, count: int, shape: tuple[int, ...]) -> Grid:
    """The products of queries and keys, both made by weights of their own.

    ``near`` of the result is the mean product of one query's scores with two keys; what they share, softmax removes.
    """
    q, k = queries.moments(), _inside(keys)
    square = count * q.square * k.square
    shared = count * q.square * average(k.near)
    near = shared if isinstance(shared, float) else torch.diag(shared)
    moments = Moments(square * 0.0, square, square * 0.0, near, near * 0.0)
    layout = Layout((*queries.layout.dims[:-1], (Factor("position", shape[-1]),)))
    why = queries.why or keys.why
    return gaussian(moments, layout if layout.shape == shape else layout.fitted(shape), why=why, terms=count)


def _inside(grid: Grid) -> Moments:
    """Moments of one class of positions, ``near`` that of two positions which attention mixes: those of one window."""
    m, sides = averaged(grid), _sides(grid)
    if m.field is None or len(sides) != 2:
        return m
    return m._replace(near=near_inside(m.field, average(m.near), sides[0], sides[1]))


def _sides(grid: Grid) -> list[int]:
    """The sides of the positions that lie along the last dimension but one."""
    return [factor.size for factor in grid.layout.dims[-2] if factor.role == "position"]


def softmax(op: Operation) -> State:
    """A softmax: over keys it gives attention weights, over channels likewise, as these are independent."""
    grid = op.grid("self")
    if grid is None:
        return None
    dim = op["dim"] % len(op.shape)
    if (samples := samples_of(grid)) is not None and dim == len(op.shape) - 1:
        return rows_of(samples.softmax(-1), grid)
    if grid.mask is None and "position" in grid.layout.roles(dim) and dim < len(op.shape) - 1:
        return over_places(grid, op.shape[dim])
    if "position" in grid.layout.roles(dim) or grid.mask is not None:
        return attention_weights(grid, op.shape)[0]
    return over_classes(grid, op.shape[dim])


def over_places(grid: Grid, count: int) -> Grid:
    """A softmax over positions for each channel: weights that add up to 1, which makes two of them differ.

    Args:
        grid: of the scores.
        count: of positions.
    """
    m = averaged(grid)
    square, same, near, far = map(average, m[1:5])  # what all positions share, a softmax removes
    apart = gaussian(moments_of(0.0, square - near, same - far), grid.layout, **grid.kept)
    found = over_classes(apart, count)
    level, weights = 1 / count, found.moments()
    rests = [(level - average(x)) / max(count - 1, 1) for x in (weights.square, weights.same)]
    moments = moments_of(level, average(weights.square), average(weights.same), *rests)
    return replace(related_as(found, moments), why=grid.why)


def over_classes(grid: Grid, count: int) -> Grid:
    """A softmax over independent classes.

    Args:
        grid: of the scores.
        count: of classes.

    >>> even = over_classes(gaussian(Moments(0.0, 0.0, 0.0, 0.0, 0.0), Layout(())), 4)
    >>> round(even.moments().square, 6)
    0.0625
    """
    m = averaged(grid)
    variance = max(average(m.square) - average(m.mean) ** 2, 0.0)
    size = torch.tensor([float(count)], dtype=torch.float64, device="cpu")
    excess = count * concentration(size, torch.tensor([variance], dtype=torch.float64, device="cpu"), grid.terms).item()
    pairs = (
        excess ** min(max((average(x) - average(m.mean) ** 2) / max(variance, 1e-300), 0.0), 1.0) / count**2
        for x in m[2:5]
    )
    moments = moments_of(1 / count, excess / count**2, *pairs)
    like = gaussian(moments, grid.layout, **{**grid.kept, "why": grid.why or "softmax over independent classes"})
    values = (grid.values.mean(0) - grid.values.amax()).exp()
    if variance <= 0:
        return like
    found = reshaped(values, W, moments, like)
    if count > EXPERTS:
        return found
    return remarked(found, Samples(independent_rows(grid, count).softmax(-1)))


EXPERTS = 64
"""Classes of which samples are drawn too: the largest of them may be asked for, as routers do."""


def logsumexp(op: Operation) -> State:
    """The logarithm of a sum of exponentials over independent elements, as the number that it is on average."""
    grid, dims = op.grid("self"), op["dim"]
    if grid is None:
        return None
    m = averaged(grid)
    variance = max(average(m.square) - average(m.mean) ** 2, 0.0)
    count = math.prod(grid.layout.shape[d] for d in dims)
    level = average(m.mean) + math.log(max(count, 1)) + variance / 2
    return replace(constant(level, channels(op.shape)), why=grid.why or "the sum is taken as its mean")


def log_softmax(op: Operation) -> State:
    """A softmax's logarithm: the scores minus a number, the same for all classes."""
    grid = op.grid("self")
    if grid is None:
        return None
    m = averaged(grid)
    variance = max(average(m.square) - average(m.mean) ** 2, 0.0)
    why = grid.why or "the sum over classes is taken as its mean"
    level = average(m.mean) + math.log(op.shape[op["dim"]]) + variance / 2
    return replace(scaled(grid, 1.0, -level), why=why)


def attention_weights(scored: Grid, shape: tuple[int, ...]) -> tuple[Grid, Weights]:
    """The weights of a softmax over keys, and how they spread over these."""
    m = scored.moments()
    between = at_least(m.square - diagonal(m.near), 0.0)
    variance = torch.as_tensor(between, dtype=torch.float64, device="cpu").reshape(-1)
    if isinstance(scored.mask, str):
        count, sums = causal(shape[-2], shape[-1])
    else:
        count, sums = seen(visible(scored.mask, shape[-2], shape[-1]), shape[-1])
    if variance.shape[0] not in (1, count.shape[0]):
        variance = variance.mean()[None]
    squares = concentration(count, variance, scored.terms)
    mean = torch.full_like(squares, 1 / shape[-1])  # what is masked has the weight zero
    square = squares / shape[-1]
    same = mean / count  # all inputs see the same keys
    near = far = mean[:, None] * mean[None, :]
    if count.numel() == 1:  # weights add up to 1, so that two of a query differ
        near, far = ((mean - one) / max(shape[-1] - 1, 1) for one in (square, same))
    grid = gaussian(Moments(mean, square, same, near, far), scored.layout.fitted(shape), why=scored.why)
    known = Weights(squares, count, sums)
    return remarked(grid, known), known


def concentration(count: Tensor, variance: Tensor, terms: int) -> Tensor:
    """The mean of Σa² for softmax weights a of n scores.

    A query's scores are normal; how large they are varies with the query's length, a mean of ``terms`` squares. The
    mean is taken over samples; beyond their number of keys it falls as 1/n.

    Args:
        count: n, by class of positions.
        variance: of a query's scores over keys, by class or one for all.
        terms: the number of products that a score sums; 0 if it is large.

    >>> concentration(torch.tensor([1.0, 4.0]), torch.tensor([0.0]), 0).tolist()
    [1.0, 0.25]
    """
    scores, most = _samples(terms)
    largest = count.clamp_max(scores.shape[1])
    keys = largest.round().long().clamp_min(1).tolist()
    found = []
    for n, v in zip(keys, variance.tolist() * (len(keys) if variance.numel() == 1 else 1), strict=True):
        weights = scores[:, :n] * math.sqrt(v)
        if most * math.sqrt(v) > SAFE:
            weights -= weights.amax(1, keepdim=True)
        sums = weights.exp_().sum(1)
        found.append((weights.square_().sum(1) / sums.square_()).mean().item())
    return torch.tensor(found, dtype=torch.float64, device="cpu") * largest / count


SAFE = 40.0
"""Up to which score the squares of exponentials, and their sums, are far from the limits of float32."""


@lru_cache(maxsize=8)
def _samples(terms: int) -> tuple[Tensor, float]:
    """Normal scores of 128 queries with 512 keys, each query with a length of its own, and the largest of them."""
    generator = torch.Generator(device="cpu")
    generator.manual_seed(0)
    z = torch.randn(128, 512, generator=generator, device="cpu")
    if terms:
        lengths = torch.randn(128, min(terms, 256), generator=generator, device="cpu").square().mean(1, keepdim=True)
        z *= lengths.sqrt()
    return z, z.abs().amax().item()


def visible(mask: object, queries: int, keys: int) -> Tensor | None:
    """Which share of the keys each query sees, (queries, keys); ``None`` if all see all.

    Where windows or heads see different keys, weights of 1/n are averaged: rows add up to the harmonic mean of n.
    """
    if not isinstance(mask, Tensor):
        return None
    table = mask.double()
    if table.ndim > 2:
        every = table.flatten(0, -3)
        table, counts = every.mean(0), every.sum(-1).clamp_min(1)
        table = table * (1 / (counts.reciprocal().mean(0) * table.sum(-1).clamp_min(1e-9)))[:, None]
    table = table.expand(queries, keys) if table.ndim else table.expand(1, 1)
    return None if bool((table == 1).all()) else table


@lru_cache(maxsize=16)
def causal(queries: int, keys: int) -> tuple[Tensor, Tensor]:
    """What is seen under ``is_causal``: the keys up to a query's own position."""
    return seen(torch.ones(queries, keys, dtype=torch.bool, device="cpu").tril().double(), keys)


def seen(allowed: Tensor | None, keys: int) -> tuple[Tensor, Tensor]:
    """How many keys a query of each class sees, and which share of its sight each class of keys has."""
    if allowed is None:
        count = torch.tensor([float(keys)], dtype=torch.float64, device="cpu")
        return count, torch.ones(1, 1, dtype=torch.float64, device="cpu")
    numbers = allowed.sum(1).clamp_min(1)
    if bool((numbers == numbers[0]).all()):
        return numbers[:1], torch.ones(1, 1, dtype=torch.float64, device="cpu")
    rows = allowed[middle(allowed.shape[0])]
    columns = edges(allowed.shape[1])
    sums = torch.stack([rows[:, a:b].sum(1) for a, b in pairwise(columns)], 1)
    count = rows.sum(1).clamp_min(1)
    cuts = edges(allowed.shape[0])
    inner = torch.stack([numbers[a:b].reciprocal().mean().reciprocal() for a, b in pairwise(cuts)])
    return inner, sums / count[:, None]


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


RULES: dict[str, Rule] = {
    "softmax": softmax,
    "log_softmax": log_softmax,
    "logsumexp": logsumexp,
    "_safe_softmax": softmax,
    "attention": attention,
}
