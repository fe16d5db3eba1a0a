"""Stability over depth: where an activation's recursions of size and correlation lead, and over how many layers.

A layer with weight variance σ_w² (times its inputs), bias variance σ_b² and activation f maps the mean square q of the
pre-activations to σ_w²·E f(√q z)² + σ_b², and the correlation of two inputs likewise. At the fixed point q*, the number
χ = σ_w²·E f'(√q* z)² says what becomes of small differences and of gradients: they shrink by χ in each layer if χ < 1,
and grow if χ > 1 (Poole et al. 2016; Schoenholz et al. 2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from initframe.signal.hermite import W, Z
from initframe.signal.row import Row

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "relu": torch.relu,
    "leaky_relu": functional.leaky_relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "elu": functional.elu,
    "selu": torch.selu,
    "softplus": functional.softplus,
    "mish": functional.mish,
    "hardswish": functional.hardswish,
    "hardtanh": functional.hardtanh,
}
"""Activations by the operation's name."""

LAYERS = 1000
"""For how many layers a recursion is followed."""
EDGE = 0.02
"""How near to 1 a factor per layer counts as 1."""


@dataclass(frozen=True)
class Stability:
    """What becomes of size and of differences over many layers.

    Attributes:
        activation: its name.
        weight_variance: σ_w², the weights' variance times the number of inputs.
        bias_variance: σ_b².
        growth: the factor by which the mean square changes per layer, in the end.
        fixed_point: q*, to which the mean square of pre-activations goes; 0 or infinite if it vanishes or explodes.
        chi: χ at q*: the factor by which small differences and gradients change per layer.
        depth: over how many layers they change e-fold, |1 / ln χ|; infinite at χ = 1.
        verdict: ``"stable"``, ``"vanishing"``, ``"exploding"``, ``"ordered"`` (inputs become alike) or ``"chaotic"``.
    """

    activation: str
    weight_variance: float
    bias_variance: float
    growth: float
    fixed_point: float
    chi: float
    depth: float
    verdict: str

    def __str__(self) -> str:
        over = "" if math.isinf(self.depth) else f" e-fold over {self.depth:.2g} layers"
        say = {
            "stable": "size and differences last",
            "vanishing": f"activations vanish by {self.growth:.3g} per layer",
            "exploding": f"activations explode by {self.growth:.3g} per layer",
            "ordered": f"inputs become alike and gradients vanish,{over}",
            "chaotic": f"inputs drift apart and gradients explode,{over}",
        }
        head = f"{self.activation} with σ_w² = {self.weight_variance:.3g}: χ = {self.chi:.3g}"
        return f"{head}, {self.verdict}: {say[self.verdict]}."


def stability(
    activation: str | Activation, weight_variance: float, bias_variance: float = 0.0, start: float = 1.0
) -> Stability:
    """Follow an activation's recursions to their fixed point.

    Args:
        activation: a name of :data:`ACTIVATIONS`, or an elementwise function.
        weight_variance: σ_w², ≥ 0.
        bias_variance: σ_b², ≥ 0.
        start: the mean square of the first pre-activations.

    >>> print(stability("relu", 2.0))
    relu with σ_w² = 2: χ = 1, stable: size and differences last.
    >>> stability("tanh", 0.5).verdict, stability("tanh", 4.0).verdict, stability("relu", 1.0).verdict
    ('vanishing', 'chaotic', 'vanishing')
    """
    f = ACTIVATIONS[activation] if isinstance(activation, str) else activation
    name = activation if isinstance(activation, str) else getattr(activation, "__name__", "activation")
    q, growth = start, 1.0
    for _ in range(LAYERS):
        following = weight_variance * _square(f, q) + bias_variance
        growth = following / q if q > 0 else 0.0
        if not 1e-12 < following < 1e12 or abs(growth - 1) < 1e-9:
            q = following
            break
        q = following
    chi = weight_variance * _slope(f, min(max(q, 1e-12), 1e12))
    verdict = _verdict(q, growth, chi)
    fixed = {"vanishing": 0.0, "exploding": math.inf}.get(verdict, q)
    depth = math.inf if chi <= 0 or abs(chi - 1) < 1e-3 else abs(1 / math.log(chi))
    return Stability(name, weight_variance, bias_variance, growth, fixed, chi, depth, verdict)


def _verdict(q: float, growth: float, chi: float) -> str:
    if q < 1e-9 or (growth < 1 - EDGE and q < 1e-3):
        return "vanishing"
    if q > 1e9 or growth > 1 + EDGE:
        return "exploding"
    if abs(chi - 1) <= EDGE:
        return "stable"
    return "ordered" if chi < 1 else "chaotic"


def _square(f: Activation, q: float) -> float:
    """E f(√q z)²."""
    return (f(math.sqrt(q) * Z).square() * W).sum().item()


def _slope(f: Activation, q: float) -> float:
    """E f'(√q z)²."""
    between = (Z[1:] + Z[:-1]) / 2  # beside 0, where rectifiers have no slope
    weights = torch.exp(-between.square() / 2)
    with torch.enable_grad():
        x = (math.sqrt(q) * between).detach().requires_grad_()
        (slope,) = torch.autograd.grad(f(x).sum(), x)
    return (slope.square() * weights).sum().item() / weights.sum().item()


def of_rows(rows: Sequence[Row]) -> tuple[Stability, ...]:
    """The stability of each activation between two weighted layers, at the median weight variance of its layers.

    Args:
        rows: of a signal, in execution order.

    >>> rows = [Row("a", 0, "Linear", (2, 4), 0.0, 1.0, depth=1), Row("b", 0, "ReLU", (2, 4), 0.4, 0.7071)]
    >>> [round(one.chi, 2) for one in of_rows([*rows, Row("c", 0, "Linear", (2, 4), 0.0, 1.0, depth=2)])]
    [1.0]
    """
    found: dict[str, list[float]] = {}
    for before, middle, after in zip(rows, rows[1:], rows[2:], strict=False):
        name = middle.op.lower()
        is_between = name in ACTIVATIONS and before.depth and after.depth
        if is_between and before.rms and after.rms and math.isfinite(before.rms * after.rms):
            found.setdefault(name, []).append(after.rms**2 / _square(ACTIVATIONS[name], before.rms**2))
    return tuple(stability(name, sorted(several)[len(several) // 2]) for name, several in found.items())
