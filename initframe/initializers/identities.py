"""Layers that begin as the identity, or as what training makes of attention."""

from __future__ import annotations

from initframe.errors import ResolveError
from initframe.fills import Dirac, Fill, Identity
from initframe.fills.fixed import PartialHadamard
from initframe.fills.linked import Mimetic, Part
from initframe.initializers.table import initializer
from initframe.model.slot import Slot


@initializer("identity")
def identity(slot: Slot) -> Fill:
    """What passes its input through: ``eye`` for matrices, ``dirac`` for convolutions (Le, Jaitly & Hinton 2015).

    Use it for hidden-to-hidden matrices of ReLU networks that recur, and for layers that are added to a trained model.

    Args:
        slot: a tensor of 2 to 5 dimensions; of a grouped convolution every group passes its own channels.

    Returns:
        A whole fill of ones and zeros.

    Raises:
        ResolveError: other dimensions.

    >>> str(identity(Slot("w", (4, 4, 3))))
    'dirac(1)'
    """
    _matrix_or_kernel(slot, "identity")
    return Identity(slot.shape) if slot.ndim == 2 else Dirac(slot.shape, slot.meaning.groups)


@initializer("zero_init")
def zero_init(slot: Slot) -> Fill:
    """ZerO: the identity, and I·H/√p·I with a Hadamard matrix H where outputs outnumber inputs (Zhao et al. 2022).

    Use it for training without any randomness (jiaweizzhao/ZerO-initialization); p is the power of two from the outputs
    up. Not to be taken for ``zeros``.

    Args:
        slot: a tensor of 2 to 5 dimensions; a convolution has the matrix at its kernel's centre, for each group.

    Returns:
        A fixed whole fill. WᵀW = I where the outputs are a power of two.

    Raises:
        ResolveError: other dimensions.

    >>> zero_init(Slot("w", (4, 2))).build(None)[1].tolist()
    [0.5, -0.5]
    """
    _matrix_or_kernel(slot, "zero_init")
    return PartialHadamard(slot.shape, slot.meaning.groups, slot.meaning.transposed)


@initializer("mimetic")
def mimetic(
    slot: Slot,
    *,
    part: Part,
    heads: int,
    alpha_qk: float = 0.7,
    beta_qk: float = 0.7,
    alpha_vp: float = 0.4,
    beta_vp: float = 0.4,
    attention: str | None = None,
) -> Fill:
    """Attention as after training: W_q·W_kᵀ ≈ α·Z + β·I per head, W_v·W_proj = α'·Z − β'·I (Trockman & Kolter 2023).

    Use it for self-attention that learns from little data. Z ~ N(0, 1/dim); each product is split by its singular value
    decomposition. The parts of one attention module share Z, which is drawn under the module's name.

    Args:
        slot: a weight of nn.Linear's form, dim columns and dim rows (3·dim for ``qkv``).
        part: ``q``, ``k``, ``v``, ``proj``, or ``qkv`` for the first three in one tensor.
        heads: the number of heads; divides dim.
        alpha_qk: how random q·k is.
        beta_qk: how much of the identity it has.
        alpha_vp: how random v·proj is.
        beta_vp: how much of minus the identity it has.
        attention: the last part of the attention module's name, where it is not the module right around the layer:
            ``attention`` for BERT's ``attention.self.value`` and ``attention.output.dense``.

    Returns:
        A whole fill.

    Raises:
        ResolveError: the shape is not of that form, heads do not divide dim, or there is no such module around it.

    >>> mimetic(Slot("blocks.0.attn.qkv.weight", (12, 4)), part="qkv", heads=2).attention
    'blocks.0.attn'
    """
    rows = slot.shape[-1] * (3 if part == "qkv" else 1)
    if slot.ndim != 2 or slot.shape[0] != rows or heads < 1 or slot.shape[1] % heads:
        raise ResolveError(
            f"mimetic {part} needs {rows} rows for {slot.shape[-1]} columns, and heads that divide them; "
            f"this is {list(slot.shape)} and {heads} heads."
        )
    if slot.output_dim == 1:
        raise ResolveError(f"mimetic {part} needs rows that are outputs; this layer's weight has them as columns.")
    return Mimetic(slot.shape, part, heads, _around(slot, attention), (alpha_qk, alpha_vp), (beta_qk, beta_vp))


def _around(slot: Slot, attention: str | None) -> str:
    """The full name of the attention module that a weight belongs to."""
    *modules, attribute = slot.name.split(".")
    if attention is None:
        return ".".join(modules[:-1] if attribute == "weight" else modules)  # attn.qkv.weight, but attn.in_proj_weight
    if attention not in modules:
        raise ResolveError(f"no module around it has {attention!r} as the last part of its name.")
    return ".".join(modules[: len(modules) - modules[::-1].index(attention)])


def _matrix_or_kernel(slot: Slot, name: str) -> None:
    if not 2 <= slot.ndim <= 5:
        raise ResolveError(f"{name} needs 2 to 5 dimensions, this tensor has {slot.ndim}. Add where: ndim > 1.")
