"""The edge of chaos: scales at which a deep network neither forgets its input nor scatters it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

from initframe.fills import Fill, Normal
from initframe.initializers.demands import refuse
from initframe.initializers.table import initializer
from initframe.model.slot import Slot

Function = Callable[[float], float]

# A nonlinearity φ and its derivative.
_FUNCTIONS: dict[str, tuple[Function, Function]] = {
    "tanh": (math.tanh, lambda z: 1 - math.tanh(z) ** 2),
    "erf": (math.erf, lambda z: 2 / math.sqrt(math.pi) * math.exp(-z * z)),
}


@initializer("edge_of_chaos")
def edge_of_chaos(
    slot: Slot, *, nonlinearity: Literal["tanh", "erf", "relu"] = "tanh", bias_var: float = 0.0025
) -> Fill:
    """Weights N(0, σ_w²/fan_in), biases N(0, σ_b²) with σ_w²·E[φ'(√q·z)²] = 1 at the fixed point q (Schoenholz 2017).

    Use it for deep networks without norms (Poole et al. 2016): gradients neither vanish nor explode, and the depth to
    which inputs stay apart grows as σ_b² falls. ReLU has one such point, (2, 0), for every ``bias_var``.

    Args:
        slot: a weight, or the bias of its layer.
        nonlinearity: φ.
        bias_var: σ_b², > 0, from which σ_w² follows.

    Returns:
        A normal fill.

    Raises:
        ResolveError: a weight without fans, or a bias_var that is not positive or too large for φ.

    >>> weight = edge_of_chaos(Slot("w", (4, 100), fan_in=100, fan_out=4), bias_var=0.05)
    >>> round(100 * weight.std**2, 4)
    1.761
    """
    weight_var, bias_var = (2.0, 0.0) if nonlinearity == "relu" else (critical(nonlinearity, bias_var), bias_var)
    if slot.ndim < 2:
        return Normal(0.0, math.sqrt(bias_var))
    if not slot.fan_in:
        raise refuse("edge_of_chaos needs a weight's fan_in.", "Restrict the rule to weights and biases.")
    return Normal(0.0, math.sqrt(weight_var / slot.fan_in))


@lru_cache(maxsize=256)
def critical(nonlinearity: str, bias_var: float) -> float:
    """Return the σ_w² at which a nonlinearity is at the edge of chaos.

    At the fixed point q = σ_w²·E[φ(√q·z)²] + σ_b² the slope σ_w²·E[φ'(√q·z)²] is 1. Together they give σ_b² as a rising
    function of q, which is solved for q by bisection.

    Args:
        nonlinearity: ``tanh`` or ``erf``.
        bias_var: σ_b².

    Returns:
        σ_w².

    Raises:
        ResolveError: σ_b² is not positive, or larger than for any q up to 100.

    >>> round(critical("tanh", 0.0025), 5)
    1.26009
    """
    function, slope = _FUNCTIONS[nonlinearity]

    def bias_at(q: float) -> float:
        return q - _second_moment(function, q) / _second_moment(slope, q)

    low, high = 1e-9, 100.0
    if not 0 < bias_var < bias_at(high):
        raise refuse(f"bias_var must be between 0 and {bias_at(high):.2g}, got {bias_var:g}.")
    for _ in range(80):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if bias_at(middle) < bias_var else (low, middle)
    return 1 / _second_moment(slope, low)


def _second_moment(function: Function, q: float) -> float:
    """Integrate E[f(√q·z)²] for z ~ N(0, 1), by the trapezoid rule; f is smooth."""
    step, root = 0.02, math.sqrt(q)
    points = (i * step for i in range(-500, 501))
    # Python's own sum rounds otherwise since 3.12, and whoever draws should get the same bits from all of them.
    total = math.fsum(math.exp(-z * z / 2) * function(root * z) ** 2 for z in points)
    return total * step / math.sqrt(2 * math.pi)
