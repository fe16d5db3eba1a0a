"""Autocovariances of images: mean products of two places, by the offset between them, on a small torus."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SIDE = 32
"""Side of the torus on which offsets between the places of an image are kept: 15 to each side."""


def white(square: float, near: float) -> Tensor:
    """The autocovariance of a field whose places share nothing but ``near``."""
    field = torch.full((SIDE, SIDE), near, dtype=torch.float64, device="cpu")
    field[0, 0] = square
    return field


def mean_products(x: Tensor) -> Tensor:
    """Mean products of two places of maps by their offset, on a torus of twice the maps' size.

    Args:
        x: (…, height, width).

    Returns:
        (…, 2·height, 2·width); offsets that do not occur are 0.

    >>> mean_products(torch.tensor([[1.0, 3.0]]))[0].tolist()
    [5.0, 3.0, 0.0, 3.0]
    """
    height, width = x.shape[-2:]
    size = (2 * height, 2 * width)
    ones = torch.fft.rfft2(torch.ones(height, width, dtype=x.dtype, device="cpu"), s=size).abs().square()
    sums = torch.fft.irfft2(torch.fft.rfft2(x, s=size).abs().square(), s=size)
    products: Tensor = sums / torch.fft.irfft2(ones, s=size).round().clamp_min(1)
    return products


def on_torus(products: Tensor, beyond: float, reach: Sequence[int]) -> Tensor:
    """The offsets of a map on the torus of all fields.

    Args:
        products: from :func:`mean_products`, of one map.
        beyond: what farther offsets have.
        reach: up to which offset the map is believed, in each direction.
    """
    out = torch.full((SIDE, SIDE), beyond, dtype=torch.float64, device="cpu")
    rows, columns = (torch.arange(-r, r + 1, device="cpu") for r in (min(SIDE // 2 - 1, n) for n in reach))
    height, width = products.shape
    found = products[(rows % height)[:, None], (columns % width)[None, :]]
    out[(rows % SIDE)[:, None], (columns % SIDE)[None, :]] = found
    return out


def strided(field: Tensor, stride: Sequence[int], beyond: float) -> Tensor:
    """The autocovariance behind a stride: every s-th offset, and its limit where none is known.

    >>> strided(torch.eye(4), [2, 2], 0.0)[0].tolist()
    [1.0, 0.0, 0.0, 0.0]
    """
    if len(stride) < 2 or all(s == 1 for s in stride):
        return field
    n = field.shape[0]
    out = torch.full_like(field, beyond)
    offsets = [[d for d in range(-(n // 2) + 1, n // 2) if abs(d * s) < n // 2] for s in stride[:2]]
    rows, columns = (torch.tensor(one, device="cpu") for one in offsets)
    source = field[(rows * stride[0] % n)[:, None], (columns * stride[1] % n)[None, :]]
    out[(rows % n)[:, None], (columns % n)[None, :]] = source
    return out
