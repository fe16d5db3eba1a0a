"""Autocovariances of images: mean products of two places, by the offset between them, on a small torus.

An offset and its opposite have the same, so that a field is half of the torus: offsets of 0 to SIDE/2 rows, and all
columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

SIDE = 32
"""Side of the torus on which offsets between the places of an image are kept: 15 to each side."""


def white(square: float, near: float) -> Tensor:
    """The autocovariance of a field whose places share nothing but ``near``."""
    field = torch.full((SIDE // 2 + 1, SIDE), near, dtype=torch.float64, device="cpu")
    field[0, 0] = square
    return field


def whole(field: Tensor) -> Tensor:
    """All offsets of a field.

    >>> table = torch.tensor([[4.0, 3.0, 2.0, 3.0], [2.0, 1.0, 1.0, 0.0], [0.0, 2.0, 1.0, 2.0], [2.0, 0.0, 1.0, 1.0]])
    >>> torch.equal(whole(table[:3]), table)
    True
    """
    side = field.shape[1]
    return field.reshape(-1)[_mirror(side)].view(side, side)


@lru_cache(maxsize=8)
def _mirror(side: int) -> Tensor:
    """Where each offset, or its opposite, is in a field."""
    rows, columns = torch.arange(side, device="cpu")[:, None], torch.arange(side, device="cpu")[None, :]
    opposite = (-rows % side) * side + -columns % side
    return torch.where(rows <= side // 2, rows * side + columns, opposite).reshape(-1)


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
    field = torch.full((SIDE // 2 + 1, SIDE), beyond, dtype=torch.float64, device="cpu")
    down, across = (min(SIDE // 2 - 1, n) for n in reach)
    rows, columns = torch.arange(down + 1, device="cpu"), torch.arange(-across, across + 1, device="cpu")
    height, width = products.shape
    field[rows[:, None], columns % SIDE] = products[(rows % height)[:, None], columns % width]
    return field


def strided(field: Tensor, stride: Sequence[int], beyond: float) -> Tensor:
    """The autocovariance behind a stride: every s-th offset, and its limit where none is known.

    >>> strided(torch.eye(4)[:3], [2, 2], 0.0)[0].tolist()
    [1.0, 0.0, 0.0, 0.0]
    """
    if len(stride) < 2 or all(s == 1 for s in stride):
        return field
    out = torch.full_like(field, beyond)
    to, of = _steps(field.shape[1], stride[0], stride[1])
    out.view(-1)[to] = field.reshape(-1)[of]
    return out


@lru_cache(maxsize=16)
def _steps(side: int, down: int, across: int) -> tuple[Tensor, Tensor]:
    """Where the offsets behind a stride are in a field, and where they were before."""
    rows = torch.arange((side // 2 - 1) // down + 1, device="cpu")[:, None]
    most = (side // 2 - 1) // across
    columns = torch.arange(-most, most + 1, device="cpu")
    to, of = rows * side + columns % side, rows * down * side + columns * across % side
    return to.reshape(-1), of.reshape(-1)
