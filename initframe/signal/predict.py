"""Predict the signal from a plan: the forward pass is walked with shapes and moments, without its memory."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from initframe.model.layers import title
from initframe.plan import Plan
from initframe.signal.batch import describe, failed, not_reached, size, tensors
from initframe.signal.grid import Grid
from initframe.signal.moments import average
from initframe.signal.positions import averaged
from initframe.signal.prepare import prepare
from initframe.signal.row import Row
from initframe.signal.shapes import form_of, without_shadows
from initframe.signal.signal import Signal
from initframe.signal.walk import Walk
from initframe.signal.watch import Call


def predict(plan: Plan, batch: Any) -> Signal:
    """Compute from a plan what :func:`initframe.propagate` would measure, without running the model in memory.

    Meanwhile the model has stand-ins for its tensors, so no other thread may use it.

    Args:
        plan: from :func:`initframe.resolve`; its model may be on the meta device, in training or evaluation mode.
        batch: as for :func:`initframe.propagate`. A real one gives its moments and correlation; one on the meta device
            stands for independent N(0, 1), or uniform tokens.

    Returns:
        The signal. Its rows say what is approximated, and the spread to expect over seeds; what follows from an
        operation without a rule has no numbers.

    Raises:
        InitframeError: the model cannot run on the batch, or decides by values.

    >>> import torch
    >>> from torch import nn
    >>> from initframe import resolve
    >>> plan = resolve({"rules": {"*.weight": "kaiming_normal", "*.bias": "zeros"}}, nn.Sequential(nn.Linear(64, 64)))
    >>> round(predict(plan, torch.empty(2, 64, device="meta"))["0"].rms, 2)
    1.41
    """
    with without_shadows():
        return _predicted(plan, batch)


def _predicted(plan: Plan, batch: Any) -> Signal:
    """Walk the forward pass, and give a row for every call."""
    prepared = prepare(plan, batch)
    rows: list[Row] = []
    inputs = size(batch)
    facts: dict[int, tuple[Grid | None, dict[str, Any]]] = {}  # a module and its parents return the same grid

    def seen(call: Call, tensor: Tensor) -> None:
        grid = prepared.states.grid(tensor)
        if grid is not None and grid.mask is not None:
            return  # masked scores are no signal
        if id(grid) not in facts:
            facts[id(grid)] = (grid, _facts(grid))
        found = facts[id(grid)][1]
        shape = form_of(tensor).shape
        if len(shape) < 2 or shape[0] == 1 or shape[0] != inputs:
            found = {**found, "correlation": None}
        rows.append(Row(call.name, call.number, call.op, shape, depth=call.depth, weight=call.weight, **found))

    walk = Walk(prepared.parts, seen, prepared.names, prepared.states, prepared.fake, prepared.rules)
    try:
        prepared.run(walk)
    except Exception as error:
        raise failed(error, walk.where, batch, "predict") from error
    gaps = [
        f"{op} has no rule (first in {where or 'the model'}): nothing behind it is predicted."
        for op, where in walk.gaps.items()
    ]
    left = not_reached(prepared.parts, {row.name for row in rows}, walk.used)
    notes = tuple(filter(None, [_input_note(batch), *gaps, *left]))
    return Signal(title(prepared.model), "predicted", tuple(rows), describe(batch), plan.recipe.name, None, notes)


def _input_note(batch: Any) -> str:
    if any(t.is_meta for t in tensors(batch)):
        return "the batch is on the meta device: independent N(0, 1) numbers, or uniform tokens, are assumed."
    return ""


def _facts(grid: Grid | None) -> dict[str, Any]:
    """The numbers of a row, from the state of its output."""
    if grid is None:
        return {"mean": None, "rms": None, "approximate": "an operation without a rule leads here"}
    m = averaged(grid)
    square, same = average(m.square), average(m.same)
    if grid.layout.dims and grid.layout.roles(0) == {"channel"} and grid.layout.count("batch") > 1:
        same = average(m.mean) ** 2  # the first dimension is that of an ensemble's members
    if not math.isfinite(square):
        return {"mean": None, "rms": None, "approximate": "it is not finite"}
    return {
        "mean": average(m.mean),
        "rms": math.sqrt(max(square, 0.0)),
        "correlation": same / square if square > 0 else None,
        "zeros": grid.law.share_of(0.0),
        "spread": math.sqrt(max(grid.spread_over_seeds, 0.0)),
        "approximate": grid.why,
    }
