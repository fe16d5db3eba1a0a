"""LSTM, GRU and RNN layers, each predicted as one operation by simulating its units through time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from initframe.fills import Fill
from initframe.fills.composed import Blocks
from initframe.signal.grid import Grid, gaussian
from initframe.signal.layout import Factor, Layout
from initframe.signal.moments import Moments, average, moments_of
from initframe.signal.positions import averaged, class_of, edges
from initframe.signal.simulate import CELLS, STEPS, Kernel, Run, Start, Weights, run
from initframe.signal.states import State
from initframe.signal.walk import Walk

T = TypeVar("T")
Facts = Mapping[str, Any]
SIMULATED = "simulated units"


class Asked(NamedTuple):
    """The arguments of torch's recurrent functions."""

    input: Tensor
    start: Any
    weights: Sequence[Tensor]
    has_biases: bool
    layers: int
    dropout: float
    train: bool
    bidirectional: bool
    batch_first: bool


def layer(walk: Walk, *args: Any, kind: str, **kwargs: Any) -> Any:
    """The outputs of a recurrent layer, with their states; nothing for packed sequences."""
    if len(args) != len(Asked._fields) or kwargs or isinstance(args[2], Tensor):
        return None
    asked = Asked(*args)
    x = asked.input
    starts = [asked.start] if isinstance(asked.start, Tensor) else list(asked.start)
    own = asked.weights[1].shape[1] * (2 if asked.bidirectional else 1)
    shapes = [(*x.shape[:-1], own), *(tuple(start.shape) for start in starts)]
    with _disable_current_modes():
        states = predicted(walk, kind, asked, starts)
        if states is None:
            walk.gaps.setdefault(kind, walk.where)
            states = [None, *(None for _ in starts)]
        outs: list[Tensor] = []
        for shape, state in zip(shapes, states, strict=True):
            memory = torch.empty(shape, device="meta")
            if not outs and asked.batch_first and x.ndim > 2:  # torch works with time first
                memory = torch.empty(shape[1], shape[0], shape[2], device="meta").transpose(0, 1)
            outs.append(walk.shapes.empty(shape, memory.stride(), x.dtype))
            walk.states.put(outs[-1], state)
        walk.made(kind, asked.weights, outs[0])
    return tuple(outs)


