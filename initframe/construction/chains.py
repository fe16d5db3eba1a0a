"""The fill of a chain: often a plain distribution, as of a uniform times two, or of a normal made by its inverse."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from initframe.construction.numbers import tidy
from initframe.construction.values import Drawn
from initframe.fills import Fill, Normal, TruncatedNormal, Uniform
from initframe.fills.chain import Chain, Operand, Step

_SOURCES = {"uniform": Uniform, "normal": Normal, "truncated_normal": TruncatedNormal}
_ROOT = math.sqrt(2.0)
BEYOND = 5.0
"""Standard deviations past which a clamp is a cut: one number in two million is there."""


def fill_of(value: Drawn) -> Fill:
    """Give the distribution of a chain: a plain one if it is one, else the chain itself.

    Args:
        value: of one draw.

    >>> from initframe.construction.values import chained, draw
    >>> str(fill_of(chained("mul", [draw("uniform", 0, 1), 3.0])))
    'uniform(0, 3)'
    """
    source: Fill = _SOURCES[value.distribution](*value.args)
    steps = _needed(value.steps, value.result)
    current: Fill | None = source
    for i, step in enumerate(steps):
        current = None if current is None or not _follows(step, i) else _after(current, step)
    return Chain(source, tuple(steps)) if current is None else _tidied(current)


def _needed(steps: Sequence[Step], result: str) -> list[Step]:
    """The steps that a result comes from, numbered anew."""
    if result == "x":
        return []
    wanted, waiting = set(), [result]
    while waiting:
        name = waiting.pop()
        if name != "x" and name not in wanted:
            wanted.add(name)
            waiting += [o for o in steps[int(name[1:])][1:] if isinstance(o, str)]
    order = sorted(wanted, key=lambda name: int(name[1:]))
    names = {"x": "x"} | {name: f"#{i}" for i, name in enumerate(order)}
    kept: list[Step] = []
    for name in order:
        operation, *operands = steps[int(name[1:])]
        kept.append((operation, *(names[o] if isinstance(o, str) else o for o in operands)))
    return kept


def _follows(step: Step, i: int) -> bool:
    """Whether a step takes the one before it, once, and numbers."""
    return [o for o in step[1:] if isinstance(o, str)] == [f"#{i - 1}" if i else "x"]


def _after(current: Fill, step: Step) -> Fill | None:
    """The distribution after one step; ``None`` if it is no plain one any more."""
    operation, *operands = step
    if operation == "erfinv":
        return _inverted(current) if isinstance(current, Uniform) else None
    if operation in ("max", "min"):
        limit = next(o for o in operands if not isinstance(o, str))
        return _clamped(current, operation, float(limit))
    line = _line(operation, operands)
    return None if line is None else _moved(current, *line)


def _line(operation: str, operands: Sequence[Operand]) -> tuple[float, float] | None:
    """An operation as factor and summand."""
    first_is_number = not isinstance(operands[0], str)
    number = next((float(o) for o in operands if not isinstance(o, str)), 0.0)
    match operation:
        case "mul":
            return number, 0.0
        case "div" if not first_is_number and number:
            return 1 / number, 0.0
        case "add":
            return 1.0, number
        case "sub":
            return (-1.0, number) if first_is_number else (1.0, -number)
        case "neg":
            return -1.0, 0.0
    return None


def _moved(current: Fill, factor: float, summand: float) -> Fill | None:
    if factor == 0:
        return None

    def ends(low: float, high: float) -> tuple[float, float]:
        one, other = factor * low + summand, factor * high + summand
        return min(one, other), max(one, other)

    match current:
        case Uniform(low, high):
            return Uniform(*ends(low, high))
        case Normal(mean, std):
            return Normal(factor * mean + summand, abs(factor) * std)
        case TruncatedNormal(loc, scale, low, high):
            return TruncatedNormal(factor * loc + summand, abs(factor) * scale, *ends(low, high))
    return None


def _inverted(current: Uniform) -> Fill | None:
    """Erfinv of a uniform: a normal of std 1/√2, cut where the uniform ends."""
    if not -1 <= current.low < current.high <= 1:
        return None
    shares = torch.tensor([(current.low + 1) / 2, (current.high + 1) / 2], dtype=torch.float64, device="cpu")
    low, high = (torch.special.ndtri(shares) / _ROOT).tolist()
    return TruncatedNormal(0.0, 1 / _ROOT, low, high)


def _clamped(current: Fill, operation: str, limit: float) -> Fill | None:
    """A clamp that only holds a truncated normal to its own bounds, or a normal to what it never reaches."""
    if isinstance(current, Normal):
        current = TruncatedNormal(current.mean, current.std, -math.inf, math.inf)
    if not isinstance(current, TruncatedNormal):
        return None
    bound = current.low if operation == "max" else current.high
    apart = (limit - bound) if operation == "max" else (bound - limit)
    beyond = (current.loc - limit) if operation == "max" else (limit - current.loc)
    if not (abs(apart) <= 1e-4 * current.scale or apart < 0 or beyond > BEYOND * current.scale):
        return None
    if apart < -1e-4 * current.scale and math.isfinite(bound):
        return current
    if operation == "max":
        return TruncatedNormal(current.loc, current.scale, limit, current.high)
    return TruncatedNormal(current.loc, current.scale, current.low, limit)


def _tidied(fill: Fill) -> Fill:
    """Numbers without the rounding of the steps; a normal that is cut nowhere."""
    match fill:
        case Uniform(low, high):
            return Uniform(tidy(low), tidy(high))
        case TruncatedNormal(loc, scale, low, high) if math.isinf(low) and math.isinf(high):
            return Normal(tidy(loc), tidy(scale))
        case TruncatedNormal(loc, scale, low, high):
            bounds = (tidy(b) if math.isfinite(b) else math.copysign(16 * scale, b) + loc for b in (low, high))
            return TruncatedNormal(tidy(loc), tidy(scale), *bounds)
        case Normal(mean, std):
            return Normal(tidy(mean), tidy(std))
    return fill
