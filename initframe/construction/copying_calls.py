"""Calls of torch that copy values from one tensor to another, whole, in parts or side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from initframe.construction import values as v
from initframe.construction.drawing_calls import scalar
from initframe.construction.reads import pieces, read
from initframe.construction.recorder import Recorder
from initframe.construction.unknown_calls import (
    Arguments,
    Function,
    Named,
    arguments_of,
    noted,
    repeated,
    same_memory,
    tensors_in,
    unknown,
)
from initframe.construction.values import Known, Number, Real, Unreadable, Value


def copied(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``copy_``."""
    tensor, source = arguments_of(("self", "src"), args, named)
    found = read(recorder, source) if source.numel() == tensor.numel() else _expanded(recorder, source, tensor)
    inner = pieces(recorder, source) if source.shape == tensor.shape else None
    out = func(*args, **named)
    if inner and (tensor.is_meta or not isinstance(found, Real)):
        _write_pieces(recorder, source, tensor, inner)
    else:
        recorder.write(tensor, kept(found, source, tensor))
    return out


def kept(found: Value, source: Tensor, tensor: Tensor) -> Value:
    """A value that outlives the source's memory."""
    if isinstance(found, Real) and tensor.is_meta:
        if source.is_meta:
            return Unreadable("its values were computed from parameters without memory")
        return Known(source.detach().to(tensor.dtype).expand(tensor.shape).clone())
    return v.REAL if isinstance(found, Known) and not tensor.is_meta else found


def _expanded(recorder: Recorder, source: Tensor, tensor: Tensor) -> Value:
    """What a source becomes that is repeated over a larger tensor."""
    found = read(recorder, source)
    if isinstance(found, Known):
        return Known(found.values.to(tensor.dtype).expand(tensor.shape).clone())
    return found if isinstance(found, Number | Real | Unreadable | None) else repeated()


def cloned(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``clone``, ``to``, ``contiguous`` and others that give the same values, in new memory or not."""
    source = next(iter(tensors_in([args, named])), None)
    out = func(*args, **named)
    if not isinstance(source, Tensor) or not isinstance(out, Tensor) or same_memory(source, out):
        return out
    if source.numel() != out.numel():
        return noted(recorder, func, [source], out)
    found, inner = read(recorder, source), pieces(recorder, source) if source.shape == out.shape else None
    if inner and (out.is_meta or not isinstance(found, Real)):
        _write_pieces(recorder, source, out, inner)
    else:
        recorder.write(out, kept(found, source, out))
    return out


def _write_pieces(
    recorder: Recorder, source: Tensor, tensor: Tensor, inner: Sequence[tuple[tuple[slice, ...], Value]]
) -> None:
    """Write part by part, as the source was written."""
    for index, value in inner:
        recorder.write(tensor[index], kept(value, source[index], tensor[index]))


def set_item(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``tensor[index] = value``."""
    tensor, index, value = args
    if not _is_plain(index):
        return unknown(recorder, func, args, named)
    part = tensor[index]
    if isinstance(value, Tensor):
        found = read(recorder, value) if value.numel() == part.numel() else _expanded(recorder, value, part)
        found = kept(found, value, part)
    else:
        found = scalar(recorder, value)
    out = func(*args, **named)
    recorder.write(part, found if part.is_meta or not isinstance(found, Known) else v.REAL)
    return out


def padded(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``pad``: a constant that is padded with itself stays one; without any padding, everything stays as it is."""
    tensor, pad, mode, value = arguments_of(("input", "pad", "mode", "value"), args, named)
    found, around = read(recorder, tensor), Number(float(value or 0.0))
    if mode in (None, "constant") and (found == around or not any(pad)):
        out = func(*args, **named)
        if not same_memory(tensor, out):
            recorder.write(out, kept(found, tensor, out))
        return out
    return unknown(recorder, func, args, named)


def _is_plain(index: Any) -> bool:
    """Whether an index gives a view."""
    several = index if isinstance(index, tuple) else (index,)
    return all(i is None or i is Ellipsis or isinstance(i, slice) or type(i) is int for i in several)


def joined(recorder: Recorder, func: Function, args: Arguments, named: Named) -> Any:
    """``cat`` and ``stack``: parts side by side."""
    tensors, dim = arguments_of(("tensors", "dim"), args, named)
    tensors = list(tensors)
    found = [read(recorder, tensor) for tensor in tensors]
    out: Tensor = func(*args, **named)
    if all(isinstance(value, Real | Number | Known) for value in found) and not out.is_meta:
        recorder.write(out, v.REAL)
        return out
    numbers = [n for value in found for n in v.draws(value)]
    if len(set(numbers)) < len(numbers):
        recorder.write(out, repeated())
        return out
    dim, start, stacked = (dim or 0) % out.ndim, 0, func.__name__ == "stack"
    if len({*map(repr, found)}) == 1 and isinstance(found[0], Number):
        recorder.write(out, found[0])
        return out
    for tensor, value in zip(tensors, found, strict=True):
        size = 1 if stacked else tensor.shape[dim]
        if size:
            recorder.write(out.narrow(dim, start, size), kept(value, tensor.unsqueeze(dim) if stacked else tensor, out))
        start += size
    return out
