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
    return field.reshape(-1).index_select(0, _mirror(side)).view(side, side)


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
    sums: Tensor = torch.fft.irfft2(spectrum, s=size)
    return sums / _pairs(len(maps), (height, width), size, x.dtype)


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
def _pairs(maps: int, sides: Sequence[int], size: Sequence[int], dtype: torch.dtype) -> Tensor:
    """How many pairs of places of some maps are each offset apart, on a torus; at least 1 in each direction."""
    counts = []
    for side, around in zip(sides, size, strict=True):
        offsets = torch.arange(around, device="cpu")
        counts.append((side - torch.minimum(offsets, around - offsets)).clamp_min(1).to(dtype))
    return maps * counts[0][:, None] * counts[1]


def on_torus(products: Tensor, beyond: float, reach: Sequence[int], stride: Sequence[int] = (1, 1)) -> Tensor:
    """The field of a map's offsets.

    Args:
        products: from :func:`mean_products`, of one map.
        beyond: what farther offsets have.
        reach: up to which offset the map is believed, in each direction.
        stride: of the map's offsets, which are the field's.
    """
    down, across = (min(SIDE // 2 - 1, n) for n in reach)
    field = torch.full((SIDE // 2 + 1, SIDE), beyond, dtype=torch.float64, device="cpu")
    to, of = _places(SIDE, tuple(products.shape), (down, across), tuple(stride))
    field.view(-1).index_copy_(0, to, products.reshape(-1).index_select(0, of))
    return field


def strided(field: Tensor, stride: Sequence[int], beyond: float) -> Tensor:
    """The autocovariance behind a stride: every s-th offset, and its limit where none is known.

    >>> strided(torch.eye(4)[:3], [2, 2], 0.0)[0].tolist()
    [1.0, 0.0, 0.0, 0.0]
    """
    if len(stride) < 2 or all(s == 1 for s in stride):
        return field
    out = torch.full_like(field, beyond)
    side = field.shape[1]
    reach = (side // 2 - 1) // stride[0], (side // 2 - 1) // stride[1]
    to, of = _places(side, (side, side), reach, tuple(stride))
    out.view(-1).index_copy_(0, to, field.reshape(-1).index_select(0, of))
    return out


@lru_cache(maxsize=64)
def _places(side: int, shape: Sequence[int], reach: Sequence[int], stride: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Where offsets are in a field, and where in a table of some shape are those that a stride makes them of.

    >>> [places.tolist() for places in _places(8, (8, 8), (0, 1), (2, 2))]
    [[7, 0, 1], [6, 0, 2]]
    """
    rows = torch.arange(reach[0] + 1, device="cpu")[:, None]
    columns = torch.arange(-reach[1], reach[1] + 1, device="cpu")
    of = rows * stride[0] % shape[0] * shape[1] + columns * stride[1] % shape[1]
    return (rows * side + columns % side).reshape(-1), of.reshape(-1)


def near_inside(field: Tensor, beyond: float, height: int, width: int) -> float:
    """The mean product of two places of an area.

    Args:
        field: of the image.
        beyond: what offsets have that are farther than the field's.
        height: of the area.
        width: likewise.

    >>> near_inside(white(1.0, 0.25), 0.25, 7, 7)
    0.25
    """
    weights, counted = _pairs_by_offset(field.shape[1], height, width)
    pairs = (height * width) ** 2
    inside = torch.dot(field.reshape(-1), weights).item() - field[0, 0].item() * height * width
    return (inside + beyond * (pairs - counted)) / max(pairs - height * width, 1)


@lru_cache(maxsize=64)
def _pairs_by_offset(n: int, height: int, width: int) -> tuple[Tensor, float]:
    """How many pairs of an image's places each offset of a field of side n stands for, and all of these together."""
    down, across = min(n // 2, height), min(n // 2, width)
    dy, dx = torch.arange(down, device="cpu"), torch.arange(1 - across, across, device="cpu")
    counts = (height - dy).double()[:, None] * (width - dx.abs()).double()
    counts[1:] *= 2  # a row of offsets stands for the opposite one, too
    weights = torch.zeros(n // 2 + 1, n, dtype=torch.float64, device="cpu")
    weights[dy[:, None], dx % n] = counts
    return weights.reshape(-1), counts.sum().item()


def of_windows(square: float, inside: float, beyond: float, height: int, width: int) -> Tensor:
    """The field of an image that is cut into windows: two places are in one, or are not, by their offset.

    Args:
        square: of a place with itself.
        inside: of two places of one window.
        beyond: of two places of two windows.
        height: of a window.
        width: likewise.

    >>> of_windows(4.0, 2.0, 1.0, 2, 2)[0, :3].tolist()
    [4.0, 1.5, 1.0]
    """
    rows = torch.arange(SIDE // 2 + 1, device="cpu").double()
    columns = torch.arange(SIDE, device="cpu")
    columns = torch.minimum(columns, SIDE - columns).double()
    together = (1 - rows / height).clamp_min(0)[:, None] * (1 - columns / width).clamp_min(0)
    field = beyond + (inside - beyond) * together
    field[0, 0] = square
    return field
