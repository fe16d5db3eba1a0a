"""Layers that start as the identity."""

from __future__ import annotations

from initframe.fills import Dirac, Fill, Identity
from initframe.fills.structured import PartialHadamard
from initframe.initializers.demands import demand_dimensions, refuse
from initframe.initializers.table import initializer
from initframe.model.slot import Slot


@initializer("eye")
def eye(slot: Slot, *, gain: float = 1.0) -> Fill:
    """The identity matrix, rectangular if the tensor is (torch/nn/init.py, ``eye_``).

    Use it for square layers that should pass their input through at first.

    Args:
        slot: a matrix.
        gain: multiplies the matrix.

    Returns:
        A whole fill of gain and zeros.

    Raises:
        ResolveError: the tensor is no matrix.

    >>> eye(Slot("w", (2, 2))).mean
    0.5
    """
    demand_dimensions(slot, "eye", Identity.dims)
    return Identity(slot.shape, gain)


@initializer("dirac")
def dirac(slot: Slot, *, groups: int = 1, gain: float = 1.0) -> Fill:
    """A convolution that passes its input through, group by group (torch/nn/init.py, ``dirac_``).

    Use it for convolutions that should pass their input through at first.

    Args:
        slot: a tensor of 3 to 5 dimensions.
        groups: the convolution's groups; must divide the first dimension.
        gain: multiplies the kernel.

    Returns:
        A whole fill of gain at the kernel's centre and zeros elsewhere.

    Raises:
        ResolveError: the dimensions or the groups do not fit.

    >>> dirac(Slot("w", (4, 4, 3))).mean
    0.08333333333333333
    """
    demand_dimensions(slot, "dirac", Dirac.dims)
    if groups < 1 or slot.shape[0] % groups:
        raise refuse(f"groups must divide the first dimension, {slot.shape[0]}, got {groups}.")
    return Dirac(slot.shape, groups, gain)


@initializer("identity")
def identity(slot: Slot, *, gain: float = 1.0) -> Fill:
    """A layer that passes its input through: ``eye`` for matrices, ``dirac`` for convolutions (Le et al. 2015).

    Use it for hidden-to-hidden matrices of recurrent ReLU networks, and for layers that are added to a trained model.

    Args:
        slot: a tensor of 2 to 5 dimensions; in a grouped convolution every group passes its own channels.
        gain: multiplies what is passed.

    Returns:
        A whole fill of gain and zeros.

    Raises:
        ResolveError: other dimensions.

    >>> str(identity(Slot("w", (4, 4, 3))))
    'dirac(1)'
    """
    demand_dimensions(slot, "identity", (*Identity.dims, *Dirac.dims))
    return Identity(slot.shape, gain) if slot.ndim == 2 else Dirac(slot.shape, slot.meaning.groups, gain)


@initializer("zero_init")
def zero_init(slot: Slot) -> Fill:
    """ZerO: the identity, and I·H/√p·I with a Hadamard matrix H if outputs outnumber inputs (Zhao et al. 2022).

    Use it for training without any randomness (jiaweizzhao/ZerO-initialization); p is the power of two from the outputs
    up. It is not ``zeros``.

    Args:
        slot: a tensor of 2 to 5 dimensions; a convolution has the matrix at its kernel's centre, for each group.

    Returns:
        A fixed whole fill. WᵀW = I if the outputs are a power of two.

    Raises:
        ResolveError: other dimensions.

    >>> zero_init(Slot("w", (4, 2))).build(None)[1].tolist()
    [0.5, -0.5]
    """
    demand_dimensions(slot, "zero_init", PartialHadamard.dims)
    return PartialHadamard(slot.shape, slot.meaning.groups, slot.meaning.transposed)
