"""What the borders of images take from convolutions: taps that meet nothing, and taps that two places share.

Without an input's profile these are facts of the geometry alone, which a model's blocks repeat; they are kept.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.weak import WeakIdKeyDictionary

from initframe.signal.fields import SIDE, mean_products, on_torus

LARGEST_UNFOLDED = 2**21
"""Up to how many taps of all places are looked at one by one."""
SMALL_IMAGE = 64
"""Up to which side borders matter to the autocovariance."""


class Geometry(NamedTuple):
    """What a convolution does to places; numbers are those of torch.

    Attributes:
        size: the input's places.
        kernel: the taps.
        stride: one for all dimensions, or one for each.
        padding: likewise.
        dilation: likewise.
        transposed: whether it is a transposed convolution.
        output_padding: of a transposed one.
    """

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]

    @property
    def takes_places_as_they_are(self) -> bool:
        """Whether every place of the output meets the same place of the input, and no other."""
        return self.transposed is False and not any(self.padding) and {*self.kernel, *self.stride} == {1}


class Borders(NamedTuple):
    """What borders do to a convolution.

    Attributes:
        share: of the taps that meet an input, the mean over places.
        profile: the relative mean square by place (mean 1); ``None`` if all places are alike.
        apart: how much of the taps that meet an input two places have in common, against one place with itself.
        offsets: the same by offset for small images; ``None`` where nothing is cut.
    """

    share: float
    profile: Tensor | None
    apart: float
    offsets: Tensor | None


def borders(geometry: Geometry, before: Tensor | None) -> Borders:
    """What borders do to a convolution of an input with a profile.

    >>> found = borders(Geometry((4,), (3,), (1,), (1,), (1,), False, (0,)), None)
    >>> found.share, [round(x, 1) for x in found.profile.tolist()]
    (2.5, [0.8, 1.2, 1.2, 0.8])
    """
    if before is None:
        return _of_geometry(geometry)
    if before.ndim != len(geometry.size):
        before = torch.ones(geometry.size, dtype=torch.float64, device="cpu")
    elif tuple(before.shape) != geometry.size:
        before = resized(before, geometry.size)
    if geometry.takes_places_as_they_are:
        return Borders(1.0, before, 1.0, None)
    known = _known.setdefault(before, {})  # type: ignore[no-untyped-call]
    if geometry not in known:
        known[geometry] = _borders(geometry, before)
    return known[geometry]  # type: ignore[no-any-return]


_known = WeakIdKeyDictionary()
"""What was found for a profile, as long as there is that tensor: all layers of a dense block have the same."""


@lru_cache(maxsize=64)
def _of_geometry(geometry: Geometry) -> Borders:
    if geometry.takes_places_as_they_are:
        return Borders(1.0, None, 1.0, None)
    return _borders(geometry, torch.ones(geometry.size, dtype=torch.float64, device="cpu"))


def resized(profile: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A profile over another number of places."""
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[profile.ndim]
    found = functional.interpolate(profile[None, None], size=shape, mode=mode, align_corners=False)[0, 0]
    return found / found.mean().clamp_min(1e-300)


def _borders(geometry: Geometry, before: Tensor) -> Borders:
    size, kernel, stride, padding, dilation, transposed, _ = geometry
    if len(kernel) != 2 or transposed or not any(padding) or before.numel() * math.prod(kernel) > LARGEST_UNFOLDED:
        met = _taps(geometry, before)
        return _shared(met, met.mean().item(), 1.0, None)
    stride, padding, dilation = (n if len(n) == 2 else n * 2 for n in (stride, padding, dilation))
    roots = before.clamp_min(0).sqrt()
    taps = functional.unfold(roots[None, None], kernel, dilation=dilation, padding=padding, stride=stride)[0]
    height, width = (
        (side + 2 * p - d * (k - 1) - 1) // s + 1
        for side, p, d, k, s in zip(size, padding, dilation, kernel, stride, strict=True)
    )
    met = (taps * taps).sum(0).view(height, width)
    share = met.mean().item()
    middle = taps.mean(1)
    apart = torch.dot(middle, middle).item() / (roots.mean().item() ** 2 * max(share, 1e-300))
    if max(height, width) > SMALL_IMAGE:
        return _shared(met, share, apart, None)
    found = mean_products(taps.view(-1, height, width)) * len(taps)
    reach = [min(SIDE // 2 - 1, n - 1) for n in (height, width)]
    inputs = mean_products(roots, max(r * s for r, s in zip(reach, stride, strict=True)))
    alone = on_torus(inputs, 1.0, reach, stride).clamp_min_(1e-300)
    offsets = on_torus(found, apart * share, reach).div_(max(share, 1e-300)).div_(alone)
    return _shared(met, share, apart, offsets)


def _shared(met: Tensor, share: float, apart: float, offsets: Tensor | None) -> Borders:
    profile = met / max(share, 1e-300)
    low, high = profile.aminmax()
    flat = abs(low.item() - 1) < 1e-6 and abs(high.item() - 1) < 1e-6
    return Borders(share, None if flat else profile, apart, offsets)


def _taps(geometry: Geometry, before: Tensor) -> Tensor:
    """How many taps of the kernel meet an input at each place, weighted by the input's profile."""
    _, kernel, stride, padding, dilation, transposed, output_padding = geometry
    if set(kernel) == {1} and not transposed and not any(padding):
        steps = stride if len(stride) == before.ndim else stride * before.ndim
        return before[tuple(slice(None, None, s) for s in steps)]
    ones = torch.ones((1, 1, *kernel), dtype=torch.float64, device="cpu")
    numbers = [list(n) for n in (stride, padding, dilation)]
    met = torch.ops.aten.convolution.default(
        before[None, None], ones, None, *numbers, transposed, list(output_padding), 1
    )
    return met[0, 0]  # type: ignore[no-any-return]
