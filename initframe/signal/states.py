"""The state of every tensor of a predicted pass, and one operation of it, with the states of its arguments.

A tensor's state is a :class:`~initframe.signal.grid.Grid`, or the tensor itself, computed for real, if neither weights
nor inputs lead to it (masks, position tables), or nothing: then nothing that follows from it is predicted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from initframe.fills import Fill
from initframe.signal.correlations import Source
from initframe.signal.grid import Grid, constant, gaussian, related_as, reshaped, sampled
from initframe.signal.hermite import CDF
from initframe.signal.layout import Layout, sequence
from initframe.signal.moments import average, moments_of
from initframe.signal.shapes import Shadow, form_of

LARGEST = 3 * 2**22
"""Up to how many elements a tensor that depends on nothing is computed for real."""

TWINS = 16
"""How many real tensors of one shape are remembered, to find that another one is equal to one of them."""

State = Grid | Tensor | None
Rule = Callable[["Operation"], "State | tuple[State, ...]"]


@dataclass(slots=True, eq=False)
class Operation:
    """One operation of a predicted pass.

    Attributes:
        name: as people know it.
        func: the ATen overload.
        given: its arguments by name.
        out: what it returned, fake.
        states: the states of all tensors so far.
    """

    name: str
    func: Any
    given: Mapping[str, Any]
    out: Any
    states: States

    def __getitem__(self, argument: str) -> Any:
        return self.given[argument]

    def grid(self, argument: str) -> Grid | None:
        """The grid of an argument; of what was computed for real, its distribution."""
        value = self.given.get(argument)
        return self.states.grid(value) if isinstance(value, Tensor) else None

    def known(self, argument: str) -> Tensor | None:
        """The real tensor of an argument, if it was computed for real."""
        value = self.given.get(argument)
        state = self.states.get(value) if isinstance(value, Tensor) else None
        return state if isinstance(state, Tensor) else None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the output, or of the first of several."""
        return form_of(self.out if isinstance(self.out, Tensor) else self.out[0]).shape


class States:
    """The state of every tensor, found by the tensor.

    Attributes:
        outputs: by a weight's normal, what layers were given of late, and their outputs.
        assumed: by name, weights that parametrizations compute in a way that has no rule.
    """

    def __init__(self) -> None:
        self._states = WeakIdKeyDictionary()
        self._distributions = WeakIdKeyDictionary()
        self._broadcast: dict[tuple[int, Layout], tuple[Tensor, Grid]] = {}  # kept, so that no other gets its address
        self.outputs: dict[Source, list[tuple[tuple[Grid, ...], Grid]]] = {}
        self._firsts: dict[tuple[tuple[int, ...], torch.dtype], list[Tensor]] = {}
        self._twins: dict[int, tuple[Tensor, Tensor]] = {}
        self.assumed: dict[str, Grid] = {}
        self._fills: dict[Source, Fill] = {}

    def get(self, tensor: Tensor) -> State:
        """The state of a tensor; a plain real tensor that nobody told of is itself."""
        if type(tensor) is Shadow:
            return tensor.state  # type: ignore[no-any-return]
        known = self._states.get(tensor, self)  # type: ignore[no-untyped-call]
        if known is not self:
            return known  # type: ignore[no-any-return]
        if tensor.is_meta:
            return None
        self._states[tensor] = tensor.detach().clone()
        return self._states[tensor]  # type: ignore[no-any-return]

    def put(self, tensor: Tensor, state: State) -> None:
        """Note a tensor's state."""
        if type(tensor) is Shadow:
            tensor.state = state
        else:
            self._states[tensor] = state

    def drawn(self, grid: Grid, fill: Fill) -> None:
        """Note which fill a parameter's grid stands for."""
        if grid.source is not None:
            self._fills[grid.source] = fill

    def fill(self, grid: Grid) -> Fill | None:
        """The fill of a parameter's grid, whatever it was multiplied with since."""
        return None if grid.source is None else self._fills.get(grid.source)

    def grid(self, tensor: Tensor) -> Grid | None:
        """The state as a grid."""
        state = tensor.state if type(tensor) is Shadow else self.get(tensor)
        if not isinstance(state, Tensor):
            return state
        if state not in self._distributions:
            twin = self._twin(state)
            self._distributions[state] = distribution(state) if twin is state else self._distributions[twin]
        return self._distributions[state]  # type: ignore[no-any-return]

    def _twin(self, state: Tensor) -> Tensor:
        """The first tensor that held these values: what was computed twice, as positions are, is the same."""
        if id(state) not in self._twins:
            known = self._firsts.setdefault((tuple(state.shape), state.dtype), [])
            first = next((one for one in known if torch.equal(one, state)), state)
            if first is state and len(known) < TWINS:
                known.append(state)
            self._twins[id(state)] = (state, first)  # kept, so that no other gets its address
        return self._twins[id(state)][1]

    def broadcast(self, tensor: Tensor, layout: Layout) -> Grid | None:
        """The state as a grid, where it is joined with a tensor of the given layout; see :func:`related_over`."""
        state, grid = self.get(tensor), self.grid(tensor)
        if grid is None or grid.source is None or not isinstance(state, Tensor):
            return grid
        state = self._twin(state)
        key = (id(state), layout)
        if key not in self._broadcast:
            self._broadcast[key] = state, related_over(state, grid, layout)
        return self._broadcast[key][1]


