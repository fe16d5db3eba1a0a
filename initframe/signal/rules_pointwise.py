"""Rules of elementwise operations: the operation itself runs on the grid, whatever it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from initframe.signal import rules_complex
from initframe.signal.attention_weights import Weights
from initframe.signal.combine import mixture, product, spread_over, total
from initframe.signal.dependence import UNKNOWN, related
from initframe.signal.grid import Grid, constant, gaussian, independent, remarked, replace, reshaped, scaled
from initframe.signal.hermite import HERMITE, K, W
from initframe.signal.kinship import crossed
from initframe.signal.laws import Law, Line, Table, law_of
from initframe.signal.layout import Layout
from initframe.signal.masks import mask_of
from initframe.signal.moments import Number, average, moments_of
from initframe.signal.operations import facts
from initframe.signal.positions import by_class
from initframe.signal.rectified import Rectified
from initframe.signal.rules_scatter import Totals
from initframe.signal.samples import Samples, rows_of, samples_of
from initframe.signal.states import Operation, Rule, State


def pointwise(op: Operation) -> State:
    """Any elementwise operation, of real or of complex numbers."""
    tensors = _tensor_arguments(op)
    if any(tensor.is_complex() for tensor in tensors.values()):
        return rules_complex.elementwise(op, _pointwise)
    return _pointwise(op)


def _pointwise(op: Operation) -> State:
    """Any elementwise operation, of one source, of constants, or of two sources."""
    if (masked := mask_of(op)) is not None:
        return masked
    tensors = _tensor_arguments(op)
    grids = {name: grid for name, tensor in tensors.items() if (grid := op.states.grid(tensor)) is not None}
    if len(grids) < len(tensors):
        return None
    if (lead := max(grids.values(), key=lambda one: one.classes)).classes > 1:
        grids = {name: by_class(op.known(name), grid, lead) for name, grid in grids.items()}
    layout = _layout(op.shape, list(grids.values()))
    samples = _on_samples(op, grids)
    given, grids = grids, crossed(grids, len(op.shape))
    sources = {id(grid.source): grid for grid in grids.values() if grid.source is not None}
    if len(sources) <= 1:
        found = _on_one_source(op, grids, layout)
        return found if found is None or samples is None else remarked(found, Samples(samples))
    if samples is not None:
        return rows_of(samples, replace(next(iter(sources.values())), layout=layout))
    for name in grids.keys() if grids == given else ():
        grids[name] = op.states.broadcast(tensors[name], layout) or grids[name]
    if not all(grid.weight for grid in grids.values()):
        grids = {name: spread_over(grid, layout) for name, grid in grids.items()}
    if op.name in ("add", "sub") and len(grids) == 2:
        alpha = float(op.given.get("alpha") or 1)
        other = scaled(grids["other"], alpha)
        return _kept_mask(total(grids["self"], other, layout, 1.0 if op.name == "add" else -1.0), grids)
    if op.name == "mul" and len(grids) == 2:
        return _kept_weights(_kept_mask(product(grids["self"], grids["other"], layout), grids), grids)
    if op.name == "div" and grids["other"].remark(Totals):
        return None  # shares of a sum by number, such as a graph's attention: what they share with it is not known
    if op.name == "div" and len(grids) == 2 and bool((grids["other"].values > 0).all()):
        inverse = replace(grids["other"], law=Table(1 / grids["other"].values))
        return product(grids["self"], inverse, layout)
    if op.name in ("addcmul", "addcdiv") and len(grids) == 3:
        return _addcmul(op, grids, layout)
    return _on_two_sources(op, grids, layout) if len(sources) == 2 else None


def _on_samples(op: Operation, grids: Mapping[str, Grid]) -> Tensor | None:
    """Run the operation on samples, if each operand that varies has them."""
    known = {name: samples_of(grid) for name, grid in grids.items()}
    if all(one is None for one in known.values()) or any(
        known[name] is None for name, grid in grids.items() if grid.source is not None
    ):
        return None
    given = dict(op.given)
    for name, samples in known.items():
        given[name] = grids[name].values[:1, :1] if samples is None else samples
    return _called(op, given)


def _addcmul(op: Operation, grids: Mapping[str, Grid], layout: Layout) -> Grid:
    second = grids["tensor2"]
    if op.name == "addcdiv":
        second = replace(second, law=Table(1 / second.values))
    term = product(grids["tensor1"], second, layout)
    return total(grids["self"], scaled(term, float(op.given.get("value") or 1)), layout)


def _tensor_arguments(op: Operation) -> dict[str, Tensor]:
    return {name: value for name, value in op.given.items() if isinstance(value, Tensor) and name != "out"}


def _layout(shape: tuple[int, ...], grids: list[Grid]) -> Layout:
    """The layout of the operand that has the most of the output's dimensions."""
    best = max(grids, key=lambda g: (not g.weight, math.prod(g.layout.shape) if g.layout.dims else 0)).layout
    if best.shape == shape:
        return best
    for other in grids:  # what was broadcast has the meaning that it has there
        for d in range(-min(len(best.dims), len(other.layout.dims)), 0):
            if best.shape[d] == 1 and other.layout.shape[d] == shape[d]:
                best = best.with_dim(d % len(best.dims), other.layout.dims[d])
    return best.fitted(shape)


