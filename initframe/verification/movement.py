"""How far a tensor has moved from its start."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from initframe.applying.draw import paint
from initframe.applying.paint_files import chunks
from initframe.applying.piece import Piece
from initframe.fills import Fill
from initframe.verification.read import Promised
from initframe.verification.regenerate import item_of

STEP = 1 << 22
"""Elements that are compared at a time, in float64."""


class Movement(NamedTuple):
    """How far a tensor is from its start: ‖w − w₀‖ / ‖w₀‖, and ⟨w, w₀⟩ / (‖w‖·‖w₀‖); NaN where a norm is 0."""

    distance: float
    cosine: float


def moved_from_law(now: Tensor, promised: Promised, fill: Fill, seed: int) -> Movement:
    """Compare a tensor with what its fill draws, chunk by chunk.

    Args:
        now: the tensor, of the promised shape.
        promised: what a manifest says of it.
        fill: its fill.
        seed: of the stream.

    >>> from initframe.fills import Constant
    >>> promised = Promised("w", shape=(2,), dtype=torch.float32, stream="w")
    >>> moved_from_law(torch.tensor([0.0, 1.0]), promised, Constant(1.0), seed=0).cosine
    0.7071067811865475
    """
    item = item_of(promised, fill)
    flat = now.reshape(-1)

    def pairs() -> Iterable[tuple[Tensor, Tensor]]:
        for region, offset in chunks(item):
            start = torch.empty(region.local_shape, dtype=item.dtype, device="cpu")
            with torch.no_grad():
                paint([Piece(fill, start, region, item.stream)], seed)
            first = offset // item.dtype.itemsize
            yield flat[first : first + start.numel()], start.reshape(-1)

    return _movement(pairs())


def moved_from(now: Tensor, start: Tensor) -> Movement:
    """Compare a tensor with its start.

    Args:
        now: the tensor.
        start: of the same shape.

    >>> moved_from(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
    Movement(distance=1.0, cosine=1.0)
    """
    return _movement([(now.reshape(-1), start.reshape(-1))])


def _movement(pairs: Iterable[tuple[Tensor, Tensor]]) -> Movement:
    apart = now = start = product = 0.0
    for pair in pairs:
        for w, w0 in zip(*(torch.split(part.detach().cpu(), STEP) for part in pair), strict=True):
            a, b = w.double(), w0.double()
            apart += (a - b).square_().sum().item()
            now += a.dot(a).item()
            start += b.dot(b).item()
            product += a.dot(b).item()
    distance = math.sqrt(apart / start) if start else math.inf if apart else 0.0
    norm = math.sqrt(now) * math.sqrt(start)
    return Movement(distance, max(-1.0, min(1.0, product / norm)) if norm and math.isfinite(norm) else math.nan)
