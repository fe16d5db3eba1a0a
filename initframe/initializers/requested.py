"""What a rule requested of its initializer, in the numbers that people compare: gain and std."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from initframe.errors import InitframeError
from initframe.fills import Fill, Masked
from initframe.initializers.table import Initializer, find, parameters
from initframe.initializers.variance import nonlinearity_gain


def requested_gain(init: str, arguments: Mapping[str, Any]) -> Any:
    """Return the gain that an initializer was called with.

    Args:
        init: the initializer's name.
        arguments: those that it was called with; the others have their defaults.

    Returns:
        Its ``gain``, or that of its ``nonlinearity``; a tuple if blocks have their own; ``None`` if it knows neither.

    >>> requested_gain("xavier_uniform", {}), requested_gain("orthogonal", {"gain": 2.0}), requested_gain("zeros", {})
    (1.0, 2.0, None)
    >>> requested_gain("kaiming_normal", {"nonlinearity": "relu"})
    1.4142135623730951
    """
    known = _called(init, arguments)
    if "gain" in known or not isinstance(known.get("nonlinearity"), str):
        return known.get("gain")
    slope = known.get("a", 0.0)
    slopes = slope if isinstance(slope, tuple) else (slope,)
    gains = tuple(nonlinearity_gain(known["nonlinearity"], a) for a in slopes)
    return gains if isinstance(slope, tuple) else gains[0]


def requested_std(init: str, arguments: Mapping[str, Any], fill: Fill, factor: float = 1.0) -> float | None:
    """Return the std that a rule requested: the argument ``std``, or what fans and gain make of it.

    Args:
        init: the initializer's name.
        arguments: those that it was called with.
        fill: what it returned, times the factor.
        factor: what the rule multiplies all values with.

    Returns:
        One number; ``None`` if the fill's std is not known, or blocks have their own.

    >>> from initframe.fills import TruncatedNormal
    >>> requested_std("trunc_normal", {"std": 0.02}, TruncatedNormal(0.0, 0.02, -0.02, 0.02))
    0.02
    """
    while isinstance(fill, Masked):
        fill = fill.fill
    std = _called(init, arguments).get("std", fill.std / factor)
    known = isinstance(std, int | float) and math.isfinite(std) and math.isfinite(fill.std)
    return float(std) * factor if known else None


def _called(init: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return an initializer's arguments with its defaults, if it is still registered."""
    try:
        function = find(init)
    except InitframeError:  # its package is broken by now
        function = None
    return {**(_defaults(function) if function else {}), **arguments}


@cache
def _defaults(function: Initializer) -> Mapping[str, Any]:
    return {name: parameter.default for name, parameter in parameters(function).items()}
