"""Calls of torch that copy values from one tensor to another, whole, in parts or side by side."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from initframe.construction.call import TorchCall, same_memory
from initframe.construction.recorder import Pieces, Recorder
from initframe.construction.unknown_calls import depending, unknown
from initframe.construction.values import REAL, REPEATED, Number, Real, Tabulated, Unreadable, Value, draws


def copied(call: TorchCall) -> Any:
    """``copy_``."""
    recorder = call.recorder
    tensor, source = call.arguments("self", "src")
    found = recorder.read(source) if source.numel() == tensor.numel() else _expanded(recorder, source, tensor)
    inner = recorder.pieces(source) if source.shape == tensor.shape else None
    out = call.run()
    _write(recorder, source, tensor, found, inner)
    return out


def cloned(call: TorchCall) -> Any:
    """``clone``, ``to``, ``contiguous`` and others that give the same values, in new memory or not."""
    recorder, source = call.recorder, next(iter(call.tensors), None)
    out = call.run()
    if not isinstance(source, Tensor) or not isinstance(out, Tensor) or same_memory(source, out):
        return out
    if source.numel() != out.numel():
        recorder.write(out, depending(call, [source]))
        return out
    inner = recorder.pieces(source) if source.shape == out.shape else None
    _write(recorder, source, out, recorder.read(source), inner)
    return out


def set_item(call: TorchCall) -> Any:
    """``tensor[index] = value``."""
    recorder = call.recorder
    tensor, index, value = call.args
    if not _is_plain(index):
        return unknown(call)
    part = tensor[index]
    if isinstance(value, Tensor):
        found = recorder.read(value) if value.numel() == part.numel() else _expanded(recorder, value, part)
        found = _kept(found, value, part)
    else:
        found = recorder.number(value)
    out = call.run()
    recorder.write(part, found if part.is_meta or not isinstance(found, Tabulated) else REAL)
    return out


def padded(call: TorchCall) -> Any:
    """``pad``: a constant that is padded with itself stays one; without any padding, everything stays as it is."""
    tensor, pad, mode, value = call.arguments("input", "pad", "mode", "value")
    found, around = call.recorder.read(tensor), Number(float(value or 0.0))
    if mode not in (None, "constant") or (found != around and any(pad)):
        return unknown(call)
    out = call.run()
    if not same_memory(tensor, out):
        call.recorder.write(out, _kept(found, tensor, out))
    return out


def joined(call: TorchCall) -> Any:
    """``cat`` and ``stack``: parts side by side."""
    recorder = call.recorder
    tensors, dim = call.arguments("tensors", "dim")
    found = [recorder.read(tensor) for tensor in tensors]
    out: Tensor = call.run()
    if not out.is_meta and all(isinstance(value, Real | Number | Tabulated) for value in found):
        recorder.write(out, REAL)
        return out
    numbers = [n for value in found for n in draws(value)]
    if len(set(numbers)) < len(numbers):
        recorder.write(out, REPEATED)
        return out
    if len({*map(repr, found)}) == 1 and isinstance(found[0], Number):
        recorder.write(out, found[0])
        return out
    dim, start, stacked = (dim or 0) % out.ndim, 0, call.name == "stack"
    for tensor, value in zip(tensors, found, strict=True):
        size = 1 if stacked else tensor.shape[dim]
        if size:
            source = tensor.unsqueeze(dim) if stacked else tensor
            recorder.write(out.narrow(dim, start, size), _kept(value, source, out))
        start += size
    return out


def _kept(found: Value, source: Tensor, tensor: Tensor) -> Value:
    """A value that outlives the source's memory."""
    if isinstance(found, Real) and tensor.is_meta:
        if source.is_meta:
            return Unreadable("its values were computed from parameters without memory")
        return Tabulated(source.detach().to(tensor.dtype).expand(tensor.shape).clone())
    return REAL if isinstance(found, Tabulated) and not tensor.is_meta else found


def _expanded(recorder: Recorder, source: Tensor, tensor: Tensor) -> Value:
    """What a source becomes that is repeated over a larger tensor."""
    found = recorder.read(source)
    if isinstance(found, Tabulated):
        return Tabulated(found.values.to(tensor.dtype).expand(tensor.shape).clone())
    return found if isinstance(found, Number | Real | Unreadable | None) else REPEATED


def _write(recorder: Recorder, source: Tensor, tensor: Tensor, found: Value, inner: Pieces | None) -> None:
    """Note that a tensor holds what a source holds, part by part if the source was written in parts."""
    if inner and (tensor.is_meta or not isinstance(found, Real)):
        for index, value in inner:
            recorder.write(tensor[index], _kept(value, source[index], tensor[index]))
    else:
        recorder.write(tensor, _kept(found, source, tensor))


def _is_plain(index: Any) -> bool:
    """Whether an index gives a view."""
    several = index if isinstance(index, tuple) else (index,)
    return all(i is None or i is Ellipsis or isinstance(i, slice) or type(i) is int for i in several)
