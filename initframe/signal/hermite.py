"""The grid of a normal variable, and Hermite series: E f(z)g(z') = Σ aₙbₙcⁿ for z and z' of correlation c (Mehler)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

K = 161
"""Points of the grid, evenly spaced over ±8: the trapezoid rule is exact to 10⁻⁴ even across a kink."""
ORDER = 24
"""Hermite coefficients that are kept; what is left of the variance counts as order 25."""

Z = torch.linspace(-8, 8, K, dtype=torch.float64, device="cpu")
W = torch.exp(-Z.square() / 2) / torch.exp(-Z.square() / 2).sum()
CDF = torch.special.ndtr(Z)


def _hermite() -> Tensor:
    """Orthonormal Hermite polynomials on the grid, times the weights: (ORDER + 1, K)."""
    rows = [torch.ones_like(Z), Z]
    for n in range(1, ORDER):
        rows.append((Z * rows[n] - math.sqrt(n) * rows[n - 1]) / math.sqrt(n + 1))
    return torch.stack(rows) * W


HERMITE = _hermite()
READ = HERMITE.T.contiguous()
"""What a row of values is multiplied with: (K, ORDER + 1)."""


def powers(x: Tensor) -> Tensor:
    """The powers from 1 to ``ORDER`` + 1, a row each.

    >>> powers(torch.tensor([2.0]))[:3, 0].tolist()
    [2.0, 4.0, 8.0]
    """
    return x.reshape(-1).expand(ORDER + 1, -1).cumprod(0)


def evaluated(coefficients: list[float], powers: Tensor) -> Tensor:
    """Σ cₙxⁿ for ``ORDER`` + 2 coefficients.

    Args:
        coefficients: of the series.
        powers: of the places, from :func:`powers`.

    >>> evaluated([1.0] * (ORDER + 2), powers(torch.tensor([1.0, 0.5], dtype=torch.float64))).tolist()
    [26.0, 1.9999999701976776]
    """
    return (torch.tensor(coefficients[1:], dtype=powers.dtype, device="cpu") @ powers).add_(coefficients[0])


def horner(coefficients: list[float], x: float) -> float:
    """Σ cₙxⁿ.

    >>> horner([1.0, 2.0, 3.0], 2.0)
    17.0
    """
    total = 0.0
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def series(coefficients: Tensor, at: Tensor) -> Tensor:
    """Σ cₙxⁿ over the last dimension of the coefficients, which otherwise broadcast with x."""
    total = torch.zeros_like(at)
    for n in range(coefficients.shape[-1] - 1, -1, -1):
        total = total * at + coefficients[..., n]
    return total
