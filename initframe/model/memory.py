"""Which tensors share memory: wholly (a tie), in part (a hazard), or not at all."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.parameter import is_lazy


class Extent(NamedTuple):
    """The bytes between a tensor's first and last element.

    Attributes:
        space: what the addresses count in: a device, or one meta tensor's storage.
        start: address of the first byte.
        stop: address after the last byte.
    """

    space: Hashable
    start: int
    stop: int


def is_distributed(tensor: Tensor) -> bool:
    """Tell whether a tensor is a DTensor, without importing torch.distributed.

    >>> is_distributed(torch.zeros(2))
    False
    """
    return type(tensor).__name__ == "DTensor" and type(tensor).__module__.startswith("torch.distributed")


def is_composite(tensor: Tensor) -> bool:
    """Tell whether a tensor is a subclass that is made of other tensors (and no DTensor).

    >>> is_composite(torch.zeros(2))
    False
    """
    return hasattr(type(tensor), "__tensor_flatten__") and not is_distributed(tensor)


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


def extent(tensor: Tensor) -> Extent | None:
    """Say which bytes a tensor lies in.

    Args:
        tensor: any tensor, on any device; meta tensors have storages too, and share them like real ones.

    Returns:
        The bytes, or ``None`` where there are none to speak of: no elements, not materialized, not strided, made
        of other tensors.

    >>> whole = torch.zeros(4, 2)
    >>> extent(whole[1:]).stop - extent(whole).start
    32
    """
    if is_lazy(tensor):
        return None
    tensor = local(tensor)
    if tensor.layout != torch.strided or is_composite(tensor) or not tensor.numel():
        return None
    size = tensor.element_size()
    length = size * (1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True)))
    if tensor.is_meta or isinstance(tensor, FakeTensor):
        start = size * int(tensor.storage_offset())
        return Extent(tensor.untyped_storage()._cdata, start, start + length)  # noqa: SLF001
    start = tensor.data_ptr()
    return Extent(tensor.device, start, start + length) if start else None


def identity(tensor: Tensor) -> Hashable:
    """Give a key that two tensors share exactly where they are the same elements of the same memory.

    The object itself is not asked: ``nn.Parameter(other.data)`` is tied to ``other``, and so are the two entries
    of a tied tensor in a state_dict.

    Args:
        tensor: any tensor.

    Returns:
        A hashable key, good for as long as the tensor lives.

    >>> layer = torch.nn.Linear(2, 2)
    >>> identity(layer.weight) == identity(layer.state_dict()["weight"])
    True
    """
    where = extent(tensor)
    if where is None:
        return id(tensor)
    held = local(tensor)
    return where, held.dtype, held.shape, held.stride()


def overlaps_itself(tensor: Tensor) -> bool:
    """Tell whether two indices may lead to the same element, as in an expanded tensor.

    >>> overlaps_itself(torch.zeros(1, 3).expand(4, 3))
    True
    """
    reach = 0
    for step, size in sorted((step, n) for step, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1):
        if step <= reach:
            return True
        reach += step * (size - 1)
    return False


def overlaps(tensors: Sequence[Sequence[Tensor]]) -> dict[int, int]:
    """Find groups of tensors that share part of their memory with another group's.

    The extents are sorted and swept once, so that the cost is that of sorting. Where extents cross but the tensors
    have gaps (columns of one matrix), the elements decide.

    Args:
        tensors: groups of tensors; inside a group, sharing is no matter.

    Returns:
        For each group that shares memory, another one that it shares with.

    >>> flat = torch.zeros(10)
    >>> overlaps([[flat[:6]], [flat[6:]], [flat[4:8]]])
    {0: 2, 2: 0, 1: 2}
    """
    entries = [(where, i, t) for i, group in enumerate(tensors) for t in group if (where := extent(t))]
    entries.sort(key=lambda entry: (str(entry[0].space), entry[0].start))
    found: dict[int, int] = {}
    for cluster in _clusters(entries):
        for one, other in _shared(cluster):
            if one != other:
                found.setdefault(one, other)
                found.setdefault(other, one)
    return found


_Entry = tuple[Extent, int, Tensor]


def _clusters(entries: Sequence[_Entry]) -> Iterator[list[_Entry]]:
    """Split sorted entries where no extent crosses; only what is more than one comes out."""
    cluster: list[_Entry] = []
    stop = 0
    for entry in entries:
        where = entry[0]
        if cluster and (where.space != cluster[0][0].space or where.start >= stop):
            if len(cluster) > 1:
                yield cluster
            cluster = []
        stop = max(stop, where.stop) if cluster else where.stop
        cluster.append(entry)
    if len(cluster) > 1:
        yield cluster


def _shared(cluster: Sequence[_Entry]) -> Iterator[tuple[int, int]]:
    """Pair the groups of a cluster that have an element in common."""
    if all(_is_dense(where, tensor) for where, _, tensor in cluster) or not _is_one_grid(cluster):
        yield from _crossing(cluster)
        return
    unit, start = cluster[0][2].element_size(), cluster[0][0].start
    owner = torch.full(((max(where.stop for where, _, _ in cluster) - start) // unit,), -1)
    for where, group, tensor in cluster:
        held = local(tensor)
        mine = owner.as_strided(held.shape, held.stride(), (where.start - start) // unit)
        if (other := int(mine.max())) >= 0:
            yield group, other
        mine.fill_(group)


def _crossing(cluster: Sequence[_Entry]) -> Iterator[tuple[int, int]]:
    """Pair each group with the one before it that reaches furthest, where it reaches that far."""
    furthest = cluster[0]
    for entry in cluster[1:]:
        if entry[0].start < furthest[0].stop:
            yield furthest[1], entry[1]
        if entry[0].stop > furthest[0].stop:
            furthest = entry


def _is_dense(where: Extent, tensor: Tensor) -> bool:
    """Tell whether a tensor has every byte of its extent."""
    held = local(tensor)
    return where.stop - where.start == held.numel() * held.element_size()


def _is_one_grid(cluster: Sequence[_Entry]) -> bool:
    """Tell whether all elements have one size and stand on multiples of it."""
    unit, start = cluster[0][2].element_size(), cluster[0][0].start
    return all(t.element_size() == unit and (where.start - start) % unit == 0 for where, _, t in cluster)
