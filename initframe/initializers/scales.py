"""One scale per tensor: by fans, by depth, by what a nonlinearity needs."""

from __future__ import annotations

import math

from initframe.fills import Fill, Normal, Uniform
from initframe.initializers.demands import demand_fans, demand_not_negative, demand_positive
from initframe.initializers.table import initializer
from initframe.model.slot import Slot


@initializer("siren")
def siren(slot: Slot, *, omega: float = 30.0, first: bool = False) -> Fill:
    """U(±√(6/fan_in)/ω), and U(±1/fan_in) in the first layer (Sitzmann et al. 2020; vsitzmann/siren, modules.py).

    Use it for networks of sin(ω·x): every layer's input then has the same distribution.

    Args:
        slot: a weight.
        omega: the factor inside of the sine, > 0.
        first: whether the layer reads coordinates.

    Returns:
        A uniform fill.

    Raises:
        ResolveError: no fans, or ω ≤ 0.

    >>> siren(Slot("w", (4, 6), fan_in=6, fan_out=4), omega=10).high
    0.1
    """
    fan_in, _ = demand_fans(slot)
    demand_positive(omega=omega)
    bound = 1 / fan_in if first else math.sqrt(6 / fan_in) / omega
    return Uniform(-bound, bound)


@initializer("spectral")
def spectral(slot: Slot, *, gain: float = 1.0) -> Fill:
    """N(0, σ²), σ = gain·min(1, √(fan_out/fan_in))/√fan_in: spectral norm about √(fan_out/fan_in) (Yang et al. 2023).

    Use it for features that learn alike at every width (nanotron/scaling/parametrization.py).

    Args:
        slot: a weight.
        gain: multiplies the std, ≥ 0.

    Returns:
        A normal fill.

    Raises:
        ResolveError: no fans, or a negative gain.

    >>> spectral(Slot("w", (4, 16), fan_in=16, fan_out=4)).std
    0.125
    """
    fan_in, fan_out = demand_fans(slot)
    demand_not_negative(gain=gain)
    return Normal(0.0, gain * min(1.0, math.sqrt(fan_out / fan_in)) / math.sqrt(fan_in))


@initializer("small_init")
def small_init(slot: Slot, *, dim: float | None = None) -> Fill:
    """N(0, 2/(5·dim)) (Nguyen & Salazar 2019; gpt-neox, megatron/model/init_functions.py).

    Use it for the matrices that read a transformer's residual stream, of width ``dim``.

    Args:
        slot: a weight.
        dim: the width of the residual stream; by default the weight's fan_in.

    Returns:
        A normal fill of std √(2/(5·dim)).

    Raises:
        ResolveError: no fans, or dim ≤ 0.

    >>> round(small_init(Slot("w", (4, 10), fan_in=10, fan_out=4)).std, 12)
    0.2
    """
    return Normal(0.0, math.sqrt(2 / (5 * _width(slot, dim, 0))))


@initializer("wang_init")
def wang_init(slot: Slot, *, layers: float, dim: float | None = None) -> Fill:
    """N(0, σ²), σ = 2/(layers·√dim) (Wang & Komatsuzaki 2021, GPT-J; gpt-neox, megatron/model/init_functions.py).

    Use it for the matrices that write to a transformer's residual stream, with ``match: "*.{layer}.*"`` and
    ``layers: layers``.

    Args:
        slot: a weight.
        layers: the number of blocks, > 0.
        dim: the width of the residual stream; by default the weight's fan_out.

    Returns:
        A normal fill.

    Raises:
        ResolveError: no fans, or a number that is not positive.

    >>> wang_init(Slot("w", (16, 64), fan_in=64, fan_out=16), layers=5).std
    0.1
    """
    demand_positive(layers=layers)
    return Normal(0.0, 2 / (layers * math.sqrt(_width(slot, dim, 1))))


def _width(slot: Slot, dim: float | None, fan: int) -> float:
    """Return the width that was given, else one of the fans."""
    width = demand_fans(slot)[fan] if dim is None else dim
    demand_positive(dim=width)
    return width
