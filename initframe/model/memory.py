"""What kind of tensor it is, and which elements of which memory it is."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import Parameter, UninitializedBuffer, UninitializedParameter


class Footprint(NamedTuple):
    """Which elements of which memory a tensor is; equal footprints are the same elements.

    Attributes:
        space: what the addresses count in: a device, or the storage of one meta tensor.
        start: address of the first byte.
        stop: address after the last byte.
        dtype: of the elements.
        shape: how many there are in each direction (of a DTensor, in this process).
        stride: how far apart they are, in elements.
    """

    space: Hashable
    start: int
    stop: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def is_dense(self) -> bool:
        """Whether every byte between start and stop belongs to an element."""
        return self.stop - self.start == math.prod(self.shape) * self.dtype.itemsize


def is_shapeless(tensor: Tensor) -> bool:
    """Tell whether a tensor has no one shape: it is lazy and has none yet, or nested and has several.

    >>> is_shapeless(torch.nn.LazyLinear(3).weight)
    True
    """
    return is_lazy(tensor) or tensor.is_nested


def is_lazy(tensor: Tensor) -> bool:
    """Tell whether a tensor has no shape yet: that of a layer which is built without its input size.

    >>> is_lazy(torch.nn.LazyLinear(3).weight)
    True
    """
    return _form(type(tensor)) == "lazy"


def is_distributed(tensor: Tensor) -> bool:
    """Tell whether a tensor is a DTensor, without importing torch.distributed.

    >>> is_distributed(torch.zeros(2))
    False
    """
    return _form(type(tensor)) == "distributed"


def memoryless(tensor: Tensor) -> str:
    """Say why a tensor has no memory to read or write, to be read after its name; empty where it has some.

    >>> memoryless(torch.empty(2, device="meta"))
    'is on the meta device'
    """
    form = _form(type(tensor))
    if form == "fake" or (form == "distributed" and _form(type(local(tensor))) == "fake"):
        return "is a FakeTensor"
    return "is on the meta device" if tensor.is_meta else ""


def is_composite(tensor: Tensor) -> bool:
    """Tell whether a tensor is a subclass that is made of other tensors (and no DTensor).

    >>> is_composite(torch.zeros(2))
    False
    """
    return _form(type(tensor)) == "composite"


def is_transformed(tensor: Tensor) -> bool:
    """Tell whether a tensor is what a function under torch.func.vmap or grad is given: a wrapper without memory.

    >>> torch.func.grad(lambda x: x * is_transformed(x))(torch.tensor(2.0))
    tensor(1.)
    """
    return _is_wrapper(tensor)


@lru_cache(maxsize=512)
def _form(cls: type) -> Literal["plain", "lazy", "fake", "distributed", "composite"]:
    """Say by a tensor's class what it is made of."""
    if issubclass(cls, UninitializedParameter | UninitializedBuffer):
        return "lazy"
    if issubclass(cls, FakeTensor):
        return "fake"
    if cls.__name__ == "DTensor" and cls.__module__.startswith("torch.distributed"):
        return "distributed"
    return "composite" if hasattr(cls, "__tensor_flatten__") else "plain"


def local(tensor: Tensor) -> Tensor:
    """Give the tensor that this process holds: a DTensor's shard, any other tensor itself.

    >>> local(torch.ones(1))
    tensor([1.])
    """
    if _form(type(tensor)) != "distributed":
        return tensor
    with torch.no_grad():
        shard: Tensor = tensor.to_local()  # type: ignore[attr-defined]
        return shard


def whole(tensor: Tensor) -> Tensor:
    """Give all of a tensor: a DTensor's shards put together, which all processes of its mesh do at once; else itself.

    >>> whole(torch.ones(1))
    tensor([1.])
    """
    if not is_distributed(tensor):
        return tensor.detach()
    with torch.no_grad():
        gathered: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
        return gathered