def _kept_mask(grid: Grid, grids: Mapping[str, Grid]) -> Grid:
    mask = next((g.mask for g in grids.values() if g.mask is not None), None)
    return replace(grid, mask=mask)


def _kept_weights(grid: Grid, grids: Mapping[str, Grid]) -> Grid:
    """Attention's weights after dropout are attention's weights, each larger or gone; times a signal they are none."""
    for one, other in (("self", "other"), ("other", "self")):
        weights = grids[one].remark(Weights)
        if weights and abs(average(grids[other].moments().mean) - 1) < 1e-3:
            return remarked(grid, weights.spread(average(grids[other].moments().square)))
    return grid


def _on_one_source(op: Operation, grids: Mapping[str, Grid], layout: Layout) -> Grid | None:
    """Run the operation on the values; what only scales and shifts needs none."""
    lead = next((g for g in grids.values() if g.source is not None), next(iter(grids.values())))
    numbers = _scale_and_shift(op, grids)
    law = _law(op, grids) if numbers is None else None
    if numbers is not None:
        lead = scaled(lead, *numbers)
    elif law is not None:
        lead = replace(lead, law=law)
    else:
        return None
    return replace(
        lead,
        layout=layout,
        profile=next((g.profile for g in grids.values() if g.profile is not None), None),
        weight=all(grid.weight for grid in grids.values()),
        why=next((g.why for g in grids.values() if g.why), ""),
    )


def _scale_and_shift(op: Operation, grids: Mapping[str, Grid]) -> tuple[float, float] | None:
    """Of an operation with one number, by what it multiplies and what it adds."""
    if op.name not in ("add", "sub", "mul", "div"):
        return None
    one, other = (_number(grids.get(name), op.given.get(name)) for name in ("self", "other"))
    alpha = float(op.given.get("alpha", 1)) * (1.0 if op.name == "add" else -1.0)
    if other is not None:
        if op.name == "div":
            return None if other == 0 or op.given.get("rounding_mode") else (1 / other, 0.0)
        return (other, 0.0) if op.name == "mul" else (1.0, alpha * other)
    if one is None or op.name == "div":
        return None
    return (one, 0.0) if op.name == "mul" else (alpha, one)


def _number(grid: Grid | None, value: Any) -> float | None:
    """The number that an argument is everywhere, if it is one."""
    if grid is None:
        return float(value) if isinstance(value, int | float) else None
    law = grid.law
    return law.mean if grid.source is None and isinstance(law, Line) and isinstance(law.mean, float) else None


def _law(op: Operation, grids: Mapping[str, Grid]) -> Law | None:
    """The law of the operation's result: of a rectified normal in closed form, else by its values."""
    law = next(iter(grids.values())).law
    if (
        op.name in ("relu", "leaky_relu")
        and isinstance(law, Line)
        and isinstance(law.mean, float)
        and 0 < law.std < math.inf
    ):
        return Rectified(law.mean, average(law.std), float(op.given.get("negative_slope", 0.0)))
    classes = max(grid.classes for grid in grids.values())
    given = dict(op.given)
    for name, grid in grids.items():
        values = grid.values if grid.classes in (1, classes) else grid.values.mean(0, keepdim=True)
        given[name] = values if len(values) == classes else values.expand(classes, K)
    found = _called(op, given)
    if found is None or found.shape != (classes, K) or not math.isfinite(found.sum().item()):
        return None
    return law_of(found)


