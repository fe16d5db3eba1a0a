"""Measure the signal: one forward pass, and a backward pass where a loss is given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from initframe.applying.apply import reshard
from initframe.errors import InitframeError, Problem, shown
from initframe.model.layers import title
from initframe.model.parts import parts_of
from initframe.signal.batch import (
    as_before,
    describe,
    failed,
    no_module,
    not_reached,
    place,
    refusal,
    size,
    unmeasurable,
)
from initframe.signal.measure import Numbers, is_masked, measure
from initframe.signal.operations import Facts
from initframe.signal.row import Row
from initframe.signal.shapes import storage
from initframe.signal.signal import Signal
from initframe.signal.watch import Call, Watch, weights_of

SCALAR = (
    "Give a function of the model's output that returns a scalar tensor, as in lambda output: output.square().mean()."
)


def propagate(model: nn.Module, batch: Any, *, loss: Callable[[Any], Tensor] | None = None, recipe: str = "") -> Signal:
    """Measure what each call of a forward pass produces, and the gradients that reach it.

    The pass starts from the current state of the random number generators. They, modes, buffers (BatchNorm's
    statistics), gradients and weights are afterwards as before, also after an error.

    Args:
        model: any module, in training or evaluation mode as it is.
        batch: a tensor, a tuple of positional arguments, or a mapping of keyword arguments.
        loss: a function of the model's output that returns a scalar; with it, gradients are measured.
        recipe: a name to show.

    Returns:
        The signal: a row per call of a module, and of each operation inside it that matters.

    Raises:
        InitframeError: the model cannot run on the batch, has no gradient path, or changes its weights while running.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    >>> [row.name for row in propagate(model, torch.randn(3, 4)).rows]
    ['0', '1', '']
    """
    if not isinstance(model, nn.Module):
        raise InitframeError(no_module(model))
    parts = parts_of(model)
    if problems := [*refusal(parts, batch), *unmeasurable(parts), *_uncallable(loss)]:
        raise InitframeError(*problems)
    rows = Rows(size(batch))
    watch = Measuring(parts, rows.add, weights_of(parts))
    value: Tensor | None = None
    try:
        with torch.inference_mode(mode=torch.is_inference_mode_enabled() and loss is None), as_before(parts) as buffers:
            with torch.set_grad_enabled(loss is not None), watch:
                output = functional_call(model, buffers, *_arguments(batch), tie_weights=False)
                watch.flush()
            if loss is not None:
                with torch.enable_grad():
                    value = _backward(model, loss, output)
    except Exception as error:
        raise failed(error, watch.where, batch, "propagate") from error
    finally:
        if any(one is not other for one, other in zip(model.parameters(), parts.parameters.values(), strict=False)):
            reshard(model)  # what fully_shard gathered for a pass without gradients stays gathered
    found = rows.finished()
    if not found:
        fact = "no module and no operation returned a floating-point tensor."
        raise InitframeError(Problem("propagate", fact, "", "Give a model whose forward computes with tensors."))
    return Signal(
        title=title(model),
        source="measured",
        rows=found,
        batch=describe(batch),
        recipe=recipe,
        loss=None if value is None else float(value.detach()),
        notes=not_reached(parts, {row.name for row in found}, watch.used),
    )


def _uncallable(loss: object) -> list[Problem]:
    """Refuse a loss that is no function, such as its name."""
    if loss is None or callable(loss):
        return []
    return [Problem("loss", f"got {shown(loss)}, which cannot be called.", "", SCALAR)]


def _arguments(batch: Any) -> tuple[Any, dict[str, Any]]:
    """Positional and keyword arguments, as ``functional_call`` takes them."""
    if isinstance(batch, dict) or hasattr(batch, "keys"):
        return (), dict(batch)
    return (tuple(batch) if isinstance(batch, tuple | list) else (batch,)), {}


class Measuring(Watch):  # type: ignore[no-untyped-call]
    """A watch that refuses what would change a weight."""

    def operate(self, func: Any, known: Facts, args: Any, kwargs: Any) -> Any:
        """Run an operation that writes to no parameter.

        Raises:
            InitframeError: it would write to one.
        """
        if known.mutable:
            for argument, value in zip(func._schema.arguments, args, strict=False):  # noqa: SLF001
                written = argument.alias_info is not None and argument.alias_info.is_write
                if written and isinstance(value, Tensor) and (name := self.weights.get(storage(value))):
                    fact = f"{place(self.where)} writes to it while running ({func})."
                    raise InitframeError(
                        Problem(f"parameter {name!r}", fact, "", "Measure a model whose weights rest.")
                    )
        return func(*args, **kwargs)


class Rows:
    """The rows of a measured pass, and the gradients that arrive later."""

    def __init__(self, inputs: int | None) -> None:
        self.inputs = inputs
        self.made: list[tuple[Call, tuple[int, ...], Numbers]] = []
        self.gradients: dict[int, float] = {}
        self._last: tuple[tuple[Any, ...], Tensor, Numbers] | None = None

    def add(self, call: Call, tensor: Tensor) -> None:
        """Measure the output of a call, and wait for its gradient."""
        numbers = self._measure(tensor, call.kind)
        if numbers is None or ("/" in call.name and not math.isfinite(numbers.rms) and is_masked(tensor)):
            return
        index = len(self.made)
        self.made.append((call, tuple(tensor.shape), numbers))
        if tensor.requires_grad:
            tensor.register_hook(lambda gradient: self._arrived(index, gradient))  # type: ignore[no-untyped-call]

    def _measure(self, tensor: Tensor, kind: str) -> Numbers | None:
        """Measure a tensor once, under however many names a module and its parents return it."""
        key = (storage(tensor), tensor.shape, tensor._version if not tensor.is_inference() else 0)  # noqa: SLF001
        if self._last and self._last[0] == key:
            return self._last[2]
        if torch.is_grad_enabled():
            with torch.no_grad():
                numbers = measure(tensor, self.inputs, kind)
        else:
            numbers = measure(tensor, self.inputs, kind)
        if numbers is not None:
            kept = tensor.detach() if tensor.requires_grad else tensor
            self._last = (key, kept, numbers)  # kept, so that no other tensor gets its address
        return numbers

    def _arrived(self, index: int, gradient: Tensor) -> None:
        numbers = measure(gradient, None)
        if numbers is not None:
            self.gradients[index] = numbers.rms

    def finished(self) -> tuple[Row, ...]:
        """The rows with their gradients."""
        return tuple(
            Row(call.name, call.number, call.op, shape, *numbers, self.gradients.get(i), call.depth, call.weight)
            for i, (call, shape, numbers) in enumerate(self.made)
        )


def _backward(model: nn.Module, loss: Callable[[Any], Tensor], output: Any) -> Tensor:
    """Compute the loss and send its gradient back; ``.grad`` of no parameter is touched.

    Raises:
        InitframeError: the loss is no scalar, or nothing that is trained leads to it.
    """
    try:
        value = loss(output)
    except Exception as error:
        fact = f"it raised {type(error).__name__}: {str(error).strip()[:400]}"
        raise InitframeError(Problem("loss", fact, f"It was given {type(output).__name__} alone.", SCALAR)) from error
    if not isinstance(value, Tensor) or value.numel() != 1:
        what = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise InitframeError(Problem("loss", f"it returned {what}.", "", SCALAR))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not value.requires_grad or not trained:
        fact = "no gradient path leads from it to a trained parameter."
        fix = "Compute it from the output without detaching, and leave some parameter requires_grad."
        raise InitframeError(Problem("loss", fact, "", fix))
    torch.autograd.grad(value, trained, allow_unused=True)
    return value
