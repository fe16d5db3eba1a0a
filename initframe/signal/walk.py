"""Walking a forward pass without its memory: fake tensors have shapes, and each has a state.

A tensor's state is a :class:`~initframe.signal.grid.Grid`, or the tensor itself, computed for real, if neither weights
nor inputs lead to it (masks, position tables), or nothing: then nothing that follows from it is predicted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary

from initframe.errors import InitframeError, Problem
from initframe.fills import Fill
from initframe.model.parts import Parts
from initframe.signal.combine import mixture
from initframe.signal.correlations import Source
from initframe.signal.grid import Grid, constant, gaussian, related_as, replace, reshaped, sampled
from initframe.signal.hermite import CDF
from initframe.signal.layout import Layout, sequence
from initframe.signal.moments import average, moments_of
from initframe.signal.operations import Facts, facts
from initframe.signal.shapes import CPU, SIMPLE, UNKNOWN, Shadow, Shapes, form_of, shadow
from initframe.signal.watch import Call, Watch, undispatched

LARGEST = 3 * 2**22
"""Up to how many elements a tensor that depends on nothing is computed for real."""

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
    """

    def __init__(self) -> None:
        self._states = WeakIdKeyDictionary()
        self._bases: dict[int, Any] = {}
        self._distributions = WeakIdKeyDictionary()
        self._broadcast: dict[tuple[int, Layout], tuple[Tensor, Grid]] = {}  # kept, so that no other gets its address
        self.outputs: dict[Source, list[tuple[tuple[Grid, ...], Grid]]] = {}
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
            self._distributions[state] = distribution(state)
        return self._distributions[state]  # type: ignore[no-any-return]

    def broadcast(self, tensor: Tensor, layout: Layout) -> Grid | None:
        """The state as a grid, where it is joined with a tensor of the given layout; see :func:`related_over`."""
        state, grid = self.get(tensor), self.grid(tensor)
        if grid is None or grid.source is None or not isinstance(state, Tensor):
            return grid
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


