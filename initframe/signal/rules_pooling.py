"""Rules of pooling: averages in closed form, maxima by small patches of the normal field."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from initframe.signal.fields import SIDE, mean_products, on_torus, strided, white
from initframe.signal.grid import at, gaussian, replace, sampled
from initframe.signal.layout import images
from initframe.signal.moments import average as mean_of
from initframe.signal.moments import moments_of
from initframe.signal.positions import averaged
from initframe.signal.rules_norms import pooled
from initframe.signal.walk import Operation, Rule, State

PATCHES = 256
"""Patches that a maximum is taken over; each has SIDE² places."""
LOCAL = 8
"""Up to which offset patches follow the autocovariance; farther places share a level."""


def average(op: Operation) -> State:
    """Average pooling, adaptive or not: a mean over windows of places."""
    grid = op.grid("self")
    if grid is None:
        return None
    before, after = op["self"].shape, op.shape
    spatial = [d for d in range(len(before)) if d >= len(before) - _places(op)]
    if all(after[d] == 1 for d in spatial):
        return pooled(grid, spatial, op.shape, keep=True)
    if all(after[d] >= before[d] for d in spatial):  # adaptive, to more places than there are: copies
        profile = None if after[spatial[0]] > before[spatial[0]] else grid.profile
        return replace(grid, layout=grid.layout.fitted(op.shape), profile=profile)
    kernel, stride = _window(op, [before[d] for d in spatial], [after[d] for d in spatial])
    m = averaged(grid)
    if m.field is None or len(kernel) != 2:
        count = 1
        for k in kernel:
            count *= k
        m = m._replace(square=(m.square + (count - 1) * m.near) / count, same=(m.same + (count - 1) * m.far) / count)
    else:
        field = _windowed(m.field, kernel)
        count = kernel[0] * kernel[1]
        same = (m.same + (count - 1) * m.far) / count
        m = m._replace(square=field[0, 0].item(), same=same, field=strided(field, stride, mean_of(m.near)))
    profile = grid.profile
    if profile is not None:
        profile = (
            functional.adaptive_avg_pool2d(profile[None, None], (after[-2], after[-1]))[0, 0]
            if profile.ndim == 2
            else None
        )
    if all(k == 1 for k in kernel):
        return replace(grid, layout=grid.layout.fitted(op.shape), profile=profile)
    return gaussian(m, grid.layout.fitted(op.shape), profile=profile, **grid.kept)


def _places(op: Operation) -> int:
    return next((int(c) for c in op.func.overloadpacket.__name__ if c.isdigit()), 2)


def _window(op: Operation, before: list[int], after: list[int]) -> tuple[list[int], list[int]]:
    """Kernel and stride; of adaptive pooling, what is nearest."""
    if "kernel_size" in op.given:
        kernel = _sized(op["kernel_size"], len(before))
        stride = _sized(op.given.get("stride") or kernel, len(before))
        return kernel, stride
    steps = [max(b // a, 1) for b, a in zip(before, after, strict=True)]
    return [b - (a - 1) * s for b, a, s in zip(before, after, steps, strict=True)], steps


def _sized(value: Any, n: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * n if len(values) == 1 else values


def _windowed(field: Tensor, kernel: list[int]) -> Tensor:
    """The autocovariance of means over windows: weighted by how many pairs are an offset apart."""
    out = torch.zeros_like(field)
    height, width = kernel
    for dy in range(1 - height, height):
        for dx in range(1 - width, width):
            share = (height - abs(dy)) * (width - abs(dx)) / (height * width) ** 2
            out += share * field.roll((dy, dx), (0, 1))
    return out


def maximum(op: Operation) -> tuple[State, ...]:
    """Max pooling: the operation itself, on patches of the normal field with the layer's autocovariance."""
    grid = op.grid("self")
    if grid is None or grid.source is None:
        return (grid and replace(grid, layout=grid.layout.fitted(op.shape)), None)
    spatial = _places(op)
    if spatial != 2 or len(op["self"].shape) < 4:
        return (None, None)
    before, after = list(op["self"].shape[-2:]), list(op.shape[-2:])
    kernel, stride = _window(op, before, after)
    source = grid.source
    field = source.field if source.field is not None else white(1.0, mean_of(source.near))
    pairs = [mean_of(source.same), mean_of(source.near), mean_of(source.far)]
    one, others = _patches(field, pairs)
    x, *ys = (functional.max_pool2d(at(grid, z)[:, None], kernel, stride)[:, 0] for z in (one, *others))
    mean, square = _with_borders(op, at(grid, one), kernel, stride)
    same, near, far = (max((x * y).mean(dtype=torch.float64).item(), mean * mean) for y in ys)
    reach = (x.shape[-1] - 1) // 2
    offsets = on_torus(mean_products(x).double(), near, (reach, reach))
    m = moments_of(mean, square, same, near, far)._replace(field=offsets)
    profile = grid.profile
    if profile is not None:
        roots = functional.adaptive_avg_pool2d(profile.sqrt()[None, None], (after[0], after[1]))[0, 0].square()
        profile = roots / roots.mean()
    layout = images(op.shape) if len(op.shape) == 4 else grid.layout.fitted(op.shape)
    like = gaussian(m, layout, profile=profile, **{**grid.kept, "why": grid.why or "maximum over simulated patches"})
    return (sampled(x.reshape(-1)[::5], m, like), None)


