"""Position embeddings that are computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from initframe.fills import Fill
from initframe.fills.table import SineCosine, Sinusoids
from initframe.initializers.demands import refuse
from initframe.initializers.table import initializer
from initframe.model.slot import Slot


@initializer("sincos_pos_embed")
def sincos_pos_embed(slot: Slot, *, prefix: int = 0, grid: Sequence[int] | None = None) -> Fill:
    """Sines and cosines of a grid's coordinates, ω = 10000^(−4j/dim) (facebookresearch/mae, util/pos_embed.py).

    Use it for image patches: MAE and DiT keep this table fixed (He et al. 2022; Peebles & Xie 2023).

    Args:
        slot: a table (…, tokens, dim), dim a multiple of 4 (of 2 for a grid in one dimension).
        prefix: how many tokens come before the grid (class tokens); their rows are 0.
        grid: rows and columns, or the length of a line, where ω = 10000^(−2j/dim); by default a square.

    Returns:
        A fixed whole fill.

    Raises:
        ResolveError: the tokens after the prefix are no such grid, dim is no such multiple, or the prefix is negative.

    >>> round(sincos_pos_embed(Slot("pos_embed", (1, 16, 8))).std, 1)
    0.6
    """
    if prefix < 0:
        raise refuse(f"prefix counts tokens, got {prefix}.")
    tokens = slot.shape[-2] - prefix if slot.ndim in (2, 3) else -1
    if grid is not None:
        sizes = tuple(grid)
        if len(sizes) not in (1, 2) or min(sizes) < 1:
            raise refuse(f"grid has 1 or 2 positive sizes, got {list(sizes)}.")
        if tokens != math.prod(sizes) or slot.shape[-1] % (2 * len(sizes)) or math.prod(slot.shape[:-2]) != 1:
            wanted = f"{prefix} + {' × '.join(map(str, sizes))} tokens by a multiple of {2 * len(sizes)}"
            raise refuse(f"sincos_pos_embed needs a table of {wanted}, not {list(slot.shape)}.")
        return SineCosine(slot.shape, prefix, sizes)
    if tokens < 1 or math.isqrt(tokens) ** 2 != tokens or slot.shape[-1] % 4 or math.prod(slot.shape[:-2]) != 1:
        raise refuse(
            f"sincos_pos_embed needs a table of {prefix} + side² tokens by a multiple of 4, not {list(slot.shape)}.",
            "If the grid is no square, write grid: [rows, columns].",
        )
    return SineCosine(slot.shape, prefix)


@initializer("sinusoidal")
def sinusoidal(
    slot: Slot,
    *,
    layout: Literal["interleaved", "halves"] = "interleaved",
    base: float = 10000.0,
    closed: bool = False,
) -> Fill:
    """Sines and cosines of a sequence's positions, ω = base^(−2j/dim) (Vaswani et al. 2017).

    Use it for frozen tables of positions: interleaved as in the paper, halves as in Marian, Pegasus, RoFormer; halves
    and closed as in Whisper (transformers, models/whisper/modeling_whisper.py).

    Args:
        slot: a table (…, positions, dim).
        layout: ``interleaved`` for sin and cos in turn, ``halves`` for all sines before all cosines.
        base: the longest wavelength over 2π.
        closed: whether the last ω is 1/base exactly: j/(dim/2 − 1) in place of 2j/dim.

    Returns:
        A fixed whole fill.

    Raises:
        ResolveError: the tensor is no table, or base is not positive.

    >>> sinusoidal(Slot("positions.weight", (2, 4))).build(None)[0].tolist()
    [0.0, 1.0, 0.0, 1.0]
    """
    if slot.ndim not in (2, 3) or math.prod(slot.shape[:-2]) != 1:
        raise refuse(f"sinusoidal needs a table of positions by dim, not {list(slot.shape)}.")
    if base <= 0:
        raise refuse(f"base must be positive, got {base:g}.")
    return Sinusoids(slot.shape, layout == "interleaved", base, closed)