def related_over(values: Tensor, grid: Grid, layout: Layout) -> Grid:
    """The distribution of a real tensor, with the mean products of its own positions.

    Args:
        values: the tensor, the same for every input.
        grid: its distribution.
        layout: of what it is joined with; dimensions are counted from the last.

    Numbers that add up to zero are no independent draws; two of n have the mean product −q/(n − 1):

    >>> x = torch.tensor([[1.0], [-1.0]])
    >>> round(related_over(x, distribution(x), sequence((2, 1))).moments().near, 6)
    -1.0
    """
    offset = len(layout.dims) - values.ndim
    places = [d for d in range(values.ndim) if values.shape[d] > 1 and layout.roles(d + offset) == {"position"}]
    if (
        offset < 0
        or grid.classes > 1
        or any("batch" in layout.roles(d + offset) for d, n in enumerate(values.shape) if n > 1)
    ):
        return grid
    x = values.detach().double().cpu()
    own, every = math.prod(values.shape[d] for d in places), layout.count("position")
    square = grid.moments().square
    near = square
    if own > 1:
        sums = x.sum(places)
        apart = (sums.square().mean().item() * sums.numel() - x.square().sum().item()) / (x.numel() * (own - 1))
        alike = (every / own - 1) / max(every - 1, 1)
        near = alike * average(square) + (1 - alike) * apart
    return related_as(grid, grid.moments()._replace(near=near, far=near))


def distribution(values: Tensor, layout: Layout | None = None, *, weight: bool = False) -> Grid:
    """The grid of a real tensor that is the same for every input.

    >>> round(distribution(torch.tensor([2.0, 2.0])).moments().square, 6)
    4.0
    """
    layout = layout or sequence(values.shape)
    flat = values.detach().reshape(-1).double().cpu()
    if flat.numel() > 65536:
        flat = flat[:: flat.numel() // 65536]
    if not flat.numel() or bool((flat == flat[0]).all()) or not bool(flat.isfinite().all()):
        return constant(flat[0].item() if flat.numel() else 0.0, layout, weight=weight)
    mean, square = flat.mean().item(), flat.square().mean().item()
    like = gaussian(moments_of(mean, square, square, mean**2, mean**2), layout, weight=weight)
    return sampled(flat, moments_of(mean, square, square, mean**2, mean**2), like)


def angle(tensor: Tensor) -> Grid:
    """The sine or cosine of angles that nobody knows: any angle is as likely as another."""
    layout = sequence(tensor.shape)
    moments = moments_of(0.0, 0.5, 0.5)
    like = gaussian(moments, layout, why="angles without values")
    return reshaped(torch.cos(torch.pi * CDF), torch.ones_like(CDF), moments, like)
