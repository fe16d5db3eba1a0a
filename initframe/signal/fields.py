"""Autocovariances of images: mean products of two places, by the offset between them, on a small torus."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

SIDE = 32
"""Side of the torus on which offsets between the places of an image are kept: 15 to each side."""


def white(square: float, near: float) -> Tensor:
    """The autocovariance of a field whose places share nothing but ``near``."""
    field = torch.full((SIDE, SIDE), near, dtype=torch.float64, device="cpu")
    field[0, 0] = square
    return field


def half(field: Tensor) -> Tensor:
    """The half of an autocovariance that tells the other one: an offset and its opposite have the same."""
    return field[: field.shape[0] // 2 + 1].reshape(-1)


def whole(part: Tensor, like: Tensor) -> Tensor:
    """The autocovariance whose half is given.

    >>> field = torch.tensor([[4.0, 3.0, 3.0], [2.0, 1.0, 0.0], [2.0, 0.0, 1.0]])
    >>> torch.equal(whole(half(field), field), field)
    True
    """
    return part[_mirror(*like.shape)].view(like.shape)


@lru_cache(maxsize=8)
def _mirror(height: int, width: int) -> Tensor:
    """Where each offset, or its opposite, is in the half of an autocovariance."""
    rows, columns = torch.arange(height, device="cpu")[:, None], torch.arange(width, device="cpu")[None, :]
    opposite = (-rows % height) * width + -columns % width
    return torch.where(rows <= height // 2, rows * width + columns, opposite).reshape(-1)


def mean_products(x: Tensor, reach: int = SIDE // 2 - 1) -> Tensor:
    """Mean products of two places by their offset, over all maps, on a torus.

    The maps' power spectra are added before they are transformed back, and maps are padded no farther than needed.

    Args:
        x: (…, height, width).
        reach: the largest offset that is right; farther ones wrap around, and are not to be used.

    Returns:
        (rows, columns): at least the map's side and the reach, each.

    >>> [round(product) for product in mean_products(torch.tensor([[1.0, 3.0]]))[0].tolist()]
    [5, 3, 3]
    """
    height, width = x.shape[-2:]
    size = tuple(_smooth(side + min(reach, side - 1)) for side in (height, width))
    maps = x.reshape(-1, height, width)
    parts = torch.view_as_real(torch.fft.rfft2(maps, s=size))
    spectrum = parts.square_().sum(0).sum(-1)  # one after the other is twenty times as fast as both at once
    sums: Tensor = torch.fft.irfft2(spectrum / len(maps), s=size)
    return sums / _pairs(height, size[0]).to(x.dtype)[:, None] / _pairs(width, size[1]).to(x.dtype)[None, :]


def _smooth(number: int) -> int:
    """The next number whose prime factors are 2, 3 and 5: a Fourier transform of that length is fast."""
    while True:
        rest = number
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return number
        number += 1


@lru_cache(maxsize=64)
def _pairs(side: int, size: int) -> Tensor:
    """How many pairs of places of a line are each offset apart, on a circle; at least 1."""
    offsets = torch.arange(size, device="cpu")
    return (side - torch.minimum(offsets, size - offsets)).clamp_min(1).double()


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
