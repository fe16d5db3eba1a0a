"""Shapes of operations' outputs, worked out by torch once for each combination of inputs.

torch's fake tensors tell the shape that any operation gives, at the price of a dispatch through many layers. A model
repeats its operations, so what was found once is kept, and the tensor is made directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, in_kernel_invocation_manager

CPU = torch.device("cpu")
LARGEST = 8192
"""How many combinations are kept."""
SIMPLE = (int, float, bool, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)
"""Types of arguments, besides tensors and lists, that an output's shape may depend on."""


class Output(NamedTuple):
    """One output of an operation.

    Attributes:
        source: which tensor argument it shares its memory with; ``None`` for a new tensor.
        same: whether it is that argument.
        shape: its shape.
        stride: its stride.
        offset: where it begins in its memory.
        dtype: its dtype.
        device: the device that it claims.
    """

    source: int | None
    same: bool
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    device: torch.device


class Known(NamedTuple):
    """What an operation returns: a tensor, or a list or tuple of them."""

    outputs: tuple[Output | None, ...]
    kind: type | None


_known: dict[Any, Known] = {}


class Shapes:
    """Makes fake tensors, and runs operations on them.

    Args:
        mode: that they belong to; it need not be active.
    """

    def __init__(self, mode: FakeTensorMode) -> None:
        self.mode = mode

    def empty(
        self, shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype, device: torch.device = CPU
    ) -> Tensor:
        """A new fake tensor; no dispatch mode may be active."""
        memory = torch.empty_strided(shape, stride, dtype=dtype, device="meta")
        return FakeTensor(self.mode, memory, device)

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operation on fake tensors; no dispatch mode may be active."""
        tensors: list[Tensor] = []
        key = _key(func, args, kwargs, tensors)
        if key is not None and (known := _known.get(key)) is not None:
            return self._made(known, tensors)
        with self.mode:
            out = func(*args, **kwargs)
        if key is not None and key == _key(func, args, kwargs, []) and (found := _outputs(out, tensors)):
            if len(_known) >= LARGEST:
                _known.clear()
            _known[key] = found
        return out

    def _made(self, known: Known, tensors: list[Tensor]) -> Any:
        outputs = [None if one is None else self._one(one, tensors) for one in known.outputs]
        return outputs[0] if known.kind is None else known.kind(outputs)

    def _one(self, out: Output, tensors: list[Tensor]) -> Tensor:
        if out.source is None:
            return self.empty(out.shape, out.stride, out.dtype, out.device)
        if out.same:
            return tensors[out.source]
        view = self.empty((0,), (1,), out.dtype, out.device)
        memory = tensors[out.source].untyped_storage()
        with in_kernel_invocation_manager(self.mode):
            view.set_(memory, out.offset, out.shape, out.stride)
        return view


def _key(func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
    """What decides about an operation's outputs, the tensors told; ``None`` if more than that may."""
    try:
        given = [_part(value, tensors) for value in args]
        named = [(name, _part(value, tensors)) for name, value in kwargs.items()]
    except TypeError:
        return None
    return (func, torch.get_default_dtype(), tuple(given), tuple(named))


def _part(value: Any, tensors: list[Tensor]) -> Any:
    """The part of an argument in the key.

    Raises:
        TypeError: more than its shape may decide.
    """
    kind = type(value)
    if kind is FakeTensor:
        if value.constant is not None or value.is_complex():
            raise TypeError
        tensors.append(value)
        return (value.shape, value.stride(), value.storage_offset(), value.dtype, value.fake_device)
    if kind is list or kind is tuple or kind is torch.Size:
        return tuple([_part(one, tensors) for one in value])
    if kind not in SIMPLE:
        raise TypeError
    return (kind, value)


def _outputs(out: Any, tensors: list[Tensor]) -> Known | None:
    """What an operation returned, as it can be made again; ``None`` if it can't."""
    kind = None if isinstance(out, Tensor) else type(out)
    several = (out,) if kind is None else out
    if kind not in (None, list, tuple):
        return None
    found: list[Output | None] = []
    for one in several:
        if one is None:
            found.append(None)
            continue
        if type(one) is not FakeTensor or one.constant is not None or one.is_complex():
            return None
        memory = one.untyped_storage()._cdata  # noqa: SLF001  # data_ptr is 0 for all fake tensors
        source = next((i for i, t in enumerate(tensors) if t is one), None)
        same = source is not None
        if source is None:
            source = next((i for i, t in enumerate(tensors) if t.untyped_storage()._cdata == memory), None)  # noqa: SLF001
        shape, stride = tuple(one.shape), tuple(one.stride())
        found.append(Output(source, same, shape, stride, int(one.storage_offset()), one.dtype, one.fake_device))
    return Known(tuple(found), kind)
