"""Tensors with a structure as a whole: orthogonal, identity, dirac, sparse."""

from __future__ import annotations

from initframe.errors import ResolveError
from initframe.fills import Dirac, Fill, Identity, Orthogonal, Sparse
from initframe.initializers.table import initializer
from initframe.model.slot import Slot


@initializer("orthogonal")
def orthogonal(slot: Slot, *, gain: float = 1.0) -> Fill:
    """A (semi-)orthogonal matrix times gain, dimensions after the first flattened (Saxe et al. 2013; torch/nn/init.py).

    Use it for recurrent matrices, policies and values, and deep linear stacks; convolutions want delta_orthogonal.

    Args:
        slot: a tensor of at least two dimensions.
        gain: multiplies the matrix.

    Returns:
        A whole fill with WWᵀ = gain²·I or WᵀW = gain²·I, whichever is the smaller.

    Raises:
        ResolveError: fewer than two dimensions.

    >>> orthogonal(Slot("w", (4, 4))).std
    0.5
    """
    if slot.ndim < 2:
        raise ResolveError(
            f"orthogonal needs a tensor of 2 or more dimensions, this one has {slot.ndim}. "
            "Restrict the rule with where: ndim > 1."
        )
    return Orthogonal(slot.shape, gain)


@initializer("eye")
def eye(slot: Slot) -> Fill:
    """The identity matrix, rectangular where the tensor is (torch/nn/init.py, ``eye_``).

    Use it for square layers that should pass their input through at first.

    >>> eye(Slot("w", (2, 2))).mean
    0.5
    """
    if slot.ndim != 2:
        raise ResolveError(f"eye needs a matrix, this tensor has {slot.ndim} dimensions. Add where: ndim == 2.")
    return Identity(slot.shape)


@initializer("dirac")
def dirac(slot: Slot, *, groups: int = 1) -> Fill:
    """A convolution that passes its input through, group by group (torch/nn/init.py, ``dirac_``).

    Use it for convolutions that should pass their input through at first.

    Args:
        slot: a tensor of 3 to 5 dimensions.
        groups: the convolution's groups; must divide the first dimension.

    Returns:
        A whole fill of ones at the kernel's centre and zeros elsewhere.

    Raises:
        ResolveError: the dimensions or the groups do not fit.

    >>> dirac(Slot("w", (4, 4, 3))).mean
    0.08333333333333333
    """
    if slot.ndim not in (3, 4, 5):
        raise ResolveError(f"dirac needs 3 to 5 dimensions, this tensor has {slot.ndim}. Add where: ndim >= 3.")
    if groups < 1 or slot.shape[0] % groups:
        raise ResolveError(f"groups must divide the first dimension, got {groups}.")
    return Dirac(slot.shape, groups)


@initializer("sparse")
def sparse(slot: Slot, *, sparsity: float, std: float = 0.01) -> Fill:
    """N(0, std²) with ⌈sparsity·rows⌉ zeros in every column (Martens 2010; torch/nn/init.py, ``sparse_``).

    Use it for deep plain networks trained by second-order methods, for which it was made.

    Args:
        slot: a matrix.
        sparsity: the share of each column that is zero, 0 to 1.
        std: of the other elements, ≥ 0.

    Returns:
        A whole fill.

    Raises:
        ResolveError: the tensor is no matrix, or a number is out of range.

    >>> sparse(Slot("w", (10, 4)), sparsity=0.1).zeros
    1
    """
    if slot.ndim != 2:
        raise ResolveError(f"sparse needs a matrix, this tensor has {slot.ndim} dimensions. Add where: ndim == 2.")
    if not 0 <= sparsity <= 1:
        raise ResolveError(f"sparsity is a share between 0 and 1, got {sparsity:g}.")
    if std < 0:
        raise ResolveError(f"std must not be negative, got {std:g}.")
    return Sparse(slot.shape, sparsity, std)
