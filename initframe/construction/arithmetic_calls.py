"""Calls of torch that compute element by element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from initframe.construction import values as v
from initframe.construction.boxes import is_all
from initframe.construction.reads import of, read
from initframe.construction.recorder import Recorder
from initframe.construction.unknown_calls import (
    Arguments,
    Function,
    Named,
    arguments_of,
    repeated,
    tensors_in,
    unknown,
)
from initframe.construction.values import Drawn, Known, Number, Real, Unreadable, Value, Whole
from initframe.fills import Orthogonal, Sparse
from initframe.fills.chain import OPERATIONS


def elementwise(operation: str, *, swapped: bool = False) -> Function:
    """Interpret one operation of a chain."""

    def interpret(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
        return _arithmetic(recorder, func, args, named, operation, swapped=swapped)

    return interpret


def _arithmetic(
    recorder: Recorder, func: Function, args: Arguments, named: Named, operation: str, *, swapped: bool = False
) -> Any:
    """One operation, element by element, in place or not."""
    inputs = [*args, *(named[key] for key in ("other", "exponent") if key in named)]
    strange = {key for key, value in named.items() if value is not None} - {"other", "exponent", "alpha", "input"}
    if strange or not inputs or (operation == "softplus" and len(inputs) > 1):
        return unknown(recorder, func, args, named)
    operands = [of(recorder, one) for one in reversed(inputs)] if swapped else [of(recorder, one) for one in inputs]
    if (alpha := named.get("alpha", 1)) != 1:
        operands[1] = combined("mul", [operands[1], Number(float(alpha))])
    tensors = tensors_in(inputs)
    out = func(*args, **named)
    in_place = (func.__name__.endswith("_") and not func.__name__.endswith("__")) or func.__name__.startswith("__i")
    written = args[0] if in_place else out
    if written.is_meta:
        operands = [
            _held(operand, one) for operand, one in zip(operands, reversed(inputs) if swapped else inputs, strict=True)
        ]
    _settle(
        recorder,
        written,
        operands,
        tensors,
        lambda ins: combined(operation, ins, written),
        fresh=not in_place,
    )
    return out


def _held(operand: Value, tensor: Any) -> Value:
    """An operand with real memory, kept for a result that has none."""
    if isinstance(operand, Real) and isinstance(tensor, Tensor) and not tensor.is_meta:
        return Known(tensor.detach().clone())
    return operand


def clamped(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``clamp``, ``clamp_min``, ``clamp_max``, in place or not."""
    name = func.__name__.rstrip("_")
    keys = {"clamp_min": ("self", "min"), "clamp_max": ("self", "max")}.get(name, ("self", "min", "max"))
    tensor, *limits = arguments_of(keys, args, {**named, "self": named.get("input", named.get("self"))})
    bounds = dict(zip(keys[1:], limits, strict=True))
    low, high = bounds.get("min"), bounds.get("max")
    operands = [of(recorder, tensor)]
    out = func(*args, **named)
    written = args[0] if func.__name__.endswith("_") else out

    def limited(inputs: Sequence[Value]) -> Value:
        value = inputs[0]
        for operation, limit in (("max", low), ("min", high)):
            value = value if limit is None else combined(operation, [value, of(recorder, limit)], written)
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
    in_parts = not fresh and history is not None and history.parts and len(tensors) == 1
    if in_parts and history is not None and is_all(written):
        history.value = history.value and make([history.value, *operands[1:]])
        history.parts = [p._replace(value=make([p.value, *operands[1:]])) for p in history.parts]
        return
    spread = any(
        isinstance(o, Drawn | Whole) and isinstance(t, Tensor) and t.numel() != written.numel()
        for o, t in zip([o for o in operands if o is not None], tensors, strict=False)
    ) and any(t.numel() != written.numel() for t in tensors if t.numel() > 1 or written.numel() == 1)
    value = make(operands)
    if spread and isinstance(value, Drawn | Whole) and not _fits(recorder, tensors, written):
        value = repeated()
    recorder.write(written, value, fresh=fresh)


def _fits(recorder: Recorder, tensors: Sequence[Tensor], written: Tensor) -> bool:
    """Whether every drawn operand has as many elements as the result."""
    drawn = [t for t in tensors if isinstance(read(recorder, t), Drawn | Whole)]
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
            return v.REAL
        return Number(v.computed(operation, numbers, torch.float32 if written is None else written.dtype))
    if any(isinstance(o, Whole) for o in operands):
        return _scaled(operation, operands)
    chains = [o for o in operands if isinstance(o, Drawn)]
    if chains and len(chains) + len(numbers) == len(operands):
        return v.chained(
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
    if isinstance(first, Whole) and len(others) == 1 and isinstance(others[0], Number) and operation in ("mul", "div"):
        factor = others[0].value if operation == "mul" else 1 / others[0].value
        if isinstance(first.fill, Orthogonal):
            return Whole(first.draw, replace(first.fill, gain=first.fill.gain * factor))
        if isinstance(first.fill, Sparse):
            return Whole(first.draw, replace(first.fill, scale=first.fill.scale * abs(factor)))
    return Unreadable(f"{operation} follows on a whole matrix")


def _tabulated(operation: str, operands: Sequence[Value], written: Tensor | None) -> Value:
    """Tables and numbers: computed now."""
    if written is None or not written.is_meta:
        return v.REAL
    if any(isinstance(o, Real) for o in operands):
        return Unreadable("its values were computed from a table and from parameters without memory")
    inputs = [
        o.values if isinstance(o, Known) else torch.tensor(o.value) for o in operands if isinstance(o, Known | Number)
    ]
    return Known(OPERATIONS[operation](*inputs).to(written.dtype).expand(written.shape))
