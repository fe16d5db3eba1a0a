"""Which tensors share memory: wholly (a tie), in part (a hazard), or not at all."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import is_lazy


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
    if isinstance(local(tensor) if is_distributed(tensor) else tensor, FakeTensor):
        return "is a FakeTensor"
    return "is on the meta device" if tensor.is_meta else ""


def is_composite(tensor: Tensor) -> bool:
    """Tell whether a tensor is a subclass that is made of other tensors (and no DTensor).

    >>> is_composite(torch.zeros(2))
    False
    """
    return _form(type(tensor)) == "composite"


@lru_cache(maxsize=512)
def _form(cls: type) -> Literal["plain", "distributed", "composite"]:
    """Say by a tensor's class what it is made of."""
    if cls.__name__ == "DTensor" and cls.__module__.startswith("torch.distributed"):
        return "distributed"
    return "composite" if hasattr(cls, "__tensor_flatten__") else "plain"


def local(tensor: Tensor) -> Tensor:
    """Give the tensor that this process holds: a DTensor's shard, any other tensor itself.

    >>> local(torch.ones(1))
    tensor([1.])
    """
    if not is_distributed(tensor):
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
    if is_shapeless(tensor):
        return id(tensor)
    held = local(tensor)
    if held.layout != torch.strided or is_composite(held) or not held.numel():
        return id(tensor)
    space, start = _address(held)
    if not start and not held.is_meta:
        return id(tensor)
    shape, stride = held.shape, held.stride()
    length = held.numel() if held.is_contiguous() else 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    return Footprint(space, start, start + length * held.itemsize, held.dtype, shape, stride)


def elements(where: Footprint | int) -> Footprint | int:
    """Give one footprint to all dense views of the same elements: a transposed or reshaped one is the flat one's.

    >>> weight = torch.zeros(2, 3)
    >>> elements(footprint(weight)) == elements(footprint(weight.t())) == footprint(weight.view(-1))
    True
    """
    if isinstance(where, int) or not where.is_dense:
        return where
    reach = 0
    for step, size in sorted((step, size) for step, size in zip(where.stride, where.shape, strict=True) if size > 1):
        if step <= reach:
            return where  # it overlaps itself
        reach += step * (size - 1)
    return where._replace(shape=(math.prod(where.shape),), stride=(1,))


def _address(tensor: Tensor) -> tuple[Hashable, int]:
    """Say where a tensor begins: on its device, or in its storage if there is no data."""
    if tensor.is_meta:
        return tensor.untyped_storage()._cdata, tensor.itemsize * int(tensor.storage_offset())  # noqa: SLF001
    if isinstance(tensor, FakeTensor):
        return tensor.device, 0
    return tensor.device, tensor.data_ptr()


def overlaps_itself(tensor: Tensor) -> bool:
    """Tell whether two indices may lead to the same element, as in an expanded tensor.

    >>> overlaps_itself(torch.zeros(1, 3).expand(4, 3))
    True
    """
    if tensor.is_contiguous():
        return False
    reach = 0
    for step, size in sorted((step, n) for step, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1):
        if step <= reach:
            return True
        reach += step * (size - 1)
    return False


def overlaps(groups: Sequence[Sequence[Footprint]]) -> dict[int, int]:
    """Find groups of tensors that share part of their memory with another group's.

    The footprints are sorted and swept once, so that the cost is that of sorting. Where they cross but have gaps, the
    elements decide: by arithmetic where all are windows of one tensor (columns of a matrix), else on a map of the
    memory. Where that would be large, crossing counts as sharing.

    Args:
        groups: footprints by group; inside a group, sharing is no matter.

    Returns:
        For each group that shares memory, another one that it shares with.

    >>> flat = torch.zeros(10)
    >>> overlaps([[footprint(part)] for part in (flat[:6], flat[6:], flat[4:8])])
    {0: 2, 2: 0, 1: 2}
    """
    found: dict[int, int] = {}
    for one, other in sharing(groups):
        found.setdefault(one, other)
        found.setdefault(other, one)
    return found


