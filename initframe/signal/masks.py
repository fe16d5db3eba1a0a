"""Masks of attention's scores: what is hidden from a query."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from initframe.signal.grid import Grid, replace
from initframe.signal.rules_filled import plain_number
from initframe.signal.states import Operation, State

MASKED = -30.0
"""What is smaller than this masks a score."""


def mask_of(op: Operation) -> State:
    """Scores with a mask, if the operation masks scores: what was hidden is noted, not computed."""
    if op.name in ("masked_fill", "where"):
        value = op.given.get("value", op.given.get("other"))
        number = plain_number(op, value)
        if number is None or number > MASKED:
            return None
        grid = op.grid("self")
        hidden = op.known("mask" if op.name == "masked_fill" else "condition")
        if grid is None or not isinstance(op.states.get(op["self"]), Grid):
            return None
        if hidden is None:
            return replace(grid, why="its mask depends on the data")
        seen = ~hidden.bool() if op.name == "masked_fill" else hidden.bool()
        return replace(grid, mask=_and(grid.mask, seen), layout=grid.layout.fitted(op.shape))
    if op.name == "add":
        for known, other in (("other", "self"), ("self", "other")):
            table, grid = op.known(known), op.grid(other)
            if table is not None and table.numel() and grid is not None and float(table.min()) <= MASKED:
                return replace(grid, mask=_and(grid.mask, table > MASKED), layout=grid.layout.fitted(op.shape))
    return None


def _and(one: Any, other: Tensor) -> Tensor:
    return one & other if isinstance(one, Tensor) else other
