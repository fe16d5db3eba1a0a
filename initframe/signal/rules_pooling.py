"""Rules of pooling: averages in closed form, maxima by small patches of the normal field."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from initframe.signal.fields import SIDE, mean_products, on_torus, strided, white, whole
from initframe.signal.grid import Grid, constant, gaussian, joint, replace, reshaped
from initframe.signal.layout import Layout, images
from initframe.signal.moments import average as mean_of
from initframe.signal.moments import moments_of
from initframe.signal.positions import averaged
from initframe.signal.quantiles import of_samples
from initframe.signal.rules_norms import pooled
from initframe.signal.states import Operation, Rule, State

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
    adaptive = "kernel_size" not in op.given
    if adaptive and all(after[d] >= before[d] for d in spatial):  # adaptive, to more places than there are: copies
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
    out = gaussian(m, grid.layout.fitted(op.shape), profile=profile, **grid.kept)
    return _beside(grid, out, kernel) if op.shape == op["self"].shape else out


def _beside(x: Grid, out: Grid, kernel: list[int]) -> Grid:
    """Means over windows around the places of x: a share of x, and what is independent of it.

    Blocks that take an image from its own local mean add up the two.
    """
    m, y = averaged(x), out.moments()
    if m.field is None or x.classes > 1 or len(kernel) != 2:
        return out
    level, variance = mean_of(m.mean) ** 2, mean_of(m.square) - mean_of(m.mean) ** 2
    rows, columns = (torch.arange(size, device="cpu") - size // 2 for size in kernel)
    common = whole(m.field)[rows[:, None], columns[None, :]].mean().item()
    share = (common - level) / max(variance, 1e-300)
    mean, shared = mean_of(m.mean) * (1 - share), 2 * share * (1 - share) * level
    others = (mean_of(b) - share**2 * mean_of(a) - shared for a, b in zip(m[1:5], y[1:5], strict=True))
    field = None if y.field is None else y.field - share**2 * m.field - shared
    rest = gaussian(moments_of(mean, *others)._replace(field=field), out.layout)
    return replace(out, pieces=((share, (x,)), (1.0, (rest,))))


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
    out, offsets = torch.zeros_like(field), whole(field)
    height, width = kernel
    for dy in range(1 - height, height):
        for dx in range(1 - width, width):
            share = (height - abs(dy)) * (width - abs(dx)) / (height * width) ** 2
            out += share * offsets.roll((dy, dx), (0, 1))[: len(out)]
    return out


def maximum(op: Operation) -> tuple[State, ...]:
    """Max pooling: the operation itself, on patches of the normal field with the layer's autocovariance."""
    grid = op.grid("self")
    if grid is None or grid.source is None:
        return (grid and replace(grid, layout=grid.layout.fitted(op.shape)), None)
    n = _places(op)
    before, after = list(op["self"].shape[-n:]), list(op.shape[-n:])
    kernel, stride = _window(op, before, after)
    found = grid.source.correlations.pairs
    pairs, field = [mean_of(found.same), mean_of(found.near), mean_of(found.far)], found.field
    if n == 2:
        field = white(1.0, pairs[1]) if field is None else field
        one, others = _patches(field, pairs)
    else:
        one, others = _correlated(min(max(pairs[1], 0.0), 1.0 - 1e-9), pairs, *_volumes())
    values, *rest = (grid.law.at(drawn)[:, None] for drawn in (one, *others))
    x, *ys = (_POOL[n](patches, kernel, stride)[:, 0] for patches in (values, *rest))
    mean, square = _with_borders(op, values, x, kernel, stride)
    level, inside = x.mean(dtype=torch.float64).item(), x.double().square().mean().item()
    share = (square - mean * mean) / max(inside - level * level, 1e-300)  # patches have no borders
    same, near, far = (
        mean * mean + share * max((x * y).mean(dtype=torch.float64).item() - level * level, 0.0) for y in ys
    )
    m = moments_of(mean, square, same, near, far)
    if n == 2:
        reach = (x.shape[-1] - 1) // 2
        products = mean * mean + share * (mean_products(x).double() - level * level)
        m = m._replace(field=on_torus(products, near, (reach, reach)))
    profile = grid.profile
    if profile is not None:
        roots = _MEAN[n](profile.sqrt()[None, None], after)[0, 0].square() if profile.ndim == n else None
        profile = None if roots is None else roots / roots.mean()
    layout = images(op.shape) if len(op.shape) == n + 2 else grid.layout.fitted(op.shape)
    why = grid.why or ("maximum over simulated patches" if n == 2 else "maximum over patches of independent places")
    like = gaussian(m, layout, profile=profile, **{**grid.kept, "why": why})
    some = x.reshape(-1)[::5]
    return (joint(partial(of_samples, some), m, like, zeros=some.eq(0).double().mean().item()), None)


def extreme(op: Operation) -> State | tuple[State, ...]:
    """The largest or smallest of some dimensions, by samples."""
    grid = op.grid("self")
    several = isinstance(op.out, tuple | list)
    if grid is None:
        return None
    name = op.func.overloadpacket.__name__.rstrip("_")
    sign = -1.0 if name.endswith("min") else 1.0
    given, n = op.given.get("dim"), len(grid.layout.dims)
    dims = [d % n for d in (range(n) if given in (None, []) else [given] if isinstance(given, int) else given)]
    count = math.prod(grid.layout.shape[d] for d in dims)
    kept = [() if d in dims else factors for d, factors in enumerate(grid.layout.dims)]
    if not op.given.get("keepdim"):
        kept = [factors for d, factors in enumerate(kept) if d not in dims]
    layout = Layout(tuple(kept)).fitted(op.shape)
    if grid.source is None or count == 1:
        found: State = replace(grid, layout=layout)
    else:
        shared = any("position" in grid.layout.roles(d) for d in dims)
        found = _largest(grid, count, layout, sign, shared=shared)
    return (found, None) if several else found