def sharing(groups: Sequence[Sequence[Footprint]]) -> Iterator[tuple[int, int]]:
    """Pair the groups that share memory; not all such pairs are given, but enough to reach each group from another.

    >>> flat = torch.zeros(10)
    >>> list(sharing([[footprint(part)] for part in (flat[:6], flat[6:], flat[4:8])]))
    [(0, 2), (2, 1)]
    """
    spaces: dict[Hashable, list[_Claim]] = {}
    for group, parts in enumerate(groups):
        for where in parts:
            spaces.setdefault(where.space, []).append((where, group))
    for cluster in chain.from_iterable(map(_clusters, spaces.values())):
        yield from ((one, other) for one, other in _shared(cluster) if one != other)


_Claim = tuple[Footprint, int]
LARGEST_MAP = 1 << 24
"""Bytes of memory of which a map is made, where nothing else tells whether tensors share elements."""


def _clusters(entries: Sequence[_Claim]) -> Iterator[list[_Claim]]:
    """Sort the entries of one space and split them where no footprint crosses; only several in one come out."""
    cluster: list[_Claim] = []
    stop = 0
    for entry in sorted(entries, key=lambda entry: entry[0].start):
        if entry[0].start >= stop:
            if len(cluster) > 1:
                yield cluster
            cluster = []
        stop = max(stop, entry[0].stop)
        cluster.append(entry)
    if len(cluster) > 1:
        yield cluster


def _shared(cluster: Sequence[_Claim]) -> Iterator[tuple[int, int]]:
    """Pair the groups of a cluster that have an element in common."""
    if all(where.is_dense for where, _ in cluster) or not _is_one_grid(cluster):
        return _crossing(cluster)
    if _are_windows(cluster):
        return _overlapping_windows(cluster)
    extent = max(where.stop for where, _ in cluster) - cluster[0][0].start
    return _meeting(cluster) if extent <= LARGEST_MAP else _crossing(cluster)


def _are_windows(cluster: Sequence[_Claim]) -> bool:
    """Tell whether all are windows of one tensor: their strides are the same, and no row reaches into the next."""
    strides = sorted(cluster[0][0].stride, reverse=True)
    for where, _ in cluster:
        sizes = dict(zip(where.stride, where.shape, strict=True))
        if where.stride != cluster[0][0].stride or len(sizes) < len(strides):
            return False
        reach = 0
        for step in reversed(strides):
            if reach >= step:
                return False
            reach += (sizes[step] - 1) * step
    return True


def _overlapping_windows(cluster: Sequence[_Claim]) -> Iterator[tuple[int, int]]:
    """Pair the groups whose windows of one tensor have an element in common."""
    for i, (one, group) in enumerate(cluster):
        for other, another in cluster[i + 1 :]:
            if other.start >= one.stop:
                break
            sides = sorted(zip(one.stride, one.shape, other.shape, strict=True), reverse=True)
            if _meet((other.start - one.start) // one.dtype.itemsize, sides):
                yield group, another


def _meet(distance: int, sides: Sequence[tuple[int, int, int]]) -> bool:
    """Tell whether indices of two windows differ by a distance; a side is a stride and how far either reaches."""
    if not sides:
        return distance == 0
    (stride, mine, others), *rest = sides
    steps = (distance // stride, distance // stride + 1)  # what is left over is less than a stride either way
    return any(-others < step < mine and _meet(distance - step * stride, rest) for step in steps)


def _crossing(cluster: Sequence[_Claim]) -> Iterator[tuple[int, int]]:
    """Pair each group with the one before it that reaches furthest, if the two cross."""
    furthest = cluster[0]
    for entry in cluster[1:]:
        if entry[0].start < furthest[0].stop:
            yield furthest[1], entry[1]
        if entry[0].stop > furthest[0].stop:
            furthest = entry


def _meeting(cluster: Sequence[_Claim]) -> Iterator[tuple[int, int]]:
    """Pair the groups that lay claim to one element, on a map of the memory."""
    start, unit = cluster[0][0].start, cluster[0][0].dtype.itemsize
    owner = torch.full(((max(where.stop for where, _ in cluster) - start) // unit,), -1)
    for where, group in cluster:
        claim = owner.as_strided(where.shape, where.stride, (where.start - start) // unit)
        yield from ((other, group) for other in claim.unique().tolist() if other >= 0)  # type: ignore[no-untyped-call]
        claim.fill_(group)


def _is_one_grid(cluster: Sequence[_Claim]) -> bool:
    """Tell whether all elements have one size and stand on multiples of it."""
    start, unit = cluster[0][0].start, cluster[0][0].dtype.itemsize
    return all(where.dtype.itemsize == unit and (where.start - start) % unit == 0 for where, _ in cluster)