def _with_borders(op: Operation, values: Tensor, kernel: list[int], stride: list[int]) -> tuple[float, float]:
    """Mean and mean square over all windows; those at a padded border are smaller."""
    padding = _sized(op.given.get("padding") or 0, 2)
    counts = []
    for side, k, s, p, n in zip(op["self"].shape[-2:], kernel, stride, padding, op.shape[-2:], strict=True):
        starts = torch.arange(n, device="cpu") * s - p
        lengths = (starts + k).clamp_max(side) - starts.clamp_min(0)
        counts.append(
            {
                int(length): int((lengths == length).sum()) / n
                for length in lengths.unique()  # type: ignore[no-untyped-call]
            }
        )
    mean = square = 0.0
    for height, rows in counts[0].items():
        for width, columns in counts[1].items():
            x = functional.max_pool2d(values[:, None], (height, width), stride)
            share = rows * columns
            mean, square = mean + share * x.mean().item(), square + share * x.square().mean().item()
    return mean, square


@lru_cache(maxsize=1)
def _noise() -> tuple[list[Tensor], list[Tensor]]:
    """Normal levels, and the spectra of normal fields: the same at every call, each with its negative."""
    generator = torch.Generator(device="cpu")
    generator.manual_seed(0)

    def draw(*shape: int) -> Tensor:
        half = torch.randn(PATCHES // 2, *shape, generator=generator, device="cpu")
        return torch.cat([half, -half])

    return [draw(1, 1) for _ in range(4)], [torch.fft.rfft2(draw(SIDE, SIDE)) for _ in range(4)]


def _patches(field: Tensor, pairs: list[float]) -> tuple[Tensor, list[Tensor]]:
    """Normal fields on the torus, and for each of some correlations others that are so correlated with them.

    A field is a level that all its places share, and a wave: what offsets up to ``LOCAL`` tell. A window that falls
    with the offset keeps the wave's spectrum positive.
    """
    level = min(max(field[LOCAL, 0].item(), field[0, LOCAL].item(), pairs[-1], 0.0), 1.0 - 1e-9)
    offsets = torch.arange(SIDE, device="cpu")
    offsets = torch.minimum(offsets, SIDE - offsets).double()
    window = torch.exp(-(offsets[:, None].square() + offsets[None, :].square()) / (2 * LOCAL**2))
    power = torch.fft.rfft2(((field - level) / (1 - level)).clamp(-1, 1) * window).real.clamp_min(0)

    levels, spectra = _noise()
    filtering = power.sqrt().float()
    waves: list[Tensor] = [torch.fft.irfft2(one * filtering, s=(SIDE, SIDE)) for one in spectra]
    g, w = levels[0], waves[0]
    scale = w.square().mean().sqrt().clamp_min(1e-30)
    one = level**0.5 * g + (1 - level) ** 0.5 * w / scale
    others = []
    for c, own_level, own_wave in zip(pairs, levels[1:], waves[1:], strict=True):
        a = min(max(c / level, 0.0), 1.0) if level > 0 else 0.0
        b = min(max((c - level) / (1 - level), 0.0), 1.0)
        shared = level**0.5 * (a * g + (1 - a * a) ** 0.5 * own_level)
        others.append(shared + (1 - level) ** 0.5 * (b * w + (1 - b * b) ** 0.5 * own_wave) / scale)
    return one, others


RULES: dict[str, Rule] = {"avg_pool": average, "max_pool": maximum}
