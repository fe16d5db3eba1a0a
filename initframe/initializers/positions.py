"""Position embeddings that are computed."""

from __future__ import annotations

import math

from initframe.fills import Fill
from initframe.fills.derived import SineCosine
from initframe.initializers.demands import refuse
from initframe.initializers.table import initializer
from initframe.model.slot import Slot


@initializer("sincos_pos_embed")
def sincos_pos_embed(slot: Slot, *, prefix: int = 0) -> Fill:
    """Sines and cosines of a square grid's coordinates, ω = 10000^(−4j/dim) (facebookresearch/mae, util/pos_embed.py).

    Use it for image patches: MAE and DiT keep this table fixed (He et al. 2022; Peebles & Xie 2023).

    Args:
        slot: a table (…, tokens, dim), dim a multiple of 4.
        prefix: how many tokens come before the grid (class tokens); their rows are 0.

    Returns:
        A fixed whole fill.

    Raises:
        ResolveError: the tokens after the prefix are no square, dim is no multiple of 4, or the prefix is negative.

    >>> round(sincos_pos_embed(Slot("pos_embed", (1, 16, 8))).std, 1)
    0.6
    """
    if prefix < 0:
        raise refuse(f"prefix counts tokens, got {prefix}.")
    tokens = slot.shape[-2] - prefix if slot.ndim in (2, 3) else -1
    if tokens < 1 or math.isqrt(tokens) ** 2 != tokens or slot.shape[-1] % 4 or math.prod(slot.shape[:-2]) != 1:
        raise refuse(
            f"sincos_pos_embed needs a table of {prefix} + side² tokens by a multiple of 4, not {list(slot.shape)}."
        )
    return SineCosine(slot.shape, prefix)
