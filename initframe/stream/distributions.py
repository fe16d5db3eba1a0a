"""The distributions that the stream can draw: their arguments, their limits, the float32 constants of their kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from initframe.errors import Problem, StreamError, closest
from initframe.stream.floats import F32_MAX, below, f32, f32s, hex_bits

DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "uniform": ("low", "high"),
    "normal": ("mean", "std"),
    "truncated_normal": ("loc", "scale", "low", "high"),
    "bits": (),
}
"""The names of the distributions, each with the names of its arguments."""
FARTHEST_CUT = 7
"""Largest distance of a truncation from loc, in scales. The quantile is right to 1e-6 up to 6.3, to 2e-4 up to 7."""


def kernel_constants(distribution: str, args: tuple[float, ...]) -> dict[str, float]:
    """Compute the constants that a formula takes by keyword, in its order: in float64, then rounded to float32.

    Raises:
        StreamError: the distribution cannot be drawn (`check` says why).
    """
    if problem := check(distribution, tuple(args)):
        raise StreamError(problem)
    return _CONSTANTS[distribution](*args)


def constants(distribution: str, args: tuple[float, ...]) -> dict[str, str]:
    """Return the float32 constants that the kernels of a distribution use, for the record.

    They hold everything that a library's mathematics computed. So the same bits can be drawn again on a machine
    whose ``erfc`` differs.

    Args:
        distribution: one of `DISTRIBUTIONS`.
        args: the distribution's arguments, in their order.

    Returns:
        The bits of each constant as 8 hexadecimal digits, by name.

    Raises:
        StreamError: the distribution cannot be drawn (`check` says why).

    >>> constants("normal", (0.0, 0.02))
    {'mean': '00000000', 'std': '3ca3d70a'}
    """
    return {name: hex_bits(value) for name, value in kernel_constants(distribution, tuple(args)).items()}


@lru_cache(maxsize=4096)
def check(distribution: str, args: tuple[float, ...]) -> Problem | None:
    """Return what prevents a distribution from being drawn with these arguments.

    Args:
        distribution: a name that should be in `DISTRIBUTIONS`.
        args: its arguments, in their order.

    Returns:
        The problem, or None if there is none.

    >>> print(check("normal", (0.0, -1.0)))
    normal(mean=0, std=-1): std is negative.
    >>> check("normal", (0.0, 0.0)) is None
    True
    """
    if distribution not in DISTRIBUTIONS:
        fact = f"there is no distribution {distribution!r}."
        return Problem("", fact, closest(distribution, DISTRIBUTIONS))
    names = DISTRIBUTIONS[distribution]
    if len(args) != len(names):
        return Problem(distribution, f"it takes {len(names)} arguments ({', '.join(names)}), not {len(args)}.")
    infinite = [name for name, value in zip(names, args, strict=True) if not math.isfinite(f32(value))]
    reason = _LIMITS[distribution](*args) if not infinite else f"{' and '.join(infinite)} not finite in float32"
    if reason is None:
        return None
    given = ", ".join(f"{name}={value:g}" for name, value in zip(names, args, strict=True))
    return Problem(f"{distribution}({given})", f"{reason}.")


def _bits_constants() -> dict[str, float]:
    return {}


def _uniform_constants(low: float, high: float) -> dict[str, float]:
    span = high - low
    step, offset, bottom, top = f32s(span * 2.0**-24, low + span * 2.0**-25, low, high)
    if bottom == top:
        # -0.0 · word + low is low for every word, low = -0.0 included.
        return {"step": -0.0, "offset": bottom, "low": bottom, "top": bottom}
    return {"step": step, "offset": offset, "low": bottom, "top": below(top)}


def _normal_constants(mean: float, std: float) -> dict[str, float]:
    return _rounded(mean=mean, std=std)


def _truncated_constants(loc: float, scale: float, low: float, high: float) -> dict[str, float]:
    """The masses of both tails and of a cell, doubled as erfc has them.

    If low and high are on the same side of loc, the middle is the difference of two small tails, which cancels nothing.
    """
    a, b = (low - loc) / scale / math.sqrt(2), (high - loc) / scale / math.sqrt(2)
    left, right = math.erfc(-a), math.erfc(b)
    if b < 0:
        span = math.erfc(-b) - left
    elif a > 0:
        span = math.erfc(a) - right
    else:
        span = 2 - left - right
    masses = {"left": left + span * 2.0**-32, "right": right + span * 2.0**-32, "step": span * 2.0**-31}
    return _rounded(loc=loc, scale=scale, low=low, high=high, **masses)


def _rounded(**constants: float) -> dict[str, float]:
    """Round constants to float32."""
    return dict(zip(constants, f32s(*constants.values()), strict=True))


def _uniform_limit(low: float, high: float) -> str | None:
    if low > high:
        return "low is above high"
    return "high - low is beyond float32" if high - low > F32_MAX else None


def _normal_limit(mean: float, std: float) -> str | None:
    if std < 0:
        return "std is negative"
    # The largest radius is √(2·32·ln 2) = 6.66 std.
    return "values would be beyond float32" if abs(mean) + 6.67 * std > F32_MAX else None


def _truncated_limit(loc: float, scale: float, low: float, high: float) -> str | None:
    if f32(scale) <= 0:
        return "scale is not positive in float32"
    if low > high:
        return "low is above high"
    if max(low - loc, loc - high) > FARTHEST_CUT * scale:
        return f"[low, high] is more than {FARTHEST_CUT} scales from loc, where too little mass is left to draw from"
    return None


_CONSTANTS: dict[str, Callable[..., dict[str, float]]] = {
    "uniform": _uniform_constants,
    "normal": _normal_constants,
    "truncated_normal": _truncated_constants,
    "bits": _bits_constants,
}
_LIMITS: dict[str, Callable[..., str | None]] = {
    "uniform": _uniform_limit,
    "normal": _normal_limit,
    "truncated_normal": _truncated_limit,
    "bits": lambda: None,
}
