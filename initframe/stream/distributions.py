"""The laws that the stream can draw: their arguments, the float32 constants of their kernels, their limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from initframe.errors import closest
from initframe.stream.floats import F32_MAX, below, f32, hex_bits

LAWS: dict[str, tuple[str, ...]] = {
    "uniform": ("low", "high"),
    "normal": ("mean", "std"),
    "truncated_normal": ("loc", "scale", "low", "high"),
    "bits": (),
}
"""The names of the laws, each with the names of its arguments."""
FARTHEST = 7
"""How many scales a truncation may lie from loc: the quantile is right to 1e-6 up to 6.3, to 2e-4 up to 7."""


def kernel_constants(law: str, args: tuple[float, ...]) -> dict[str, float]:
    """Compute the constants that a formula takes by keyword: in float64, then rounded to float32.

    Raises:
        ValueError: the law cannot be drawn (`check` says why).
    """
    problem = check(law, tuple(args))
    if problem:
        raise ValueError(problem)
    return {name: f32(value) for name, value in _CONSTANTS[law](*args).items()}


def constants(law: str, args: tuple[float, ...]) -> dict[str, str]:
    """Give the float32 constants that the kernels of a law use, for the record.

    They hold everything that took a library's mathematics to compute, so that the same bits can be drawn
    again from them on a machine whose ``erfc`` differs.

    Args:
        law: one of `LAWS`.
        args: the law's arguments, in their order.

    Returns:
        The bits of each constant as 8 hexadecimal digits, by name.

    Raises:
        ValueError: the law cannot be drawn (`check` says why).

    >>> constants("normal", (0.0, 0.02))
    {'mean': '00000000', 'std': '3ca3d70a'}
    """
    return {name: hex_bits(value) for name, value in kernel_constants(law, tuple(args)).items()}


@lru_cache(maxsize=4096)
def check(law: str, args: tuple[float, ...]) -> str | None:
    """Say why a law cannot be drawn with these arguments.

    Args:
        law: a name that should be in `LAWS`.
        args: its arguments, in their order.

    Returns:
        A sentence with the fact, or None where all is well.

    >>> check("normal", (0.0, -1.0))
    'normal(mean=0, std=-1): std is negative.'
    >>> check("normal", (0.0, 0.0)) is None
    True
    """
    if law not in LAWS:
        return f"there is no law {law!r}. {closest(law, LAWS)}"
    names = LAWS[law]
    if len(args) != len(names):
        return f"{law} takes {len(names)} arguments ({', '.join(names)}), not {len(args)}."
    infinite = [name for name, value in zip(names, args, strict=True) if not math.isfinite(f32(value))]
    fact = f"{' and '.join(infinite)} not finite in float32" if infinite else _LIMITS[law](*args)
    if not fact:
        return None
    given = ", ".join(f"{name}={value:g}" for name, value in zip(names, args, strict=True))
    return f"{law}({given}): {fact}."


def _bits_constants() -> dict[str, float]:
    return {}


def _uniform_constants(low: float, high: float) -> dict[str, float]:
    if f32(low) == f32(high):
        # -0.0 · word + low is low for every word, low = -0.0 included.
        return {"step": -0.0, "offset": low, "low": low, "top": low}
    span = high - low
    return {"step": span * 2.0**-24, "offset": low + span * 2.0**-25, "low": low, "top": below(f32(high))}


def _normal_constants(mean: float, std: float) -> dict[str, float]:
    return {"mean": mean, "std": std}


def _truncated_constants(loc: float, scale: float, low: float, high: float) -> dict[str, float]:
    """Tail masses, doubled as erfc has them; the middle from the two tails on one side where both are small."""
    a, b = (low - loc) / scale / math.sqrt(2), (high - loc) / scale / math.sqrt(2)
    left, right = math.erfc(-a), math.erfc(b)
    if b < 0:
        span = math.erfc(-b) - left
    elif a > 0:
        span = math.erfc(a) - right
    else:
        span = 2 - left - right
    masses = {"left": left + span * 2.0**-32, "right": right + span * 2.0**-32, "step": span * 2.0**-31}
    return {"loc": loc, "scale": scale, "low": low, "high": high} | masses


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
    if max(low - loc, loc - high) > FARTHEST * scale:
        return f"[low, high] lies more than {FARTHEST} scales from loc, where there is too little mass to draw from"
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
