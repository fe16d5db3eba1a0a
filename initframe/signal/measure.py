"""The numbers of one tensor: mean, rms, zeros, saturation, and how alike the inputs of a batch are."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

SMALL = 32
"""Up to which batch size all pairs of inputs are multiplied; beyond, the sum of the unit vectors is enough."""
FLAT = 0.01
"""How near to its limits a sigmoid, tanh or softmax counts as saturated."""

BOUNDS = {
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
}
"""Operations that saturate, and between which limits."""
RECTIFIERS = {"relu", "relu6", "threshold"}
"""Operations whose zeros are dead units."""


class Numbers(NamedTuple):
    """What is measured of a tensor; the fields are those of :class:`initframe.signal.signal.Row`."""

    mean: float
    rms: float
    correlation: float | None
    zeros: float
    saturated: float | None
    dead: float | None


def measure(tensor: Tensor, inputs: int | None, op: str = "") -> Numbers | None:
    """Measure a tensor.

    Args:
        tensor: floating point, on any device but meta.
        inputs: the batch size; a tensor whose first dimension is another has no correlation.
        op: the operation that made it, for saturation and dead units.

    Returns:
        The numbers; ``None`` for a tensor without elements or memory.

    >>> measure(torch.tensor([[3.0, 0.0], [0.0, -4.0]]), inputs=2)
    Numbers(mean=-0.25, rms=2.5, correlation=0.0, zeros=0.5, saturated=None, dead=None)
    """
    if not tensor.numel() or tensor.is_meta or tensor.layout != torch.strided:
        return None
    x = tensor.detach()
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    several = inputs is not None and inputs > 1 and x.ndim > 0 and x.shape[0] == inputs
    flat = x.reshape(x.shape[0] if several else 1, -1)
    squares, correlation = _pairs(flat)
    if not math.isfinite(squares) and bool(x.isfinite().all()):  # float32 overflows at 10¹⁹, squared
        squares, correlation = _pairs(flat.double())
    return Numbers(
        mean=x.mean(dtype=torch.float64).item() if math.isfinite(squares) else math.nan,
        rms=math.sqrt(squares / x.numel()) if math.isfinite(squares) else math.inf,
        correlation=correlation if several else None,
        zeros=1 - torch.count_nonzero(x).item() / x.numel(),
        saturated=saturation(x, op),
        dead=(flat.amax(0) <= 0).double().mean().item() if op in RECTIFIERS and several else None,
    )


def _pairs(flat: Tensor) -> tuple[float, float | None]:
    """The sum of squares of all rows, and the mean cosine between two different ones."""
    rows = flat.shape[0]
    if rows == 1:
        return flat.square().sum(dtype=torch.float64).item(), None
    if rows > SMALL:
        norms = flat.norm(dim=1, keepdim=True)
        total = (flat / norms.clamp_min(torch.finfo(flat.dtype).tiny)).sum(0).square().sum().item()
        return norms.double().square().sum().item(), (total - rows) / (rows * (rows - 1))
    gram = (flat @ flat.T).double()
    norms = gram.diagonal().clamp_min(0).sqrt()
    cosines = gram / (norms[:, None] * norms[None, :]).clamp_min(torch.finfo(torch.float64).tiny)
    others = cosines.sum().item() - cosines.diagonal().sum().item()
    return gram.diagonal().sum().item(), others / (rows * (rows - 1))


def saturation(x: Tensor, op: str) -> float | None:
    """The share of elements at the flat ends of an operation; ``None`` for one that has none.

    >>> saturation(torch.tensor([0.999, 0.5]), "sigmoid")
    0.5
    """
    if op == "softmax":
        return (x > 1 - FLAT).any(-1).double().mean().item() if x.ndim else None
    if op not in BOUNDS:
        return None
    low, high = BOUNDS[op]
    margin = FLAT * (high - low)
    return ((x < low + margin) | (x > high - margin)).double().mean().item()
