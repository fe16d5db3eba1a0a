"""Calls of torch that nothing is known of: what they make or change depends on all that they are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from initframe.construction import values as v
from initframe.construction.reads import read
from initframe.construction.recorder import Recorder
from initframe.construction.values import Drawn, Known, Unreadable, Value, Whole

Function = Callable[..., Any]
Arguments = tuple[Any, ...]
Named = dict[str, Any]


def unknown(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """A function that nothing is known of: what it made or changed depends on all that it was given."""
    given = tensors_in([args, named])
    before = [_version(tensor) for tensor in given]
    found = [read(recorder, tensor) for tensor in given]
    out = func(*args, **named)
    changed = [tensor for tensor, version in zip(given, before, strict=True) if _version(tensor) != version]
    value = _depends(func, given, found)
    if not given and isinstance(out, Tensor) and out.is_meta:
        value = _tabled(func, args, named, out)
    for tensor in changed:
        recorder.write(
            tensor, value if isinstance(value, Unreadable) or not tensor.is_meta else _lost(func), fresh=False
        )
    for tensor in tensors_in([out]):
        if not any(same_memory(tensor, other) for other in given):
            known = isinstance(value, Unreadable | Known) or not tensor.is_meta
            recorder.write(tensor, value if known else _lost(func))
    return out


def _tabled(func: Function, args: Arguments, named: Named, out: Tensor) -> Value:
    """What a factory makes from numbers alone (arange, linspace, tensor), made again where it has values."""
    try:
        made = func(*args, **{**named, "device": "cpu"})
    except Exception:  # noqa: BLE001 - not every function takes a device
        return _lost(func)
    fits = isinstance(made, Tensor) and made.shape == out.shape and not made.is_meta
    return Known(made) if fits else _lost(func)


def noted(recorder: Recorder, func: Function, given: Sequence[Tensor], out: Tensor) -> Tensor:
    """Note that a new tensor depends on others."""
    recorder.write(out, _depends(func, given, [read(recorder, tensor) for tensor in given]))
    return out


def _depends(func: Function, given: Sequence[Tensor], found: Sequence[Value]) -> Value:
    if fault := next((value for value in found if isinstance(value, Unreadable)), None):
        return fault
    if any(isinstance(value, Drawn | Whole) for value in found):
        return Unreadable(f"torch's {func.__name__} is applied to a draw")
    return _lost(func) if any(t.is_meta for t in given) else v.REAL


def _lost(func: Function) -> Unreadable:
    return Unreadable(f"torch's {func.__name__} is applied to parameters without memory")


def _version(tensor: Tensor) -> int:
    try:
        return tensor._version  # noqa: SLF001
    except RuntimeError:  # an inference tensor counts none
        return 0


def same_memory(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors have one storage."""
    try:
        return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)  # noqa: SLF001
    except (NotImplementedError, RuntimeError):  # a layout without a storage
        return one is other


def tensors_in(values: Any) -> list[Tensor]:
    """All tensors in lists, tuples and mappings."""
    found: list[Tensor] = []
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, Tensor):
            if value.layout == torch.strided:
                found.append(value)
        elif isinstance(value, list | tuple | dict):
            found += tensors_in(value)
    return found


def arguments_of(names: Sequence[str], args: Arguments, named: Named) -> list[Any]:
    """Arguments by their names; ``None`` for one that is not given."""
    return [args[i] if i < len(args) else named.get(name) for i, name in enumerate(names)]


def repeated() -> Unreadable:
    """Say that one draw fills several elements."""
    return Unreadable("one draw is repeated over several elements")
