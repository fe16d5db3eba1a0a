"""Rules of tensors that are filled with one number, or with another tensor."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from initframe.signal.grid import constant, replace
from initframe.signal.layout import Layout
from initframe.signal.states import LARGEST, Operation, Rule, State


def plain_number(op: Operation, value: Any) -> float | None:
    """An argument's value, if it is one number that is known.

    Args:
        op: the operation.
        value: of the argument.
    """
    if isinstance(value, int | float):
        return float(value)
    state = op.states.get(value) if isinstance(value, Tensor) else None
    return float(state) if isinstance(state, Tensor) and state.numel() == 1 else None


def filled(op: Operation) -> State:
    """A tensor of one number, made with another's shape or dtype: it is computed for real where it is small."""
    name = op.func.overloadpacket.__name__
    value = 0.0 if "zero" in name or "empty" in name else 1.0 if "ones" in name else None
    if value is None:
        value = plain_number(op, op.given.get("fill_value", op.given.get("value", 0.0)))
    if value is None:
        return None
    if math.prod(op.shape) <= LARGEST and not op.func._schema.is_mutable:  # noqa: SLF001
        return torch.full(op.shape, value, dtype=op.out.dtype, device="cpu")
    return constant(value, Layout(()).view(op.shape))


def copied(op: Operation) -> State:
    """The values of another tensor."""
    known = op.known("src")
    if known is not None and known.shape == op.shape:
        return known
    grid = op.grid("src")
    return grid and replace(grid, layout=grid.layout.fitted(op.shape))


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "zero", "fill"), filled
    ),
    **dict.fromkeys(("empty_like", "new_empty", "empty"), filled),
    "copy": copied,
}