def footprint(tensor: Tensor) -> Footprint | int:
    """Say which elements of which memory a tensor is.

    The object does not matter: ``nn.Parameter(other.data)`` is tied to ``other``, and so are the two entries
    of a tied tensor in a state_dict. Meta tensors have storages too, and share them as real ones do.

    Args:
        tensor: any tensor, on any device.

    Returns:
        The footprint; or the ``id`` of an object without memory that others could share: no elements, not materialized,
        not strided, made of other tensors.

    >>> layer = torch.nn.Linear(2, 2)
    >>> footprint(layer.weight) == footprint(layer.state_dict()["weight"])
    True
    """
    return _footprint(tensor, flat=False)


def reach(tensor: Tensor) -> int:
    """Count the elements of memory from a tensor's first to its last one, gaps included; it has some.

    >>> reach(torch.zeros(3, 2)[:, 0])
    5
    """
    if tensor.is_contiguous():
        return tensor.numel()
    return 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))


def elements(tensor: Tensor) -> Footprint | int:
    """Say which elements a tensor is: all dense views of them, transposed or reshaped, have the flat one's footprint.

    >>> weight = torch.zeros(2, 3)
    >>> elements(weight) == elements(weight.t()) == footprint(weight.view(-1))
    True
    """
    return _footprint(tensor, flat=True)


_TORCHS_OWN = frozenset({Tensor, Parameter})
_is_wrapper = torch._C._functorch.is_functorch_wrapped_tensor  # noqa: SLF001


def plain_elements(tensor: Tensor) -> Footprint | None:
    """Say which elements a plain tensor is; ``None`` if it is not plain, so that more has to be asked.

    Plain is what is torch's own, dense, not empty, in memory that is all there and takes writes, or will do so when a
    meta tensor gets some. A library that keeps values elsewhere gives a tensor attributes, or another class.

    >>> weight = torch.zeros(2, 3)
    >>> plain_elements(weight) == elements(weight), plain_elements(weight.t()) is None
    (True, True)
    """
    if type(tensor) not in _TORCHS_OWN or tensor.is_nested or tensor.layout != torch.strided or vars(tensor):
        return None
    if not tensor.is_contiguous() or tensor.is_inference() or _is_wrapper(tensor) or not (count := tensor.numel()):
        return None
    dtype = tensor.dtype
    size = count * dtype.itemsize
    if tensor.is_meta:
        space, start = _address(tensor)
    elif tensor.storage_offset() * dtype.itemsize + size > tensor.untyped_storage().nbytes():
        return None
    else:
        space, start = tensor.device, tensor.data_ptr()
    return Footprint(space, start, start + size, dtype, (count,), (1,))


def _footprint(tensor: Tensor, *, flat: bool) -> Footprint | int:
    held, form = tensor, _form(type(tensor))
    if form == "distributed":
        held = local(tensor)
        form = _form(type(held))
    if form in ("lazy", "composite") or held.is_nested or held.layout != torch.strided or not (count := held.numel()):
        return id(tensor)
    space, start = _address(held)
    if not start and not held.is_meta:
        return id(tensor)
    length, shape, stride = reach(held), tuple(held.shape), held.stride()
    if flat and (held.is_contiguous() or (length == count and not _meets_itself(shape, stride))):
        shape, stride = (count,), (1,)
    return Footprint(space, start, start + length * held.itemsize, held.dtype, shape, stride)


def _address(tensor: Tensor) -> tuple[Hashable, int]:
    """Say where a tensor begins: on its device, or in its storage if there is no data."""
    if tensor.is_meta:
        return tensor.untyped_storage()._cdata, tensor.itemsize * int(tensor.storage_offset())  # noqa: SLF001
    if isinstance(tensor, FakeTensor) or is_transformed(tensor):
        return tensor.device, 0
    return tensor.device, tensor.data_ptr()


def overlaps_itself(tensor: Tensor) -> bool:
    """Tell whether two indices may lead to the same element, as in an expanded tensor.

    >>> overlaps_itself(torch.zeros(1, 3).expand(4, 3))
    True
    """
    return not tensor.is_contiguous() and _meets_itself(tensor.shape, tensor.stride())


def _meets_itself(shape: Sequence[int], stride: Sequence[int]) -> bool:
    furthest = 0
    for step, size in sorted(zip(stride, shape, strict=True)):
        if size > 1:
            if step <= furthest:
                return True
            furthest += step * (size - 1)
    return False