def _called(op: Operation, given: Mapping[str, Any]) -> Tensor | None:
    """Call an overload by its schema's names; in float64, on the CPU."""
    func, known = op.func, facts(op.func)
    if known.mutable:
        func = _functional(func.overloadpacket.__name__.rstrip("_"), func._overloadname)  # noqa: SLF001
        if func is None:
            return None
        known = facts(func)
    positional, named = [], {}
    for name in known.arguments:
        value = given.get(name)
        if name in ("condition", "mask") and isinstance(value, Tensor):
            value = value != 0
        if name not in known.by_name:
            positional.append(value)
        elif name in given and name not in PLACES:
            named[name] = value
    result = func(*positional, **named)
    return result.double() if isinstance(result, Tensor) else None


PLACES = {"dtype", "device", "layout", "pin_memory", "memory_format", "out"}
"""Arguments that say where and how numbers are kept."""


@lru_cache(maxsize=1024)
def _functional(packet: str, overload: str) -> Any:
    """The overload of the same name that writes to nothing."""
    found = getattr(torch.ops.aten, packet, None)
    if found is None:
        return None
    for name in ("Tensor", "default") if overload == "out" else (overload, "default"):
        if name in found.overloads():
            return getattr(found, name)
    return None


def _on_two_sources(op: Operation, grids: Mapping[str, Grid], layout: Layout) -> Grid | None:
    """Run the operation on all pairs of values; what outputs share follows from Hermite coefficients."""
    order = [id(g.source) for g in grids.values() if g.source is not None]
    first = next(g for g in grids.values() if id(g.source) == order[0])
    second = next(g for g in grids.values() if g.source is not None and id(g.source) != order[0])
    given: dict[str, Any] = dict(op.given)
    for name, grid in grids.items():
        row = grid.values.mean(0)
        axis = (
            row[:, None]
            if grid.source is first.source
            else row[None, :]
            if grid.source is second.source
            else row[:1, None]
        )
        given[name] = axis.expand(K, K).clone()
    values = _called(op, given)
    if values is None or values.shape != (K, K) or not bool(values.isfinite().all()):
        return None
    weights = W[:, None] * W[None, :]
    squares = (HERMITE @ values @ HERMITE.T).square()
    mean, square = (values * weights).sum().item(), (values.square() * weights).sum().item()

    def pairs(x: Number, y: Number) -> float:
        one, other = (
            torch.tensor([average(c) ** n for n in range(len(squares))], dtype=torch.float64, device="cpu")
            for c in (x, y)
        )
        return (one @ squares @ other).item()

    if first.source is None or second.source is None:
        return None
    a, b = first.source.correlations.pairs, second.source.correlations.pairs
    moments = moments_of(mean, square, pairs(a.same, b.same), pairs(a.near, b.near), pairs(a.far, b.far))
    why = first.why or second.why or (UNKNOWN if related(first, second) else "")
    like = gaussian(moments, layout, profile=first.profile, spread=first.spread + second.spread, why=why)
    return reshaped(values.reshape(-1), weights.reshape(-1), moments, like)


def chosen(op: Operation) -> State:
    """One of two tensors, by a mask: where the mask is known, a mixture; else the operation runs on the grid."""
    if (masked := mask_of(op)) is not None:
        return masked
    filled_in = op.name == "masked_fill"
    mask = op.known("mask" if filled_in else "condition")
    if mask is None:
        return pointwise(op)
    kept, other = op.grid("self"), op.given["value" if filled_in else "other"]
    rest = op.states.grid(other) if isinstance(other, Tensor) else constant(float(other), Layout(()))
    if kept is None or rest is None:
        return None
    share = mask.double().mean().item()
    share = 1 - share if filled_in else share
    layout = _layout(op.shape, [kept, rest])
    parts = [(s, grid) for s, grid in ((share, kept), (1 - share, rest)) if s > 0]
    if len(parts) == 1:
        return replace(parts[0][1], layout=layout)
    return mixture([(s, spread_over(grid, layout)) for s, grid in parts], layout)


def glu(op: Operation) -> State:
    """One half of the channels, times the sigmoid of the other half."""
    grid = op.grid("self")
    if grid is None or grid.source is None:
        return None
    gate = independent(replace(grid, law=Table(grid.values.sigmoid())))
    return product(grid, gate, grid.layout.fitted(op.shape))


RULES: dict[str, Rule] = {
    "pointwise": pointwise,
    "where": chosen,
    "masked_fill": chosen,
    "glu": glu,
    **dict.fromkeys(
        ("softplus", "hardtanh", "hardswish", "hardsigmoid", "mish", "leaky_relu", "elu", "prelu"), pointwise
    ),
}
