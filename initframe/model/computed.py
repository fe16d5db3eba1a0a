"""A tensor that a layer computes from others: how to read it, and how to invert the computation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from initframe.model.obstacles import Obstacle

Copies = tuple[tuple[Tensor, Tensor], ...]

LENGTH = "weight_norm keeps length and direction apart: what is filled comes back up to rounding"
SPECTRAL = "spectral_norm divides by the largest singular value: the scale of what is filled is discarded"

_POWER_STEPS = 15  # as many as torch takes when it registers a spectral norm


@dataclass(frozen=True)
class Parametrization:
    """How a layer computes one tensor from others, and how to invert that.

    Attributes:
        owner: what computes it; a module that stands under two names has one owner.
        originals: the tensors that it is computed from, by their names from the module on.
        read: computes the logical tensor as it is now; changes nothing, not even a power iteration's vectors.
        invert: ``value → writes``: which existing tensor takes which new value, in order, so that the logical tensor
            becomes ``value``; changes nothing, and draws nothing from torch's generators.
        shape: the logical shape; ``None`` if it cannot be computed.
        dtype: the logical dtype.
        state: names of the module's further tensors that only serve the computation (singular vectors, masks).
        renewed: those of them that the inversion always sets (singular vectors).
        blocked: why it cannot be inverted, if it cannot.
        exact: whether the value that goes in is known to come out, up to rounding.
        linear: whether a factor on what goes in is known to be a factor on what comes out.
        notes: what a reader of the plan should know.
    """

    owner: object
    originals: Mapping[str, Tensor]
    read: Callable[[], Tensor]
    invert: Callable[[Tensor], Copies]
    shape: tuple[int, ...] | None
    dtype: torch.dtype
    state: tuple[str, ...] = ()
    renewed: tuple[Tensor, ...] = ()
    blocked: Obstacle | None = None
    exact: bool = False
    linear: bool = False
    notes: tuple[str, ...] = ()


def own_tensor(module: nn.Module, name: str) -> Tensor | None:
    """Give a tensor that a module holds itself; ``None`` if the name is another attribute's, or nothing's.

    >>> own_tensor(nn.Linear(2, 3), "weight_orig") is None
    True
    """
    for held in (module._parameters, module._buffers):  # noqa: SLF001
        if name in held and held[name] is not None:  # a scripted module's have no get
            return held[name]
    return None


def itself_computed(names: Iterable[str]) -> Obstacle:
    """Say that a tensor is computed from others that are computed, too.

    >>> itself_computed(["weight_v"]).fact
    'is computed from weight_v, which is computed too: it cannot be inverted.'
    """
    return Obstacle(
        f"is computed from {' and '.join(names)}, which is computed too: it cannot be inverted.",
        "Fill the model first, then wrap it.",
    )


def demand_finite(back: Tensor) -> None:
    """Refuse a value that a layer cannot hold, such as one of norm zero if it divides by norms.

    Args:
        back: what the layer makes of the value.

    Raises:
        ValueError: it has nan or inf.

    >>> demand_finite(torch.ones(2))
    """
    if not bool(back.isfinite().all()):
        raise ValueError("the layer computes nan or inf from it, as if it divided by a norm of zero")


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
