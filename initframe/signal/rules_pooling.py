"""Rules of pooling: averages in closed form, maxima by small patches of the normal field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from initframe.signal.grid import Grid, Moments, at, gaussian, reshaped
from initframe.signal.layout import plain
from initframe.signal.positions import averaged
from initframe.signal.rules_linear import strided
from initframe.signal.rules_norms import pooled
from initframe.signal.walk import Operation, Rule, State

SIDE = 32
"""Side of the torus on which offsets between places are kept."""
PATCHES = 384
"""Patches that a maximum is taken over; each has SIDE² places."""


def white(square: float, near: float) -> Tensor:
    """The autocovariance of a field whose places share nothing but ``near``."""
    field = torch.full((SIDE, SIDE), near, dtype=torch.float64, device="cpu")
    field[0, 0] = square
    return field


def average(op: Operation) -> State:
    """Average pooling, adaptive or not: a mean over windows of places."""
    grid = op.grid("self")
    if grid is None:
        return None
    before, after = op["self"].shape, op.shape
    spatial = [d for d in range(len(before)) if d >= len(before) - _places(op)]
    if all(after[d] == 1 for d in spatial):
        return pooled(grid, spatial, op.shape, keep=True)
    kernel, stride = _window(op, [before[d] for d in spatial], [after[d] for d in spatial])
    m = averaged(grid)
    if m.field is None or len(kernel) != 2:
        count = 1
        for k in kernel:
            count *= k
        m = m._replace(square=(m.square + (count - 1) * m.near[0]) / count, same=(m.same + (count - 1) * m.far[0]) / count)
    else:
        field = _windowed(m.field, kernel)
        count = kernel[0] * kernel[1]
        same = (m.same + (count - 1) * m.far[0]) / count
        m = m._replace(square=field[0, 0][None], same=same, field=strided(field, stride, m.near.mean().item()))
    profile = grid.profile
    if profile is not None:
        profile = F.adaptive_avg_pool2d(profile[None, None], [after[d] for d in spatial])[0, 0] if profile.ndim == 2 else None
    if all(k == 1 for k in kernel):
        return replace(grid, layout=grid.layout.fitted(op.shape), profile=profile)
    return gaussian(m, grid.layout.fitted(op.shape), profile=profile, why=grid.why, spread=grid.spread)


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
    field = source.field if source.field is not None else white(1.0, source.near.mean().item())
    floor = min(max(source.far.mean().item(), 0.0), 1.0 - 1e-9)
    one, other = _patches(field, floor)
    x, y = (F.max_pool2d(at(grid, z)[:, None], kernel, stride)[:, 0] for z in (one, other))
    mean, square = x.mean(), x.square().mean()
    centre = x.shape[-1]
    far = (x * y.roll((centre // 2, centre // 2), (1, 2))).mean()
    pairs = _autocovariance(x, far.item())
    field = strided_torus(pairs, far.item())
    far = torch.maximum(far, mean**2)
    m = Moments(mean[None], square[None], far[None], _near(field, before, after)[None, None], far[None, None], field)
    profile = grid.profile
    if profile is not None:
        roots = F.adaptive_avg_pool2d(profile.sqrt()[None, None], after)[0, 0].square()
        profile = roots / roots.mean()
    layout = plain(op.shape, ("batch", "channel", "position", "position")) if len(op.shape) == 4 else grid.layout.fitted(op.shape)
    like = gaussian(m, layout, profile=profile, why=grid.why or "maximum over simulated patches", spread=grid.spread)
    return (reshaped(x.reshape(-1)[::5], torch.ones_like(x.reshape(-1)[::5]), m, like), None)


def _near(field: Tensor, before: list[int], after: list[int]) -> Tensor:
    """The mean product of two places; a pair is as far apart as it can be, but for small images."""
    del before
    n = field.shape[0]
    h, w = (min(n // 2 - 1, side - 1) for side in after)
    if max(after) > n // 2:
        return field[n // 2, n // 2]
    window = torch.cat([field[: h + 1], field[-h:] if h else field[:0]])[:, : w + 1]
    return window.mean()


def _patches(field: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """Normal fields on the torus: two that share only what all places of all inputs share."""
    generator = torch.Generator(device="cpu")
    generator.manual_seed(0)
    rest = ((field - floor) / (1 - floor)).clamp(-1, 1)
    power = torch.fft.rfft2(rest).real.clamp_min(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator, device="cpu")

    common = draw(PATCHES // 2, 1, 1)
    own = []
    for _ in range(2):
        noise = torch.fft.rfft2(draw(PATCHES // 2, SIDE, SIDE))
        wave = torch.fft.irfft2(noise * power.sqrt(), s=(SIDE, SIDE))
        z = floor**0.5 * common + (1 - floor) ** 0.5 * wave
        own.append(torch.cat([z, -z]))
    scale = own[0].square().mean().sqrt()
    return own[0] / scale, own[1] / scale


def _autocovariance(x: Tensor, beyond: float) -> Tensor:
    """Mean products at each offset of samples that do not wrap around; offsets from −n/2 to n/2."""
    n = x.shape[-1]
    size = 2 * n
    spectrum = torch.fft.rfft2(x, s=(size, size)).abs().square().mean(0)
    ones = torch.fft.rfft2(torch.ones(n, n, dtype=x.dtype, device="cpu"), s=(size, size)).abs().square()
    sums, counts = (torch.fft.irfft2(one, s=(size, size)) for one in (spectrum, ones))
    del beyond
    return sums / counts.round().clamp_min(1)


def strided_torus(pairs: Tensor, beyond: float) -> Tensor:
    """Offsets of a small field on the torus of all fields; beyond them the limit."""
    out = torch.full((SIDE, SIDE), beyond, dtype=torch.float64, device="cpu")
    reach = min(pairs.shape[0] // 4, SIDE // 2 - 1)
    offsets = torch.arange(-reach, reach + 1, device="cpu")
    size = pairs.shape[0]
    out[(offsets % SIDE)[:, None], (offsets % SIDE)[None, :]] = pairs[(offsets % size)[:, None], (offsets % size)[None, :]]
    return out


RULES: dict[str, Rule] = {"avg_pool": average, "max_pool": maximum}
