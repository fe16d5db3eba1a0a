"""Quantiles of samples and of weighted values, at the probabilities of the grid of z."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from initframe.signal.hermite import CDF, K

BUCKETS = 4096
"""Of what is sorted in part only."""


def of_weighted(values: Tensor, weights: Tensor) -> Tensor:
    """The quantiles of weighted values, in any order."""
    values, order = values.sort()
    weights = weights.index_select(0, order)  # a tenth of what indexing takes
    level = weights.cumsum(0).sub_(weights / 2).div_(weights.sum())
    return interpolate(CDF, level, values)


def of_samples(values: Tensor) -> Tensor:
    """The quantiles of values that all weigh the same."""
    place = (CDF * values.numel()).sub_(0.5).clamp_(0, values.numel() - 1)
    left = place.long()
    ranks = torch.cat([left, (left + 1).clamp_max(values.numel() - 1)])
    low, high = order_statistics(values, ranks).double().view(2, K).unbind()
    return (high - low).mul_(place - left).add_(low)


def order_statistics(values: Tensor, ranks: Tensor) -> Tensor:
    """The values of some ranks, without sorting those between them.

    >>> order_statistics(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([2, 0])).tolist()
    [3.0, 1.0]
    """
    low, high = values.aminmax()
    width = (high - low) / BUCKETS
    if values.numel() < BUCKETS or not math.isfinite(width) or width == 0:
        return values.sort().values[ranks]
    bucket = ((values - low) / width).long().clamp_(0, BUCKETS - 1)
    below = torch.cat([bucket.new_zeros(1), torch.bincount(bucket, minlength=BUCKETS).cumsum(0)])
    asked = torch.searchsorted(below, ranks, right=True) - 1
    wanted = bucket.new_zeros(BUCKETS, dtype=torch.bool)
    wanted[asked] = True
    kept = values[wanted[bucket]].sort().values
    skipped = torch.where(wanted, 0, below.diff()).cumsum(0)  # how many of smaller buckets are not among the kept
    return kept[ranks - skipped[asked]]


def interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Linear interpolation through (xs, ys), xs ascending, constant beyond its ends.

    >>> interpolate(torch.tensor([0.5, 9.0]), torch.tensor([0.0, 1.0]), torch.tensor([0.0, 10.0])).tolist()
    [5.0, 10.0]
    """
    left, share = _between(x, xs)
    low = ys.index_select(0, left)
    return share.mul_(ys.index_select(0, left + 1).sub_(low)).add_(low)


def place(x: Tensor, xs: Tensor) -> Tensor:
    """Where numbers are in an ascending row: 2.5 is halfway between the third and the fourth."""
    left, share = _between(x, xs)
    return share.add_(left)


def _between(x: Tensor, xs: Tensor) -> tuple[Tensor, Tensor]:
    """After which number of an ascending row each x comes, and how far on the way to the next one."""
    left = torch.searchsorted(xs, x).sub_(1).clamp_(0, xs.numel() - 2)
    low = xs.index_select(0, left)
    return left, (x - low).div_(xs.index_select(0, left + 1).sub_(low).clamp_min_(1e-300)).clamp_(0, 1)
