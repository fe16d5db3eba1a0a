"""Matrices with a structure as a whole: orthogonal and sparse ones."""

from __future__ import annotations

from initframe.fills import Fill, Orthogonal, Sparse
from initframe.initializers.demands import demand_dimensions, demand_not_negative, refuse
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
        A whole fill with WWᵀ = gain²·I or WᵀW = gain²·I, whichever is smaller.

    Raises:
        ResolveError: fewer than two dimensions.

    >>> orthogonal(Slot("w", (4, 4))).std
    0.5
    """
    demand_dimensions(slot, "orthogonal", Orthogonal.dims)
    return Orthogonal(slot.shape, gain)


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
    demand_dimensions(slot, "sparse", Sparse.dims)
    if not 0 <= sparsity <= 1:
        raise refuse(f"sparsity is a share between 0 and 1, got {sparsity:g}.")
    demand_not_negative(std=std)
    return Sparse(slot.shape, sparsity, std)