def _largest(grid: Grid, count: int, layout: Layout, sign: float, *, shared: bool) -> Grid:
    """The largest of so many elements, or for a negative sign the smallest.

    Args:
        grid: of the elements.
        count: how many.
        layout: of the result.
        sign: 1 or −1.
        shared: whether they are places of one channel; else they are independent.
    """
    m = grid.moments()
    if grid.source is None:
        return grid
    same, near, far = map(mean_of, grid.source.correlations.pairs[:3])
    level = min(max(near, 0.0), 1.0 - 1e-9) if shared else 0.0
    one, others = _correlated(level, [same, near, far], *_volumes())
    size = min(count, one[0].numel())

    def taken(z: Tensor) -> Tensor:
        rows = sign * grid.law.at(z).reshape(len(z), -1)
        return sign * rows[:, : rows.shape[1] // size * size].reshape(len(z), -1, size).amax(2)

    x, *ys = (taken(z) for z in (one, *others))
    mean, square = x.mean(dtype=torch.float64).item(), x.double().square().mean().item()
    why = grid.why or "largest of samples"
    if grid.terms:  # of scores: what is subtracted before the softmax
        return replace(constant(mean, layout), why=why)
    pairs = [min(max((x * y).mean(dtype=torch.float64).item(), mean * mean), square) for y in ys]
    like = gaussian(moments_of(mean, square, *pairs), layout, **{**grid.kept, "why": why})
    flat = x.reshape(-1)[:65536].double()
    return reshaped(flat, torch.ones_like(flat), moments_of(mean, square, *pairs), like) if m.classes == 1 else like


def _with_borders(
    op: Operation, values: Tensor, pooled: Tensor, kernel: list[int], stride: list[int]
) -> tuple[float, float]:
    """Mean and mean square over all windows; those at a padded border are smaller."""
    dims = len(kernel)
    padding = _sized(op.given.get("padding") or 0, dims)
    counts = []
    for side, k, s, p, n in zip(op["self"].shape[-dims:], kernel, stride, padding, op.shape[-dims:], strict=True):
        starts = torch.arange(n, device="cpu") * s - p
        lengths = (starts + k).clamp_max(side) - starts.clamp_min(0)
        counts.append(
            {
                int(length): int((lengths == length).sum()) / n
                for length in lengths.unique()  # type: ignore[no-untyped-call]
            }
        )
    mean = square = 0.0
    for window in itertools.product(*(one.items() for one in counts)):
        sizes = [size for size, _ in window]
        x = pooled if sizes == kernel else _POOL[dims](values, sizes, stride)
        share = math.prod(one for _, one in window)
        mean, square = mean + share * x.mean().item(), square + share * x.square().mean().item()
    return mean, square


_POOL: dict[int, Any] = {2: functional.max_pool2d, 3: functional.max_pool3d}
_MEAN: dict[int, Any] = {2: functional.adaptive_avg_pool2d, 3: functional.adaptive_avg_pool3d}


@lru_cache(maxsize=1)
def _noise() -> tuple[list[Tensor], list[Tensor]]:
    """Normal levels, and the spectra of normal fields: the same at every call, each with its negative."""
    generator = torch.Generator(device="cpu")
    generator.manual_seed(0)

    levels, waves = ([_drawn(generator, *shape) for _ in range(4)] for shape in ((1, 1), (SIDE, SIDE)))
    return levels, [torch.fft.rfft2(one) for one in waves]


def _drawn(generator: torch.Generator, *shape: int) -> Tensor:
    half = torch.randn(PATCHES // 2, *shape, generator=generator, device="cpu")
    return torch.cat([half, -half])


@lru_cache(maxsize=1)
def _volumes() -> tuple[list[Tensor], list[Tensor]]:
    """Normal levels, and independent normal places of cubes."""
    generator = torch.Generator(device="cpu")
    generator.manual_seed(0)
    side = round((SIDE * SIDE) ** (1 / 3))
    return [_drawn(generator, 1, 1, 1) for _ in range(4)], [_drawn(generator, side, side, side) for _ in range(4)]


def _patches(field: Tensor, pairs: list[float]) -> tuple[Tensor, list[Tensor]]:
    """Normal fields on the torus, and for each of some correlations others that are so correlated with them.

    A field is a level that all its places share, and a wave: what offsets up to ``LOCAL`` tell. A window that falls
    with the offset keeps the wave's spectrum positive.
    """
    level = min(max(field[LOCAL, 0].item(), field[0, LOCAL].item(), pairs[-1], 0.0), 1.0 - 1e-9)
    offsets = torch.arange(SIDE, device="cpu")
    offsets = torch.minimum(offsets, SIDE - offsets).double()
    window = torch.exp(-(offsets[:, None].square() + offsets[None, :].square()) / (2 * LOCAL**2))
    power = torch.fft.rfft2(((whole(field) - level) / (1 - level)).clamp(-1, 1) * window).real.clamp_min(0)

    levels, spectra = _noise()
    filtering = power.sqrt().float()
    waves: list[Tensor] = [torch.fft.irfft2(one * filtering, s=(SIDE, SIDE)) for one in spectra]
    return _correlated(level, pairs, levels, waves)


def _correlated(
    level: float, pairs: list[float], levels: list[Tensor], waves: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Fields of which each is a level and a wave, and for each of some correlations others that are so correlated."""
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


RULES: dict[str, Rule] = {
    "avg_pool": average,
    "max_pool": maximum,
    **dict.fromkeys(("max", "amax", "min", "amin"), extreme),
}
