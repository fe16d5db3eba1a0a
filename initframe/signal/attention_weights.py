"""The weights of attention: how they spread over the keys that a query sees, by classes of positions.

A query's weights over T keys are lognormal: with scores of variance v between keys, Σa² = 1/(1 + (T − 1)e^(−v)).
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

from initframe.signal.grid import Grid, gaussian, remarked
from initframe.signal.moments import Moments, at_least, diagonal
from initframe.signal.positions import edges, middle
from initframe.signal.remarks import Remark


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