class Walk(Watch):  # type: ignore[no-untyped-call]
    """A watch that carries states along; while it is entered, no other dispatch mode may be active.

    Args:
        parts: of the model that runs, with fake parameters.
        seen: told each call that has a row, with its fake output.
        weights: names of parameters by storage.
        states: of parameters, buffers and inputs.
        fake: the mode that makes the shapes.
        rules: by the operation's name.
    """

    def __init__(
        self,
        parts: Parts,
        seen: Callable[[Call, Tensor], None],
        weights: Mapping[int, str],
        states: States,
        fake: FakeTensorMode,
        rules: Mapping[str, Rule],
    ) -> None:
        super().__init__(parts, seen, weights)
        self.states, self.fake, self.rules = states, fake, rules
        self.shapes = Shapes(fake)
        self.gaps: dict[str, str] = {}
        self._written: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def operate(self, func: Any, known: Facts, args: Any, kwargs: Any) -> Any:
        """Run an operation on fake tensors, and on the states beside them."""
        inputs: list[Tensor] = []
        key = self.shapes.key(known, args, kwargs, inputs)
        if key is None:
            inputs = _tensors(args) + (_tensors(kwargs) if kwargs else [])
        real, unknown = not known.random, False
        for tensor in inputs:
            state = self.states.get(tensor)
            if not isinstance(state, Tensor):
                real = False
                unknown = unknown or (state is None and tensor.is_floating_point())
        try:
            out = self.shapes.known(key, inputs)
            if out is UNKNOWN:
                out = self._run(func, args, kwargs, key, inputs)
        except (DynamicOutputShapeException, DataDependentOutputException) as error:
            if not real or func.overloadpacket.__name__ == "item":
                raise self._depends(func) from error
            return self._measured(func, args, kwargs)
        outs = [out] if isinstance(out, Tensor) else _tensors(out)
        if real and max([t.numel() for t in (*inputs, *outs)], default=0) <= LARGEST:
            self._compute(func, args, kwargs, outs)
        elif isinstance(out, Tensor | tuple | list):
            self._settle(Operation(known.name, func, _named(known, args, kwargs), out, self.states), outs, unknown)
        return out

    def predicted(self, func: Any, args: Sequence[Any], out: Tensor) -> Tensor:
        """Give the output of an operation that was not dispatched its state, note the operation, and return the output.

        Args:
            func: the operation.
            args: its arguments by position, a matrix of weights as it is kept.
            out: a tensor without memory.
        """
        known = facts(func)
        with undispatched(out):
            self._settle(Operation(known.name, func, _named(known, args, {}), out, self.states), [out])
            self.made(known.name, args if known.weighs else (), out)
        return out

    def _run(self, func: Any, args: Any, kwargs: Any, key: Any, inputs: list[Tensor]) -> Any:
        """Find the outputs of an operation; torch knows no float32 shapes of grouped products."""
        if func.overloadpacket.__name__ == "_grouped_mm":
            shape = (*args[0].shape[:-1], args[1].shape[-1])
            return self.shapes.run(torch.ops.aten.new_empty.default, (args[0], list(shape)), {})
        return self.shapes.found(func, args, kwargs, key, inputs)

    def _depends(self, func: Any) -> InitframeError:
        fact = f"module {self.where!r} decides by values ({func}), which are not there."
        fix = "Measure it with initframe.propagate, or predict a part of the model without that decision."
        return InitframeError(Problem("predict", fact, "", fix))

    def _measured(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operation whose output's shape or value depends on values that are there."""
        result = self._really(func, args, kwargs)
        return tree_map(lambda one: self._faked(one) if isinstance(one, Tensor) else one, result)

    def _faked(self, real: Tensor) -> Tensor:
        out = shadow(form_of(real)._replace(offset=0, stride=real.contiguous().stride()))
        self.states.put(out, real)
        return out

    def _really(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operation on the real tensors; every device is the CPU."""
        given = [self._real(value) for value in args]
        named = {name: self._real(value) for name, value in kwargs.items()}
        if named.get("device") is not None:
            named["device"] = CPU
        return func(*given, **named)

    def _real(self, value: Any) -> Any:
        """An argument with the values of its tensors."""
        if isinstance(value, Tensor):
            return self.states.get(value)
        if type(value) in SIMPLE:
            return value
        return tree_map(lambda one: self.states.get(one) if isinstance(one, Tensor) else one, value)

    def _compute(self, func: Any, args: Any, kwargs: Any, outs: list[Tensor]) -> None:
        """Give the outputs of an operation on real tensors their values."""
        result = self._really(func, args, kwargs)
        for one, value in zip(outs, _tensors(result), strict=False):
            self.states.put(one, value)

    def _settle(self, operation: Operation, outs: list[Tensor], unknown: bool = False) -> None:
        """Find the rule of an operation, and give its outputs their states.

        Args:
            operation: the operation.
            outs: the tensors that it returned.
            unknown: whether a tensor without a state leads to it.
        """
        known = facts(operation.func)
        if unknown and not (known.random and known.mutable):
            found: Any = angle(outs[0]) if known.name in ("cos", "sin") else None
        else:
            found = self.applied(operation)
        given = found if isinstance(found, tuple) else [found] * len(outs)
        for one, state in zip(outs, given, strict=False):
            self._give(one, state, partly=known.mutable and not known.is_view)

    def applied(self, operation: Operation) -> Any:
        """Apply the rule of an operation: a state, one per output, or nothing."""
        rule = self.rules.get(operation.name)
        if rule is None and facts(operation.func).pointwise:
            rule = self.rules["pointwise"]
        try:
            found = rule(operation) if rule else None
        except (
            ArithmeticError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ):  # a form that the rule does not know
            found = None
        first = found[0] if isinstance(found, tuple) and found else found
        if first is None and any(t.is_floating_point() or t.is_complex() for t in _tensors(operation.out)):
            self.gaps.setdefault(operation.name, self.where)
        return found

    def _give(self, tensor: Tensor, state: State, *, partly: bool) -> None:
        """Note a state; what is written into a part of a tensor changes the whole."""
        if isinstance(state, Grid) and state.layout.shape != form_of(tensor).shape:
            state = replace(state, layout=state.layout.fitted(tensor.shape))
        self.states.put(tensor, state)
        base = tensor.base if partly and type(tensor) is Shadow else None
        if base is None or base.numel() <= tensor.numel():
            return
        before = self.states.grid(base)
        if isinstance(state, Grid) and before is not None:
            self._write(base, before, state, tensor.numel() / base.numel())
        elif state is None:
            self.states.put(base, None)

    def _write(self, base: Tensor, before: Grid, state: Grid, share: float) -> None:
        """Note what was written into a share of a tensor: into other places than before, while there are some."""
        layout = state.layout.fitted(base.shape)
        rest, parts = self._written[before] if before in self._written else (before, [])  # noqa: SIM401
        if share + sum(own for own, _ in parts) > 1 + 1e-9:
            rest, parts = before, []
        parts = [*parts, (share, state)]
        left = 1 - sum(own for own, _ in parts)
        shares = [*parts, (left, replace(rest, layout=layout))] if left > 1e-9 else parts
        found = mixture(shares, layout)
        self._written[found] = rest, parts
        self.states.put(base, found)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if type(value) is tuple or type(value) is list:
        found = []
        for one in value:
            if isinstance(one, Tensor):
                found.append(one)
            elif not isinstance(one, PLAIN):
                found += _tensors(one)
        return found
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


PLAIN = (int, float, str, type(None), torch.dtype, torch.device)
"""Arguments that hold no tensors."""


def _named(known: Facts, args: Any, kwargs: Any) -> dict[str, Any]:
    """An operation's arguments by name, defaults included."""
    named = {**known.defaults, **kwargs}
    named.update(zip(known.arguments, args, strict=False))
    return named
