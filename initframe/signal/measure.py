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

DENSE = {
    "matmul",
    "conv",
    "attention",
    "layer_norm",
    "rms_norm",
    "group_norm",
    "batch_norm",
    "add",
    "mul",
    "gelu",
    "silu",
    "elu",
    "celu",
    "selu",
    "mish",
    "softplus",
    "tanh",
    "sigmoid",
    "log_softmax",
    "cat",
    "mean",
}
"""Operations without exact zeros, unless much of what they get is zero."""
SAMPLE = 1024
"""How many elements of a dense operation's result are looked at."""


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

    With values that are not finite, the mean is as IEEE 754 has it: ±∞, or NaN if they cancel or one is NaN. The rms is
    ∞, or NaN if one is NaN, and the correlation NaN.

    Args:
        tensor: floating point, on any device but meta.
        inputs: the batch size; a tensor whose first dimension is another has no correlation.
        op: the operation that made it, for saturation and dead units.

    Returns:
        The numbers; ``None`` for a tensor without elements or memory.

    >>> measure(torch.tensor([[3.0, 0.0], [0.0, -4.0]]), inputs=2)
    Numbers(mean=-0.25, rms=2.5, correlation=0.0, zeros=0.5, saturated=None, dead=None)
    """
    count = tensor.numel()
    if not count or tensor.is_meta or tensor.layout != torch.strided:
        return None
    x = tensor.detach() if tensor.requires_grad else tensor
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    several = inputs is not None and inputs > 1 and x.ndim > 0 and x.shape[0] == inputs
    flat = x.reshape(x.shape[0] if several else 1, -1)
    squares, correlation = _pairs(flat)
    finite = math.isfinite(squares)
    if not finite and bool(x.isfinite().all()):  # float32 overflows at 10¹⁹, squared
        squares, correlation = _pairs(flat.double())
        finite = True
    if not finite:
        squares, correlation = (math.nan if bool(x.isnan().any()) else math.inf), math.nan
    return Numbers(
        mean=flat.sum(dtype=None if finite else torch.float64).item() / count,
        rms=math.sqrt(squares / count),
        correlation=correlation if several else None,
        zeros=_zeros(flat, op),
        saturated=saturation(x, op),
        dead=_dead(x) if op in RECTIFIERS and several else None,
    )


def _zeros(x: Tensor, op: str) -> float:
    """The share of zeros; operations whose result is zero by chance alone are counted only if a sample has one."""
    if op in DENSE:
        sample = x[:, :: max(x.numel() // SAMPLE, 1)]
        if torch.count_nonzero(sample).item() == sample.numel():
            return 0.0
    found = torch.eq(x, 0, out=torch.empty_like(x))  # numbers, not truth values: torch adds those up far faster
    return found.sum().item() / x.numel()


def _dead(x: Tensor) -> float:
    """The share of units that are zero for every input and at every place: channels of images, features of the rest."""
    units = 1 if x.ndim >= 4 else x.ndim - 1
    others = [d for d in range(x.ndim) if d != units]
    return (x.amax(others) <= 0).double().mean().item()


def is_masked(tensor: Tensor) -> bool:
    """Whether a tensor holds −∞ next to finite numbers, as masked scores do; that is no signal."""
    if math.isfinite(tensor.detach().amin().item()) or tensor.isnan().any():
        return False
    return bool((tensor == -math.inf).any()) and not bool((tensor == math.inf).any())


def _pairs(flat: Tensor) -> tuple[float, float | None]:
    """The sum of squares of all rows, and the mean cosine between two different ones."""
    rows = flat.shape[0]
    if rows == 1:
        return torch.linalg.vector_norm(flat).item() ** 2, None
    if rows > SMALL:
        norms = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
        total = (flat / norms.clamp_min(torch.finfo(flat.dtype).tiny)).sum(0).square().sum().item()
        return norms.double().square().sum().item(), (total - rows) / (rows * (rows - 1))
    gram: list[list[float]] = torch.mm(flat, flat.t()).tolist()
    squares = cosines = 0.0
    norms_of: list[float] = []
    for i, products in enumerate(gram):
        square = products[i]
        norm = math.sqrt(max(square, 0.0))
        for other, product in zip(norms_of, products, strict=False):
            if (both := norm * other) > 0:
                cosines += product / both
        squares += square
        norms_of.append(norm)
    return squares, cosines / (rows * (rows - 1) / 2)


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
