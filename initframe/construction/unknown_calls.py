"""Calls of torch that nothing is known of: what they make or change depends on all that they are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from initframe.construction.call import TorchCall, same_memory, tensors_in
from initframe.construction.values import REAL, Drawn, Structured, Tabulated, Unreadable, Value


def unknown(call: TorchCall) -> Any:
    """A function that nothing is known of: what it made or changed depends on all that it was given."""
    given = call.tensors
    before = [_version(tensor) for tensor in given]
    value = depending(call, given)
    out = call.run()
    changed = [tensor for tensor, version in zip(given, before, strict=True) if _version(tensor) != version]
    if not given and isinstance(out, Tensor) and out.is_meta:
        value = _tabled(call, out)
    for tensor in changed:
        known = isinstance(value, Unreadable) or not tensor.is_meta
        call.recorder.write(tensor, value if known else _lost(call), fresh=False)
    for tensor in tensors_in([out]):
        if not any(same_memory(tensor, other) for other in given):
            known = isinstance(value, Unreadable | Tabulated) or not tensor.is_meta
            call.recorder.write(tensor, value if known else _lost(call))
    return out


def depending(call: TorchCall, given: Sequence[Tensor]) -> Value:
    """Give what is known of a result that depends on tensors."""
    found = [call.recorder.read(tensor) for tensor in given]
    if fault := next((value for value in found if isinstance(value, Unreadable)), None):
        return fault
    if any(isinstance(value, Drawn | Structured) for value in found):
        return Unreadable(f"torch's {call.name} is applied to a draw")
    return _lost(call) if any(tensor.is_meta for tensor in given) else REAL


def _tabled(call: TorchCall, out: Tensor) -> Value:
    """What a factory makes from numbers alone (arange, linspace, tensor), made again where it has values."""
    try:
        made = call.function(*call.args, **{**call.named, "device": "cpu"})
    except Exception:  # noqa: BLE001 - not every function takes a device
        return _lost(call)
    fits = isinstance(made, Tensor) and made.shape == out.shape and not made.is_meta
    return Tabulated(made) if fits else _lost(call)


def _lost(call: TorchCall) -> Unreadable:
    return Unreadable(f"torch's {call.name} is applied to parameters without memory")


def _version(tensor: Tensor) -> int:
    try:
        return tensor._version  # noqa: SLF001
    except RuntimeError:  # an inference tensor counts none
        return 0
