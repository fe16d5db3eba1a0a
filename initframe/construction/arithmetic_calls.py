"""Calls of torch that compute element by element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from initframe.construction.boxes import is_all
from initframe.construction.call import Interpreter, TorchCall, tensors_in
from initframe.construction.recorder import Recorder
from initframe.construction.unknown_calls import unknown
from initframe.construction.values import (
    REAL,
    REPEATED,
    Drawn,
    Number,
    Real,
    Structured,
    Tabulated,
    Unreadable,
    Value,
    chained,
    computed,
)
from initframe.fills import Orthogonal, Sparse
from initframe.fills.chain import OPERATIONS


def elementwise(operation: str, *, swapped: bool = False) -> Interpreter:
    """Interpret one operation of a chain, in place or not."""
    return lambda call: _arithmetic(call, operation, swapped=swapped)


def _arithmetic(call: TorchCall, operation: str, *, swapped: bool) -> Any:
    recorder, named = call.recorder, call.named
    inputs = [*call.args, *(named[key] for key in ("other", "exponent") if key in named)]
    strange = {key for key, value in named.items() if value is not None} - {"other", "exponent", "alpha", "input"}
    if strange or not inputs or (operation == "softplus" and len(inputs) > 1):
        return unknown(call)
    tensors = tensors_in(inputs)
    if swapped:
        inputs.reverse()
    operands = [recorder.operand(one) for one in inputs]
    if (alpha := named.get("alpha", 1)) != 1:
        operands[1] = combined("mul", [operands[1], Number(float(alpha))])
    out = call.run()
    written = call.args[0] if call.is_in_place else out
    if written.is_meta:
        operands = [_held(*pair) for pair in zip(operands, inputs, strict=True)]
    make = partial(combined, operation, written=written)
    _settle(recorder, written, operands, tensors, make, fresh=not call.is_in_place)
    return out


def _held(operand: Value, tensor: Any) -> Value:
    """An operand with real memory, kept for a result that has none."""
    if isinstance(operand, Real) and isinstance(tensor, Tensor) and not tensor.is_meta:
        return Tabulated(tensor.detach().clone())
    return operand


def clamped(call: TorchCall) -> Any:
    """``clamp``, ``clamp_min``, ``clamp_max``, in place or not."""
    recorder = call.recorder
    keys = {"clamp_min": ("min",), "clamp_max": ("max",)}.get(call.name.rstrip("_"), ("min", "max"))
    given, *limits = call.arguments("self", *keys)
    tensor = call.named["input"] if given is None else given
    bounds = dict(zip(keys, limits, strict=True))
    operands = [recorder.operand(tensor)]
    out = call.run()
    written = call.args[0] if call.is_in_place else out

    def limited(values: Sequence[Value]) -> Value:
        value = values[0]
        for operation, limit in (("max", bounds.get("min")), ("min", bounds.get("max"))):
            value = value if limit is None else combined(operation, [value, recorder.operand(limit)], written)
        return value

    _settle(recorder, written, operands, [tensor], limited, fresh=False)
    return out


def _settle(
    recorder: Recorder,
    written: Tensor,
    operands: Sequence[Value],
    tensors: Sequence[Tensor],
    make: Callable[[Sequence[Value]], Value],
    *,
    fresh: bool,
) -> None:
    """Note the result of an operation."""
    history = recorder.history(written)
    if history and history.parts and not fresh and len(tensors) == 1 and is_all(written):
        history.value = history.value and make([history.value, *operands[1:]])
        history.parts = [p._replace(value=make([p.value, *operands[1:]])) for p in history.parts]
        return
    spread = any(
        isinstance(o, Drawn | Structured) and isinstance(t, Tensor) and t.numel() != written.numel()
        for o, t in zip([o for o in operands if o is not None], tensors, strict=False)
    ) and any(t.numel() != written.numel() for t in tensors if t.numel() > 1 or written.numel() == 1)
    value = make(operands)
    if spread and isinstance(value, Drawn | Structured) and not _fits(recorder, tensors, written):
        value = REPEATED
    recorder.write(written, value, fresh=fresh)


def _fits(recorder: Recorder, tensors: Sequence[Tensor], written: Tensor) -> bool:
    """Whether every drawn operand has as many elements as the result."""
    drawn = [t for t in tensors if isinstance(recorder.read(t), Drawn | Structured)]
    return all(t.numel() == written.numel() for t in drawn)


def combined(operation: str, operands: Sequence[Value], written: Tensor | None = None) -> Value:
    """Give the value that an operation makes of others.

    Args:
        operation: a name of :data:`initframe.fills.chain.OPERATIONS`.
        operands: in its order.
        written: the tensor that holds the result.
    """
    if fault := next((o for o in operands if isinstance(o, Unreadable)), None):
        return fault
    if any(o is None for o in operands):
        return Unreadable("it is computed from memory that nobody has written to")
    numbers = [o.value for o in operands if isinstance(o, Number)]
    if len(numbers) == len(operands):
        if written is not None and not written.is_meta:
            return REAL
        return Number(computed(operation, numbers, torch.float32 if written is None else written.dtype))
    if any(isinstance(o, Structured) for o in operands):
        return _scaled(operation, operands)
    chains = [o for o in operands if isinstance(o, Drawn)]
    if chains and len(chains) + len(numbers) == len(operands):
        return chained(
            operation, [o if isinstance(o, Drawn) else o.value for o in operands if isinstance(o, Drawn | Number)]
        )
    if chains:
        return Unreadable(f"a draw and a table are combined ({operation})")
    return _tabulated(operation, operands, written)


def _scaled(operation: str, operands: Sequence[Value]) -> Value:
    """An orthogonal or sparse matrix times a number."""
    first, *others = operands
    if isinstance(first, Number) and others and operation == "mul":
        first, others = others[0], [first]
    factors = [other.value for other in others if isinstance(other, Number)]
    if isinstance(first, Structured) and len(factors) == len(others) == 1 and operation in ("mul", "div"):
        factor = factors[0] if operation == "mul" else 1 / factors[0]
        if isinstance(first.fill, Orthogonal):
            return Structured(first.draw, replace(first.fill, gain=first.fill.gain * factor))
        if isinstance(first.fill, Sparse):
            return Structured(first.draw, replace(first.fill, scale=first.fill.scale * abs(factor)))
    return Unreadable(f"{operation} follows on a whole matrix")


def _tabulated(operation: str, operands: Sequence[Value], written: Tensor | None) -> Value:
    """Tables and numbers: computed now."""
    if written is None or not written.is_meta:
        return REAL
    if any(isinstance(o, Real) for o in operands):
        return Unreadable("its values were computed from a table and from parameters without memory")
    known = [o for o in operands if isinstance(o, Tabulated | Number)]
    inputs = [o.values if isinstance(o, Tabulated) else torch.tensor(o.value) for o in known]
    return Tabulated(OPERATIONS[operation](*inputs).to(written.dtype).expand(written.shape))
