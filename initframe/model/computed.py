"""A tensor that a layer computes from others: how to read it, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Writes = tuple[tuple[Tensor, Tensor], ...]

LENGTH = "weight_norm keeps length and direction apart: what is filled comes back up to rounding"
SPECTRAL = "spectral_norm divides by the largest singular value: the scale of what is filled is discarded"

_POWER_STEPS = 15  # as many as torch takes when it registers a spectral norm


@dataclass(frozen=True)
class Parametrization:
    """How a layer computes one tensor from others, and the way back.

    Attributes:
        originals: the tensors that it is computed from, by their names from the module on.
        read: computes the logical tensor as it is now; changes nothing, not even a power iteration's vectors.
        invert: ``value → writes``: which existing tensor takes which new value, in order, so that the logical tensor
            becomes ``value``; changes nothing, and draws nothing from torch's generators.
        shape: the logical shape.
        dtype: the logical dtype.
        blocked: why there is no way back, if there is none.
        notes: what a reader of the plan should know.
    """

    originals: Mapping[str, Tensor]
    read: Callable[[], Tensor]
    invert: Callable[[Tensor], Writes]
    shape: tuple[int, ...]
    dtype: torch.dtype
    blocked: str | None = None
    notes: tuple[str, ...] = ()


def demand_finite(back: Tensor) -> None:
    """Refuse a value that a layer cannot hold, such as one of norm zero where it divides by norms.

    Args:
        back: what the layer makes of the value.

    Raises:
        ValueError: it has nan or inf.

    >>> demand_finite(torch.ones(2))
    """
    if not bool(back.isfinite().all()):
        raise ValueError("the layer makes nan or inf of it, as a layer does that divides by a norm of zero")


def leading_vectors(matrix: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Estimate the singular vectors of the largest singular value, from the matrix alone.

    spectral_norm keeps them and improves them by one step per forward pass in training, by none in evaluation, so
    that those of the old weight would leave the new one with a norm far from one.

    Args:
        matrix: the weight as a matrix (outputs, the rest).
        dtype: of the result; the steps are taken in float64.

    Returns:
        The left and the right vector, of length one.

    >>> u, v = leading_vectors(torch.diag(torch.tensor([3.0, 1.0])), torch.float32)
    >>> u.tolist(), v.tolist()
    ([1.0, 0.0], [1.0, 0.0])
    """
    matrix = matrix.to(torch.float64)
    v = matrix[matrix.norm(dim=1).argmax()]
    for _ in range(_POWER_STEPS):
        u = nn.functional.normalize(matrix @ v, dim=0)
        v = nn.functional.normalize(matrix.T @ u, dim=0)
    return u.to(dtype), v.to(dtype)
