"""What a rule asked of its initializer, in the numbers that people compare: gain and std."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from initframe.errors import InitframeError
from initframe.fills import Fill, Masked
from initframe.initializers.table import Initializer, get, parameters
from initframe.initializers.variance import nonlinearity_gain


def asked_gain(init: str, arguments: Mapping[str, Any]) -> Any:
    """The gain that an initializer was called with.

    Args:
        init: the initializer's name.
        arguments: as it was called with them; the others have their defaults.

    Returns:
        Its ``gain``, or that of its ``nonlinearity``; a tuple where blocks have their own; ``None`` where it knows
        neither.

    >>> asked_gain("xavier_uniform", {}), asked_gain("orthogonal", {"gain": 2.0}), asked_gain("zeros", {})
    (1.0, 2.0, None)
    >>> asked_gain("kaiming_normal", {"nonlinearity": "relu"})
    1.4142135623730951
    """
    known = _called(init, arguments)
    if "gain" in known or not isinstance(known.get("nonlinearity"), str):
        return known.get("gain")
    slope = known.get("a", 0.0)
    slopes = slope if isinstance(slope, tuple) else (slope,)
    gains = tuple(nonlinearity_gain(known["nonlinearity"], a) for a in slopes)
    return gains if isinstance(slope, tuple) else gains[0]


def asked_std(init: str, arguments: Mapping[str, Any], fill: Fill) -> float | None:
    """The std that a rule asked for: the argument of that name, or what fans and gain make of it.

    Args:
        init: the initializer's name.
        arguments: as it was called with them.
        fill: what it made.

    Returns:
        One number; ``None`` where the fill's std is not known, or blocks have their own.

    >>> from initframe.fills import TruncatedNormal
    >>> asked_std("trunc_normal", {"std": 0.02}, TruncatedNormal(0.0, 0.02, -0.02, 0.02))
    0.02
    """
    while isinstance(fill, Masked):
        fill = fill.fill
    asked = _called(init, arguments).get("std", fill.std)
    known = isinstance(asked, int | float) and math.isfinite(asked) and math.isfinite(fill.std)
    return float(asked) if known else None


def _called(init: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """An initializer's arguments, defaults included; those that are given where it is no longer there."""
    try:
        return {**_defaults(get(init)), **arguments}
    except InitframeError:
        return dict(arguments)


@cache
def _defaults(function: Initializer) -> Mapping[str, Any]:
    return {name: parameter.default for name, parameter in parameters(function).items()}
