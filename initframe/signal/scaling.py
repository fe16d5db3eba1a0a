"""A forward pass, measured or predicted, on which every weight is scaled before its output goes on."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from initframe.applying.apply import apply
from initframe.errors import InitframeError, Problem
from initframe.model.parts import Parts, parts_of
from initframe.plan import Plan
from initframe.signal.batch import as_before, call, failed
from initframe.signal.grid import Grid, scaled
from initframe.signal.moments import average
from initframe.signal.operations import Facts, op_name
from initframe.signal.positions import averaged
from initframe.signal.prepare import Prepared, prepare
from initframe.signal.shapes import storage
from initframe.signal.tuner import Tuner
from initframe.signal.walk import Walk
from initframe.signal.watch import Call, Watch, weights_of


def scale_measured(model: nn.Module, plan: Plan, batch: Any, seed: int, tuner: Tuner) -> None:
    """Run a copy of the model that holds the recipe's own numbers.

    Args:
        model: any module, which is left as it is.
        plan: its.
        batch: what it is called with.
        seed: of the numbers.
        tuner: is asked for the factor of each weight, and keeps it.

    Raises:
        InitframeError: the model cannot run on the batch.
    """
    twin = _copied(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the recipe asks for besides values is told when it is applied
        apply(plan, seed, module=twin)
    parts = parts_of(twin)
    watch = _Scaling(parts, _nothing, weights_of(parts), tuner)
    try:
        with as_before(parts), torch.no_grad(), watch:
            call(twin, batch)
    except Exception as error:
        raise failed(error, watch.where, batch, "calibrate") from error


def _copied(model: nn.Module) -> nn.Module:
    """Copy a model.

    Raises:
        InitframeError: it cannot be copied: fully_shard's cannot, nor can what holds locks, files or processes.
    """
    try:
        return copy.deepcopy(model, _detached(model))
    except Exception as error:
        fact = f"it is measured on a copy, and copying it raised {type(error).__name__}: {str(error).strip()[:400]}"
        fix = 'Calibrate the model before it is sharded or wrapped; the recipe holds for both. Or method="predict".'
        raise InitframeError(Problem("model", fact, "", fix)) from error


def _detached(model: nn.Module) -> dict[int, Any]:
    """Copy the tensors on an autograd graph that modules hold as attributes (a computed weight, a stored activation).

    Returns:
        A memo for :func:`copy.deepcopy`, which refuses such tensors.
    """
    held = (value for module in model.modules() for value in vars(module).values())
    return {id(value): value.detach().clone() for value in held if isinstance(value, Tensor) and not value.is_leaf}


def _nothing(_: Call, __: Tensor) -> None:
    """Nobody needs rows here."""


class _Scaling(Watch):  # type: ignore[no-untyped-call]
    """A watch that sends every weight's output on at the target's size."""

    def __init__(self, parts: Parts, seen: Any, weights: Mapping[int, str], tuner: Tuner) -> None:
        super().__init__(parts, seen, weights)
        self.tuner = tuner

    def operate(self, func: Any, known: Facts, args: Any, kwargs: Any) -> Any:  # noqa: ARG002
        """Run an operation; of one that multiplies with a weight, scale what the weight made."""
        out = func(*args, **kwargs)
        name = self._used(func, args)
        if name is None:
            return out
        bias = _bias(func, args, out)
        part = out if bias is None else out - bias
        squares = [
            _mean(part, part),
            0.0 if bias is None else _mean(part, bias),
            0.0 if bias is None else _mean(bias, bias),
        ]
        factor = self.tuner.factor(name, *squares)
        if factor == 1:
            return out
        return part * factor if bias is None else bias + part * factor

    def _used(self, func: Any, args: Any) -> str | None:
        return used(func, args, self.weights)


def used(func: Any, args: Any, weights: Mapping[int, str]) -> str | None:
    """The weight that an operation multiplies with or looks rows up in, if there is one."""
    if op_name(func) not in ("matmul", "_grouped_mm", "conv", "embedding"):
        return None
    found = [weights.get(storage(t)) for t in args if isinstance(t, Tensor) and t.ndim > 1]
    return next((name for name in found if name is not None), None)


def _bias(func: Any, args: Any, out: Tensor) -> Tensor | None:
    """The bias that an operation added, as it broadcasts over the output."""
    name = func.overloadpacket.__name__
    if name in ("addmm", "baddbmm"):
        return args[0].expand(out.shape)  # type: ignore[no-any-return]
    if name == "convolution" and args[2] is not None:
        return args[2].reshape(1, -1, *[1] * (out.ndim - 2)).expand(out.shape)  # type: ignore[no-any-return]
    return None


def _mean(one: Tensor, other: Tensor) -> float:
    return (one.double() * other.double()).mean().item() if one.numel() else 0.0


def scale_predicted(plan: Plan, batch: Any, tuner: Tuner) -> None:
    """Walk the model, and scale each weight's state where it is first used.

    Args:
        plan: whose model is walked.
        batch: as for :func:`initframe.predict`.
        tuner: is asked for the factor of each weight, and keeps it.

    Raises:
        InitframeError: the model cannot run on the batch.
    """
    prepared = prepare(plan, batch)
    walk = _ScalingWalk(prepared, tuner)
    try:
        prepared.run(walk)
    except Exception as error:
        raise failed(error, walk.where, batch, "calibrate") from error


class _ScalingWalk(Walk):  # type: ignore[no-untyped-call]
    """A walk on which every weight is scaled before its output goes on."""

    def __init__(self, prepared: Prepared, tuner: Tuner) -> None:
        super().__init__(prepared.parts, _nothing, prepared.names, prepared.states, prepared.fake, prepared.rules)
        self.tuner = tuner
        self.state = {prepared.parts.planned(name): tensor for name, tensor in prepared.state.items()}

    def applied(self, operation: Any) -> Any:
        """Apply a rule; of one that multiplies with a weight, twice if the weight gets a factor."""
        found = super().applied(operation)
        args = operation.given.values()
        name = used(operation.func, args, self.weights)
        if name is None or not isinstance(found, Grid):
            return found
        again = name in self.tuner.rows
        factor = self.tuner.factor(name, *self._squares(found, operation))
        if factor == 1 or again:
            return found
        views = [t for t in args if isinstance(t, Tensor) and self.weights.get(storage(t)) == name]
        for tensor in {id(t): t for t in [*views, *([self.state[name]] if name in self.state else [])]}.values():
            self._scale(tensor, factor)
        return super().applied(operation)

    def computed(self, weight: Tensor | None, name: str) -> None:
        """Note a computed weight; it was computed without the factor that it has by now."""
        super().computed(weight, name)
        if weight is not None and name in self.tuner.rows:
            self._scale(weight, self.tuner.rows[name].factor)

    def _scale(self, weight: Tensor, factor: float) -> None:
        state = self.states.get(weight)
        if isinstance(state, Grid):
            self.states.put(weight, scaled(state, factor))

    def _squares(self, found: Grid, operation: Any) -> tuple[float, float, float]:
        square = average(averaged(found).square)
        argument = "bias" if "bias" in operation.given else "self"
        added = operation.func.overloadpacket.__name__ in ("addmm", "baddbmm", "convolution")
        bias = operation.grid(argument) if added and isinstance(operation.given.get(argument), Tensor) else None
        extra = average(averaged(bias).square) if bias is not None else 0.0
        return max(square - extra, 0.0), 0.0, extra
