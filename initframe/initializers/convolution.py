"""Convolutions: isometry, and upsampling without patterns."""

from __future__ import annotations

import math
from dataclasses import replace

from initframe.fills import Fill
from initframe.fills.derived import Repeated
from initframe.fills.structured import DeltaOrthogonal
from initframe.fills.table import BilinearKernel
from initframe.initializers.demands import demand_dimensions, refuse
from initframe.initializers.table import initializer
from initframe.initializers.variance import Distribution, Mode, scaled
from initframe.model.slot import Slot


@initializer("delta_orthogonal")
def delta_orthogonal(slot: Slot, *, gain: float = 1.0) -> Fill:
    """An orthogonal matrix at the kernel's centre, zeros elsewhere (Xiao et al. 2018; jax/_src/nn/initializers.py).

    Use it for very deep convolutional networks: unlike a flattened orthogonal matrix it keeps every signal's norm.
    The centre is k//2, as in torch's dirac; JAX has (k−1)//2, which differs for even kernels.

    Args:
        slot: a convolution's weight with no fewer outputs than inputs; every group has a matrix of its own.
        gain: multiplies the matrix.

    Returns:
        A whole fill; all singular values of the circular convolution are gain.

    Raises:
        ResolveError: no convolution, or fewer outputs than inputs.

    >>> delta_orthogonal(Slot("w", (8, 2, 3, 3))).gain
    1.0
    """
    demand_dimensions(slot, "delta_orthogonal", DeltaOrthogonal.dims)
    groups, is_transposed = slot.meaning.groups, slot.meaning.transposed
    rows, columns = slot.shape[0] // groups, slot.shape[1]
    outputs, inputs = (columns, rows) if is_transposed else (rows, columns)
    if outputs < inputs:
        per_group, times = (" per group", "groups * ") if groups > 1 else ("", "")
        raise refuse(
            f"delta_orthogonal needs at least as many outputs as inputs, got {outputs} and {inputs}{per_group}.",
            f"Add where: d0 {'<=' if is_transposed else '>='} {times}d1.",
        )
    return DeltaOrthogonal(slot.shape, gain, groups)


@initializer("icnr")
def icnr(
    slot: Slot,
    *,
    factor: int,
    gain: float = math.sqrt(2.0),
    mode: Mode = "fan_in",
    distribution: Distribution = "normal",
) -> Fill:
    """A distribution of outputs/r² filters, each repeated r² times (Aitken et al. 2017; fastai, fastai/layers.py).

    Use it for the convolution before ``nn.PixelShuffle(factor)``, which then starts as the nearest neighbour, without a
    checkerboard.

    Args:
        slot: a convolution's weight whose outputs, in each of its groups, are a multiple of factor².
        factor: PixelShuffle's upscale_factor, r.
        gain: of the filters' std; √2, of a ReLU, by default.
        mode: the fan that divides the filters' variance.
        distribution: of the filters.

    Returns:
        A whole fill.

    Raises:
        ResolveError: factor² does not divide the outputs, or the convolution is transposed.

    >>> icnr(Slot("w", (8, 2, 1, 1), fan_in=2, fan_out=8), factor=2).std
    1.0
    """
    times = factor**2
    if factor < 1 or slot.ndim < 3 or slot.shape[0] % (times * slot.meaning.groups):
        raise refuse(f"icnr: factor² = {times} must divide the outputs of a convolution, {list(slot.shape)}.")
    if slot.meaning.transposed:
        raise refuse("icnr repeats outputs along the first dimension; a transposed convolution has inputs there.")
    few = replace(slot, shape=(slot.shape[0] // times, *slot.shape[1:]), fan_out=(slot.fan_out or 0) / times)
    return Repeated(slot.shape, scaled(few, gain, mode, distribution), times)


@initializer("bilinear_upsample")
def bilinear_upsample(slot: Slot) -> Fill:
    """A transposed convolution that interpolates, channel by channel (Long et al. 2015; shelhamer's FCN, surgery.py).

    Use it for ``nn.ConvTranspose2d`` of stride s with kernel 2s − s%2 and padding ⌈(s−1)/2⌉ that has as many outputs as
    inputs, in groups or not; then it is ``interpolate(mode="bilinear")``.

    Args:
        slot: a transposed convolution's weight, (inputs, outputs per group, *kernel).

    Returns:
        A fixed whole fill: 1 − |i − c|/f in each direction, on the diagonal of each group's channels.

    Raises:
        ResolveError: no convolution, or more or fewer outputs than inputs.

    >>> bilinear_upsample(Slot("w", (1, 1, 4))).mean
    0.5
    """
    groups = {slot.meaning.groups} if slot.layer else {1, *slot.shape[:1]}  # a state_dict does not tell
    if slot.ndim not in (3, 4, 5) or not any(slot.shape[1] * count == slot.shape[0] for count in groups):
        raise refuse(
            "bilinear_upsample keeps channels apart: it needs 3 to 5 dimensions and as many outputs as inputs; "
            f"this is {list(slot.shape)}, inputs × outputs per group, with groups = {slot.meaning.groups}."
        )
    return BilinearKernel(slot.shape)
