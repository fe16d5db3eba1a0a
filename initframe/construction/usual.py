"""The stds that initializations are known to give, which estimates are read as."""

from __future__ import annotations

import math
from collections.abc import Iterator

from initframe.fills import Fill, Normal, TruncatedNormal, Uniform
from initframe.model.slot import Slot


def snapped(fill: Fill, n: int, slot: Slot) -> tuple[Fill, bool]:
    """Give a fill the std that a known initialization has for such a tensor, if its own is that within its error.

    Args:
        fill: with estimated numbers.
        n: elements that they were estimated from.
        slot: the tensor's facts.

    Returns:
        The fill, and whether its numbers are known ones.
    """
    error = 3.5 * fill.std / math.sqrt(2 * n) if not isinstance(fill, Uniform) else 8 * fill.std / n
    if fill.mean != 0 and not isinstance(fill, Uniform):
        return fill, False
    if isinstance(fill, Uniform) and fill.low != -fill.high:
        return (Uniform(0.0, 1.0), True) if abs(fill.high - 1) < 12 / n and abs(fill.low) < 12 / n else (fill, False)
    near = [std for std in _usual(slot) if abs(std - fill.std) <= error]
    if not near:
        return fill, False
    std = min(near, key=lambda one: abs(one - fill.std))
    match fill:
        case Uniform():
            return Uniform(-math.sqrt(3.0) * std, math.sqrt(3.0) * std), True
        case Normal():
            return Normal(0.0, std), True
        case TruncatedNormal(scale=scale, high=high):
            cut = round(high / scale)
            wide = std if std in _ABSOLUTE else std / TruncatedNormal(0.0, 1.0, -cut, cut).std
            return TruncatedNormal(0.0, wide, -cut * wide, cut * wide), True
    return fill, False


_ABSOLUTE = (1.0, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 1e-6)


def _usual(slot: Slot) -> Iterator[float]:
    """The stds that initializations are known to give to such a tensor."""
    yield from _ABSOLUTE
    yield from (std * TruncatedNormal(0.0, 1.0, -2, 2).std for std in _ABSOLUTE)
    pairs = [(slot.fan_in, slot.fan_out), (slot.effective_fan_in, slot.effective_fan_out)]
    for fan_in, fan_out in pairs:
        if fan_in and fan_out:
            yield from (math.sqrt(k / fan) for fan in (fan_in, fan_out) for k in (1 / 3, 1, 2))
            yield from (math.sqrt(k / (fan_in + fan_out)) for k in (1, 2, 4))
            if slot.fused > 1:
                yield math.sqrt(2 / (fan_in + fan_out / slot.fused))
    if slot.shape:
        yield from (1 / math.sqrt(slot.shape[-1]), 0.02 / math.sqrt(slot.shape[-1]))
    if hidden := slot.settings.get("hidden_size"):
        yield 1 / math.sqrt(3 * hidden)
