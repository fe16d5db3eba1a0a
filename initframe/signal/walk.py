"""Walking a forward pass without its memory: fake tensors have shapes, and each has a state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from initframe.model.parts import Parts
from initframe.signal.aliases import aliases
from initframe.signal.batch import place
from initframe.signal.combine import mixture
from initframe.signal.grid import Grid, replace
from initframe.signal.operations import Facts, facts
from initframe.signal.shapes import CPU, SIMPLE, UNKNOWN, Shapes, form_of, shadow
from initframe.signal.states import LARGEST, Operation, Rule, State, States, angle
from initframe.signal.watch import Call, Watch, undispatched


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

    def computed(self, weight: Tensor | None, name: str) -> None:
        """Note a computed weight, and what is assumed of it."""
        super().computed(weight, name)
        if weight is not None and name in self.states.assumed:
            self.states.put(weight, self.states.assumed[name])
            owner, dot, own = name.rpartition(".")
            inside = f"{owner}{dot}parametrizations.{own}"  # what had no rule there ends nothing
            self.gaps = {op: where for op, where in self.gaps.items() if not where.startswith(inside)}

    def _run(self, func: Any, args: Any, kwargs: Any, key: Any, inputs: list[Tensor]) -> Any:
        """Find the outputs of an operation; torch knows no float32 shapes of grouped products."""
        if func.overloadpacket.__name__ == "_grouped_mm":
            shape = (*args[0].shape[:-1], args[1].shape[-1])
            return self.shapes.run(torch.ops.aten.new_empty.default, (args[0], list(shape)), {})
        return self.shapes.found(func, args, kwargs, key, inputs)

    def _depends(self, func: Any) -> InitframeError:
        fact = f"{place(self.where)} decides by values ({func}), which are not there."
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
        for other, share in aliases(tensor) if partly else ():
            before = self.states.grid(other)
            if isinstance(state, Grid) and before is not None:
                self._write(other, before, state, share)
            elif state is None:
                self.states.put(other, None)

    def _write(self, base: Tensor, before: Grid, state: Grid, share: float) -> None:
        """Note what was written into a share of a tensor: into other places than before, while there are some."""
        if share >= 1:
            self.states.put(base, replace(state, layout=before.layout))
            return
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
