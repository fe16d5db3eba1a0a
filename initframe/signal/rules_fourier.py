"""Rules of Fourier transforms: sums over a dimension whose squares add up to what Parseval says.

Of a real signal, E Re² is N·(q + r)/2 and E Im² is N·(q − r)/2, where r is the mean product of x(t) and x(−t): of two
places, or of two channels. All frequencies are given the mean over them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from initframe.signal.grid import Grid, gaussian
from initframe.signal.layout import Layout
from initframe.signal.moments import Moments, average, moments_of
from initframe.signal.positions import averaged
from initframe.signal.rules_complex import complex_of, halves
from initframe.signal.states import Operation, Rule, State

ALIKE = "frequencies are taken as alike"


class Signal(NamedTuple):
    """Moments of the real and of the imaginary parts of a complex tensor."""

    real: Moments
    imaginary: Moments


ZERO = moments_of(0.0, 0.0)


def transformed(op: Operation) -> State:
    """A transform of real or of complex numbers, along several dimensions, to complex numbers."""
    grid = op.grid("self")
    if grid is None:
        return None
    dims = [int(d) % len(grid.layout.dims) for d in op["dim"]]
    signal = Signal(averaged(grid), ZERO) if not op["self"].is_complex() else Signal(*map(averaged, halves(grid)))
    if not _are_known(grid, dims):
        return None
    for d in reversed(dims):
        onesided = bool(op.given.get("onesided")) and d == dims[-1]
        signal = _along(signal, grid.layout, d, onesided=onesided)
    count = math.prod(grid.layout.shape[d] for d in dims)
    real, imaginary = (_made(m, grid, dims, op, count) for m in signal)
    return complex_of(real, imaginary)


def restored(op: Operation) -> State:
    """The real numbers whose transform is given by the half of it that is not conjugate."""
    grid = op.grid("self")
    if grid is None:
        return None
    *others, last = (int(d) % len(grid.layout.dims) for d in op["dim"])
    if not _are_known(grid, [*others, last]):
        return None
    signal = Signal(*map(averaged, halves(grid)))
    for d in others:
        signal = _along(signal, grid.layout, d)
    n, half = int(op["last_dim_size"]), grid.layout.shape[last]
    single = 1 if n % 2 else 2  # frequencies that are their own conjugates: 0, and n/2
    a, b = signal
    sums = [
        2 * max(half - single, 0) * (average(x) + average(y)) + single * average(x)
        for x, y in zip(a[1:5], b[1:5], strict=True)
    ]
    square, same, near, far = sums
    if "position" in grid.layout.roles(last):
        near, far = ((n * average(x) - total) / max(n - 1, 1) for x, total in zip(a[1:3], (square, same), strict=True))
    count = n * math.prod(grid.layout.shape[d] for d in others)
    return _made(moments_of(half * average(a.mean), square, same, near, far), grid, [*others, last], op, count)


def _are_known(grid: Grid, dims: Sequence[int]) -> bool:
    """Whether each dimension is one of positions, or one of channels, all alike."""
    roles = [grid.layout.roles(d) for d in dims]
    return grid.classes == 1 and all(len(one) <= 1 and "batch" not in one for one in roles)


def _along(signal: Signal, layout: Layout, dim: int, *, onesided: bool = False) -> Signal:
    """The transform along one dimension, unnormalized."""
    n, of_positions = layout.shape[dim], "position" in layout.roles(dim)
    if n == 1:
        return signal
    (a, r), (b, s) = ((m, _mirrored(m, n, of_positions=of_positions)) for m in signal)
    every = list(zip(*(map(average, m[1:5]) for m in (a, r, b, s)), strict=True))
    real = [n / 2 * (x + rx + y - ry) for x, rx, y, ry in every]
    imaginary = [n / 2 * (x - rx + y + ry) for x, rx, y, ry in every]
    if onesided:  # 0 and n/2 are as many there as the pairs of others
        half, other = n // 2 + 1, _others(a, of_positions=of_positions)
        for i, (x, apart) in enumerate(zip(map(average, a[1:5]), other, strict=True)):
            ends = n * x + n * (n - 1) * apart + (0 if n % 2 else n * (x - apart))
            real[i] = (n * real[i] + ends) / 2 / half
            imaginary[i] = n * imaginary[i] / 2 / half
    found = []
    for m, means in ((a, real), (b, imaginary)):
        square, same, near, far = means
        if of_positions:
            near, far = (
                (n * average(x) - each) / (n - 1) for x, each in ((m.square, n * square / n), (m.same, n * same / n))
            )
        found.append(moments_of(average(m.mean), square, same, near, far))
    return Signal(*found)


def _others(m: Moments, *, of_positions: bool) -> list[float]:
    """Mean products with another element along the dimension."""
    level = average(m.mean) ** 2
    return [average(m.near), average(m.far)] * 2 if of_positions else [level] * 4


def _mirrored(m: Moments, n: int, *, of_positions: bool) -> Moments:
    """Mean products of x(t) and x(−t): one or two elements are their own mirrors."""
    share = (1 if n % 2 else 2) / n
    pairs = zip(map(average, m[1:5]), _others(m, of_positions=of_positions), strict=True)
    return moments_of(0.0, *(share * x + (1 - share) * apart for x, apart in pairs))


def _made(m: Moments, grid: Grid, dims: Sequence[int], op: Operation, count: int) -> Grid:
    """The normal of a transform, normalized."""
    factor = (1.0, count**-0.5, 1 / count)[int(op["normalization"])]
    before = averaged(grid)
    q, near, level = average(before.square), average(before.near), average(before.mean) ** 2
    shared = near if any("position" in grid.layout.roles(d) for d in dims) else level
    why = grid.why or (ALIKE if abs(shared) > 0.02 * q else "")
    facts = {**grid.kept, "spread": grid.spread_over_seeds, "channels": 0, "why": why}
    return gaussian(m.scaled(factor, 0.0), grid.layout.fitted(op.shape), **facts)


RULES: dict[str, Rule] = {"_fft_r2c": transformed, "_fft_c2c": transformed, "_fft_c2r": restored}
