"""Rules of operations that draw numbers: dropout, and tensors of random numbers."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from initframe.signal.attention_weights import Weights
from initframe.signal.grid import Grid, gaussian, joint, remarked, replace, reshaped
from initframe.signal.hermite import CDF, W
from initframe.signal.layout import Layout
from initframe.signal.moments import average, moments_of
from initframe.signal.quantiles import of_weighted
from initframe.signal.states import Operation, Rule, State


def dropout(op: Operation) -> tuple[State, ...]:
    """Dropout: elements are zero with probability p, and the others larger."""
    grid = op.grid("input")
    p = float(op["p"]) if op.given.get("train") is not False else 0.0
    if grid is None:
        return (None, None)
    found, weights = replace(dropped(grid, p), mask=grid.mask), grid.remark(Weights)
    return (remarked(found, weights.spread(1 / max(1 - p, 1e-12))) if weights else found, None)


def dropped(grid: Grid, p: float) -> Grid:
    """A grid after dropout: the mean square grows by 1/(1 − p), what two elements share does not."""
    if p <= 0:
        return grid
    m = grid.moments()
    square = m.square / max(1 - p, 1e-12)
    field = m.field
    if field is not None:
        field = field.clone()
        field[0, 0] = average(square)
    like = gaussian(m._replace(square=square, field=field), grid.layout, profile=grid.profile, **grid.kept)
    if grid.classes > 1:
        return like
    first, second, third, fourth = grid.law.powers
    powers = (first, second / (1 - p), third / (1 - p) ** 2, fourth / (1 - p) ** 3)
    zeros = p + (1 - p) * grid.law.share_of(0.0)
    return joint(lambda: _dropped(grid, p), m._replace(square=square, field=field), like, powers, zeros)


def _dropped(grid: Grid, p: float) -> Tensor:
    """The quantiles of what dropout leaves."""
    values = torch.cat([grid.values[0] / (1 - p), torch.zeros(1, dtype=torch.float64, device="cpu")])
    return of_weighted(values, torch.cat([W * (1 - p), torch.tensor([p], dtype=torch.float64, device="cpu")]))


def drawn(op: Operation) -> State:
    """New random numbers."""
    layout = Layout(()).view(op.shape)
    name = op.func.overloadpacket.__name__
    if name.startswith("randn") or name == "normal_":
        return gaussian(moments_of(0.0, 1.0), layout)
    if name.startswith("bernoulli"):
        p = op.given.get("p", 0.5)
        if not isinstance(p, int | float):
            return None
        values, weights = torch.tensor([[0.0, 1.0], [1 - p, p]], dtype=torch.float64, device="cpu")
        moments = moments_of(p, p, p * p, p * p, p * p)
        quantiles = partial(of_weighted, values, weights.clamp_min(1e-12))
        return joint(quantiles, moments, gaussian(moments, layout), (p, p, p, p), 1 - p)
    if name.startswith("rand") or name == "uniform_":
        moments = moments_of(1 / 2, 1 / 3, 1 / 4, 1 / 4, 1 / 4)
        return reshaped(CDF, W, moments, gaussian(moments, layout))
    return None


RULES: dict[str, Rule] = {
    "native_dropout": dropout,
    **dict.fromkeys(("randn", "randn_like", "normal", "rand", "rand_like", "uniform", "bernoulli"), drawn),
}
