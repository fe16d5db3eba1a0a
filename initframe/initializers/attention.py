"""Attention that starts as training leaves it."""

from __future__ import annotations

from initframe.fills import Fill
from initframe.fills.derived import Mimetic, Part
from initframe.initializers.demands import refuse
from initframe.initializers.table import initializer
from initframe.model.slot import Slot


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
        attention: the last part of the attention module's name, if that is not the module right around the layer:
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
        raise refuse(
            f"mimetic {part} needs {rows} rows for {slot.shape[-1]} columns, and heads that divide them; "
            f"got {list(slot.shape)} and {heads} heads."
        )
    if slot.output_dim == 1:
        raise refuse(f"mimetic {part} needs outputs as rows; this layer's weight has them as columns.")
    return Mimetic(slot.shape, part, heads, _around(slot, attention), (alpha_qk, alpha_vp), (beta_qk, beta_vp))


def _around(slot: Slot, attention: str | None) -> str:
    """Return the full name of the attention module that a weight belongs to."""
    *modules, attribute = slot.name.split(".")
    if attention is None:
        return ".".join(modules[:-1] if attribute == "weight" else modules)  # attn.qkv.weight, but attn.in_proj_weight
    if attention not in modules:
        raise refuse(f"no module around it has {attention!r} as the last part of its name.")
    return ".".join(modules[: len(modules) - modules[::-1].index(attention)])