def predicted(walk: Walk, kind: str, asked: Asked, starts: Sequence[Tensor]) -> list[State] | None:
    """The states of the outputs: of all steps, and after the last one; nothing if an input has none."""
    grid = walk.states.grid(asked.input)
    parts = _weights(walk, kind, asked)
    begins = [walk.states.grid(start) for start in starts]
    if grid is None or parts is None or any(one is None for one in begins):
        return None
    time = 1 if asked.batch_first and asked.input.ndim > 2 else 0
    length = asked.input.shape[time]
    swapped = "position" not in grid.layout.roles(time)
    kernel, steps = kernel_of(grid, length, swapped=swapped), min(length, STEPS)
    start = [_start(one) for one in begins if one is not None]
    if start[0].square and parts[0].projection:
        return None
    cell = start[1] if len(start) > 1 else Start()
    lasts: list[Run] = []
    directions = 2 if asked.bidirectional else 1
    for layer in _groups(parts, directions):
        runs = [run(kind, kernel, layer[0], start[0], cell)]
        if len(layer) > 1:
            back = run(kind, kernel.flipped(), layer[1], start[0], cell)
            runs.append(Run(back.mean.flip(0), back.kernel.flipped(), back.cell))
        lasts += runs
        mean, kernel = _joined(runs)
        if asked.train and asked.dropout and len(lasts) < len(parts):
            own = kernel.own.clone()
            own.diagonal().div_(1 - asked.dropout)
            kernel = Kernel(own, kernel.cross)
    why = grid.why or (SIMULATED if steps == length else f"{SIMULATED}, {steps} steps of {length}")
    facts = {"why": why, "spread": grid.spread_over_seeds, "channels": asked.weights[1].shape[0] // CELLS[kind][0]}
    shape = (*asked.input.shape[:-1], asked.weights[1].shape[1] * directions)
    outputs = _outputs(mean, kernel, length, grid.layout.fitted(shape), swapped=swapped, facts=facts)
    finals = [_final(lasts, starts[0], asked, facts)]
    if len(starts) > 1:
        finals.append(_stacked([one.cell for one in lasts], tuple(starts[1].shape), facts))
    return [outputs, *finals]


def _weights(walk: Walk, kind: str, asked: Asked) -> list[Weights] | None:
    """The weights of each direction of each layer."""
    each = 2 + 2 * asked.has_biases
    projected = len(asked.weights) > each * asked.layers * (1 + asked.bidirectional)
    found = []
    for given in _groups(asked.weights, each + projected):
        grids = [walk.states.grid(one) for one in given]
        if any(one is None for one in grids):
            return None
        squares = [average(one.moments().square) * one.layout.shape[-1] for one in grids if one is not None]
        bias = torch.zeros(2, CELLS[kind][0], 2)
        for i, one in enumerate(grids[2:4] if asked.has_biases else ()):
            if one is not None:
                bias[i] = _by_gate(one, walk.states.fill(one), CELLS[kind][0])
        found.append(Weights(squares[0], squares[1], bias, squares[-1] if projected else 0.0))
    return found


def _groups(values: Sequence[T], size: int) -> list[Sequence[T]]:
    return [values[i : i + size] for i in range(0, len(values), size)]


def _by_gate(grid: Grid, fill: Fill | None, gates: int) -> Tensor:
    """Mean and std of a bias by gate: (gates, 2)."""
    if isinstance(fill, Blocks) and len(fill.fills) == gates and len(set(fill.sizes)) == 1:
        return torch.tensor([[one.mean, one.std] for one in fill.fills])
    m = grid.moments()
    mean, square = average(m.mean), average(m.square)
    return torch.tensor([[mean, max(square - mean**2, 0.0) ** 0.5]]).repeat(gates, 1)


def kernel_of(grid: Grid, length: int, *, swapped: bool) -> Kernel:
    """Mean products of two steps.

    Args:
        grid: of a sequence.
        length: its steps; no more than :data:`STEPS` are told.
        swapped: whether time is where the batch usually is.
    """
    steps = min(length, STEPS)
    same_step = torch.eye(steps, dtype=torch.float64)
    m = averaged(grid) if swapped or grid.classes != len(edges(length)) - 1 else grid.moments()
    if m.classes == 1:
        square, same, near, far = map(average, m[1:5])
        if swapped:
            same, near = near, same
        return Kernel(near + (square - near) * same_step, far + (same - far) * same_step)
    which = torch.tensor([class_of(length, t) for t in range(steps)])
    each = [torch.as_tensor(x)[which][:, None] for x in m[1:3]]
    pairs = [torch.as_tensor(x)[which][:, which] for x in m[3:5]]
    return Kernel(*(torch.where(same_step > 0, one, two) for one, two in zip(each, pairs, strict=True)))


def _start(grid: Grid) -> Start:
    m = averaged(grid)
    return Start(average(m.mean), average(m.square), average(m.same))


def _joined(runs: Sequence[Run]) -> tuple[Tensor, Kernel]:
    """Both directions, one after the other along channels."""
    share = 1 / len(runs)
    kernels = [one.kernel for one in runs]
    mean = torch.stack([one.mean for one in runs]).mean(0)
    own, cross = (torch.stack([k[i] for k in kernels]).sum(0) * share for i in (0, 1))
    return mean, Kernel(own, cross)


def _outputs(mean: Tensor, kernel: Kernel, length: int, layout: Layout, *, swapped: bool, facts: Facts) -> Grid:
    """All steps: by class of positions; averaged if time is where the batch usually is."""
    steps = len(mean)
    where = [min(t, steps - 1) for t in range(length)]
    cuts = [0, length] if swapped else list(edges(length))
    spans = [sorted({where[t] for t in range(a, b)}) for a, b in pairwise(cuts)]
    weight = torch.zeros(len(spans), steps, dtype=torch.float64)
    for k, (a, b) in enumerate(pairwise(cuts)):
        for t in range(a, b):
            weight[k, where[t]] += 1 / (b - a)
    square, same = weight @ kernel.own.diagonal(), weight @ kernel.cross.diagonal()
    near, far = weight @ kernel.own @ weight.T, weight @ kernel.cross @ weight.T
    for k, (a, b) in enumerate(pairwise(cuts)):  # two steps of one class are two different ones
        n = b - a
        if n > 1:
            near[k, k] = (near[k, k] * n - square[k]) / (n - 1)
            far[k, k] = (far[k, k] * n - same[k]) / (n - 1)
    middle = weight @ mean
    if len(spans) > 1:
        return gaussian(Moments(middle, square, same, near, far), layout, **facts)
    pairs = (near.item(), same.item()) if swapped else (same.item(), near.item())
    return gaussian(moments_of(middle.item(), square.item(), *pairs, far.item()), layout, **facts)


def _final(runs: Sequence[Run], start: Tensor, asked: Asked, facts: Facts) -> Grid:
    """The states after the last step, of every direction of every layer."""
    ends = []
    for i, one in enumerate(runs):
        last = 0 if asked.bidirectional and i % 2 else -1
        own, cross = (k[last, last].item() for k in one.kernel)
        ends.append((one.mean[last].item(), own, cross))
    return _stacked(ends, tuple(start.shape), facts)


def _stacked(ends: Sequence[tuple[float, float, float]], shape: tuple[int, ...], facts: Facts) -> Grid:
    """A state for each layer: classes of positions along the first dimension."""
    dims = [(Factor("position", shape[0]),), *([(Factor("batch", shape[1]),)] if len(shape) > 2 else [])]
    layout = Layout((*dims, (Factor("channel", shape[-1]),)))
    if len(edges(shape[0])) - 1 != shape[0] or shape[0] == 1:
        mean, square, same = (sum(one[i] for one in ends) / len(ends) for i in range(3))
        return gaussian(moments_of(mean, square, same, mean**2, mean**2), layout, **facts)
    means, squares, alike = (torch.tensor([one[i] for one in ends], dtype=torch.float64) for i in range(3))
    apart = means[:, None] * means[None, :]
    return gaussian(Moments(means, squares, alike, apart, apart), layout, **facts)
