"""State space models: transition matrices and step sizes."""

from __future__ import annotations

import math
from typing import Literal

from initframe.fills import Constant, Fill
from initframe.fills.derived import LogUniform, StepBias
from initframe.fills.table import Rows
from initframe.initializers.demands import refuse
from initframe.initializers.table import initializer
from initframe.model.slot import Slot


@initializer("mamba_a_log")
def mamba_a_log(slot: Slot) -> Fill:
    """Log n for states n = 1, 2, … of the last dimension (Gu & Dao 2023; state-spaces/mamba, mamba_simple.py).

    Use it for Mamba 1's ``A_log``: A = −exp(A_log) is S4D-Real, −1, −2, …

    Args:
        slot: a tensor whose last dimension counts states.

    Returns:
        A fixed whole fill, the same for every channel.

    Raises:
        ResolveError: the tensor has no dimensions.

    >>> str(mamba_a_log(Slot("A_log", (4, 16))))
    'rows(0 … 2.773)'
    """
    return Rows(slot.shape, tuple(math.log(n + 1) for n in range(_states(slot))))


@initializer("mamba2_a_log")
def mamba2_a_log(slot: Slot, *, low: float = 1.0, high: float = 16.0) -> Fill:
    """Log of a uniform number in (low, high), one per head (Dao & Gu 2024; state-spaces/mamba, modules/mamba2.py).

    Use it for Mamba 2's ``A_log``: A = −exp(A_log) is one number per head, −U(1, 16).

    Args:
        slot: any tensor.
        low: the slowest decay, > 0.
        high: the fastest.

    Returns:
        An elementwise fill.

    Raises:
        ResolveError: not 0 < low < high.

    >>> print(mamba2_a_log(Slot("A_log", (8,))))
    log_uniform(1, 16)
    """
    if not 0 < low < high:
        raise refuse(f"decays need 0 < low < high, got {low:g} and {high:g}.")
    return LogUniform(low, high)


@initializer("mamba_dt_bias")
def mamba_dt_bias(slot: Slot, *, low: float = 0.001, high: float = 0.1, floor: float = 1e-4) -> Fill:
    """The bias dt + log(1 − e^−dt), dt log-uniform in [low, high] (Gu & Dao 2023; state-spaces/mamba, mamba_simple.py).

    Use it for Mamba's ``dt_proj.bias`` (Mamba 2's ``dt_bias``): softplus gives the steps back.

    Args:
        slot: any tensor.
        low: the shortest step, > 0.
        high: the longest step.
        floor: no step is shorter than this.

    Returns:
        An elementwise fill; its moments are integrated numerically.

    Raises:
        ResolveError: not 0 < low < high, or a floor that is not positive.

    >>> print(mamba_dt_bias(Slot("b", (8,)), low=0.01))
    step_bias(0.01, 0.1, 0.0001)
    """
    if not 0 < low < high or floor <= 0:
        raise refuse(f"steps need 0 < low < high and a positive floor, got {low:g}, {high:g} and {floor:g}.")
    return StepBias(low, high, floor)


@initializer("s4d")
def s4d(
    slot: Slot, *, part: Literal["log_real", "imag"], form: Literal["lin", "inv", "real"] = "lin", states: int = 0
) -> Fill:
    """A diagonal A: −½ + iπn (lin), −½ + i(N/π)(N/(2n+1) − 1) (inv), −(n+1) (real), n = 0, 1, … (Gu et al. 2022).

    Use it for S4D's ``log_A_real`` and ``A_imag`` (state-spaces/s4, models/s4/s4d.py), along the last dimension.

    Args:
        slot: a tensor whose last dimension counts complex states.
        part: ``log_real`` for log(−Re A), ``imag`` for Im A.
        form: which of the three.
        states: N; 0 is twice the last dimension, as states come in conjugate pairs.

    Returns:
        A fixed whole fill, or a constant.

    Raises:
        ResolveError: the tensor has no dimensions, or states is negative.

    >>> [round(v, 4) for v in s4d(Slot("A_imag", (4, 3)), part="imag").row]
    [0.0, 3.1416, 6.2832]
    """
    if states < 0:
        raise refuse(f"states must be positive, or 0 for twice the last dimension; got {states}.")
    count = _states(slot)
    n_states = states or 2 * count
    if form == "real":
        return mamba_a_log(slot) if part == "log_real" else Constant(0.0)
    if part == "log_real":
        return Constant(math.log(0.5))
    if form == "lin":
        return Rows(slot.shape, tuple(math.pi * n for n in range(count)))
    return Rows(slot.shape, tuple(n_states / math.pi * (n_states / (2 * n + 1) - 1) for n in range(count)))


def _states(slot: Slot) -> int:
    if slot.ndim < 1:
        raise refuse("states are counted along the last dimension; this tensor has no dimension.")
    return slot.shape[-1]
