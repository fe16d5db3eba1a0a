"""The plain distributions and constants of torch.nn.init, and initializers that start from the current values."""

from __future__ import annotations

from collections.abc import Sequence

from initframe.fills import Constant, Fill, Keep, Masked, Normal, Scale, Shift, ShrinkPerturb, TruncatedNormal, Uniform
from initframe.initializers.demands import demand_not_negative, refuse
from initframe.initializers.table import initializer
from initframe.model.slot import Slot


@initializer("uniform")
def uniform(slot: Slot, *, a: float = 0.0, b: float = 1.0) -> Fill:
    """U(a, b) (torch/nn/init.py, ``uniform_``).

    Use it for embeddings and decoders with plain bounds, and to compare other distributions with.

    Args:
        slot: any floating-point tensor.
        a: lower bound, included.
        b: upper bound; excluded in float32 and float64, reached by rounding in bfloat16 and float16.

    Returns:
        A uniform fill of mean (a+b)/2 and std (b−a)/√12.

    Raises:
        ResolveError: a > b.

    >>> uniform(Slot("w", (5, 5)), a=0, b=3).mean
    1.5
    """
    if a > b:
        raise refuse(f"the bounds of uniform are the wrong way round: a = {a:g} > b = {b:g}.")
    return Uniform(a, b)


@initializer("normal")
def normal(slot: Slot, *, mean: float = 0.0, std: float = 1.0) -> Fill:
    """N(mean, std²) (torch/nn/init.py, ``normal_``).

    Use it if a recipe states a std, as GPT-2 and BERT do.

    Args:
        slot: any floating-point tensor.
        mean: the mean.
        std: the standard deviation, ≥ 0.

    Returns:
        A normal fill.

    Raises:
        ResolveError: std < 0.

    >>> normal(Slot("w", (5, 5)), std=2).std
    2
    """
    demand_not_negative(std=std)
    return Normal(mean, std)


@initializer("trunc_normal")
def trunc_normal(slot: Slot, *, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Fill:
    """N(mean, std²) cut to [a, b]; the bounds are absolute, not in stds (torch/nn/init.py, ``trunc_normal_``).

    Use it if a recipe states a std and outliers are not wanted, as Vision Transformers do.

    For bounds in units of std write ``a: -2 * std`` and ``b: 2 * std``.

    Args:
        slot: any floating-point tensor.
        mean: the mean before the cut.
        std: the standard deviation before the cut, ≥ 0; the plan shows what truncation leaves.
        a: lower bound.
        b: upper bound.

    Returns:
        A truncated normal fill.

    Raises:
        ResolveError: std < 0, or a ≥ b.

    >>> round(trunc_normal(Slot("w", (5, 5)), std=0.02, a=-0.04, b=0.04).std, 6)
    0.017593
    """
    demand_not_negative(std=std)
    if a >= b:
        raise refuse(f"the bounds of trunc_normal are the wrong way round: a = {a:g}, b = {b:g}.")
    return TruncatedNormal(mean, std, a, b) if std > 0 else Constant(min(max(mean, a), b))


@initializer("constant")
def constant(slot: Slot, *, val: float, index: Sequence[int] | None = None) -> Fill:
    """Every element is ``val``; with ``index``, that one element or row is, and the others keep their values.

    Use it for biases, gates and temperatures; with ``index``, for one number of a tensor.

    Args:
        slot: any floating-point tensor.
        val: the value.
        index: integers from the first dimension on, negative ones counted from the end; ``[0, 0]`` is one element of
            a matrix, ``[0]`` its first row.

    Returns:
        A constant fill, or one that masks the current values.

    Raises:
        ResolveError: the index is outside the tensor.

    >>> str(constant(Slot("w", (5, 5)), val=42, index=[0, 0]))
    'keep(), 42 at [0, 0]'
    """
    if index is None:
        return Constant(val)
    if not 1 <= len(index) <= slot.ndim:
        raise refuse(f"index {list(index)} has {len(index)} numbers; the tensor has {slot.ndim} dimensions.")
    outside = [i for i, size in zip(index, slot.shape, strict=False) if not -size <= i < size]
    if outside:
        raise refuse(f"index {list(index)} is outside the tensor's shape {list(slot.shape)}.")
    wrapped = tuple(i % size for i, size in zip(index, slot.shape, strict=False))
    return Masked(Keep(), slot.shape, wrapped, val)


@initializer("ones")
def ones(slot: Slot) -> Fill:
    """Every element is 1 (torch/nn/init.py, ``ones_``).

    Use it for the weights of norms.

    >>> ones(Slot("w", (5,))).value
    1.0
    """
    return Constant(1.0)


@initializer("zeros")
def zeros(slot: Slot) -> Fill:
    """Every element is 0 (torch/nn/init.py, ``zeros_``).

    Use it for biases, and for the last layer of a residual branch.

    >>> zeros(Slot("b", (5,))).value
    0.0
    """
    return Constant(0.0)


@initializer("keep")
def keep(slot: Slot) -> Fill:
    """The tensor stays as it is, on purpose: the plan lists it as kept rather than untouched.

    Use it for trained or frozen parts, and to tell ``unmatched: error`` that they are meant.

    >>> keep(Slot("w", (5,))).needs_current
    True
    """
    return Keep()


@initializer("shift")
def shift(slot: Slot, *, by: float) -> Fill:
    """Current values plus ``by``.

    Use it to disturb trained values by hand.

    >>> str(shift(Slot("w", (5,)), by=1.0))
    'shift(1)'
    """
    return Shift(by)


@initializer("scale")
def scale(slot: Slot, *, by: float) -> Fill:
    """Current values times ``by``.

    Use it to shrink or grow what a trained layer gives.

    >>> str(scale(Slot("w", (5,)), by=0.5))
    'scale(0.5)'
    """
    return Scale(by)


@initializer("shrink_perturb")
def shrink_perturb(slot: Slot, *, shrink: float = 0.4, std: float = 0.01) -> Fill:
    """shrink·W + N(0, std²): warm starts that generalize (Ash & Adams 2020).

    Use it before training goes on with new data.

    Args:
        slot: a tensor that holds trained values.
        shrink: factor of the current values; the paper's λ.
        std: the noise's standard deviation, ≥ 0.

    Returns:
        A fill on the current values.

    Raises:
        ResolveError: std < 0.

    >>> str(shrink_perturb(Slot("w", (5,))))
    'shrink_perturb(0.4, 0.01)'
    """
    demand_not_negative(std=std)
    return ShrinkPerturb(shrink, std)
