"""Find which elements of a tensor this process holds, from a DTensor's placements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from initframe.applying.regions import Region, Run, Runs, placed
from initframe.errors import Problem, ResolveError
from initframe.model.memory import is_distributed, local


def sharded(
    shape: Sequence[int], mesh: Sequence[int], coordinate: Sequence[int] | None, placements: Sequence[Any]
) -> Region:
    """The region that one process of a mesh holds, found without any process: exact for uneven and strided shards.

    Placements are walked in the mesh's order. ``Shard(dim)`` leaves one of ``torch.chunk``'s pieces of what is
    there along dim; ``_StridedShard(dim, split_factor)``, which fully_shard puts in front of a tensor-parallel
    shard, one piece of each of split_factor pieces; ``Replicate()`` everything.

    Args:
        shape: the whole tensor's shape.
        mesh: the mesh's shape.
        coordinate: where the process stands in the mesh; ``None`` if it does not, and holds nothing.
        placements: of torch.distributed.tensor, one per dimension of the mesh.

    Returns:
        The region.

    Raises:
        ResolveError: a placement is no place, such as ``Partial()``, or unknown.

    >>> from torch.distributed.tensor import Replicate, Shard
    >>> sharded((5, 4), (2, 2), (1, 0), (Shard(0), Replicate())).runs
    (((3, 5),), ((0, 4),))
    """
    whole = Region.whole(tuple(shape))
    if coordinate is None:
        return replace(whole, runs=((),) * len(whole.shape))
    runs = list(whole.runs)
    for parts, index, placement in zip(mesh, coordinate, placements, strict=True):
        dim, strides = _split(placement)
        if dim is not None:
            pieces = (_chunk(_chunk(runs[dim], strides, i), parts, index) for i in range(strides))
            runs[dim] = _joined(run for piece in pieces for run in piece)
    return replace(whole, runs=tuple(runs))


def _split(placement: Any) -> tuple[int | None, int]:
    """The dimension that a placement splits, if any, and into how many strides it is split before."""
    from torch.distributed.tensor import Replicate, Shard  # noqa: PLC0415  # slow to import, and seldom needed
    from torch.distributed.tensor.placement_types import _StridedShard  # noqa: PLC0415

    if isinstance(placement, _StridedShard):
        return placement.dim, int(placement.split_factor)
    if isinstance(placement, Shard):
        return placement.dim, 1
    if isinstance(placement, Replicate):
        return None, 1
    fact = f"it is placed as {placement!r}, so no process holds the value of an element."
    raise ResolveError(Problem("", fact, "Replicate() and Shard(dim) can be filled.", "Redistribute it first."))


def _chunk(runs: Runs, parts: int, index: int) -> Runs:
    """One of the pieces that torch.chunk would cut the indices into, the last ones of which may be empty."""
    size = sum(stop - start for start, stop in runs)
    step = -(-size // parts)
    first, last = index * step, (index + 1) * step
    cut = (
        ((a, b), max(here.start, first) - here.start, min(here.stop, last) - here.start)
        for (a, b), here in placed(runs)
    )
    return tuple((a + low, a + high) for (a, _), low, high in cut if low < high)


def _joined(runs: Iterator[Run]) -> Runs:
    """Runs that follow each other as one."""
    joined: list[Run] = []
    for start, stop in runs:
        if joined and joined[-1][1] == start:
            joined[-1] = joined[-1][0], stop
        else:
            joined.append((start, stop))
    return tuple(joined)


def held(tensor: Tensor) -> tuple[Tensor, Region]:
    """The memory of a tensor in this process, and the region of the whole that it holds.

    Args:
        tensor: a plain tensor, which is all here, or a DTensor.

    Returns:
        The local tensor and its region; nothing of a DTensor whose mesh this process is no part of.

    Raises:
        ResolveError: a DTensor is placed in a way that has no regions; the problem has no subject.

    >>> import torch
    >>> held(torch.empty(2, 3))[1].local_shape
    (2, 3)
    """
    if not is_distributed(tensor):
        return tensor, Region.whole(tuple(tensor.shape))
    spread: Any = tensor
    _demand_mesh_order(spread)
    mesh = spread.device_mesh
    coordinate = mesh.get_coordinate()
    region = sharded(tensor.shape, mesh.shape, coordinate, spread.placements)
    here = local(tensor)
    if coordinate is None:
        return here.new_empty(region.local_shape), region
    if tuple(here.shape) != region.local_shape:
        fact = (
            f"it is placed as {spread.placements}, which is {list(region.local_shape)} of {list(tensor.shape)} here, "
            f"but its local tensor is {list(here.shape)}."
        )
        raise ResolveError(Problem("", fact, fix="Distribute it with distribute_tensor or fully_shard."))
    return here, region


def unplaced(tensor: Tensor) -> Problem | None:
    """Say why it is not known which elements of a tensor are here.

    Returns:
        The problem, without a subject; ``None`` for plain tensors and shards.

    >>> import torch
    >>> unplaced(torch.empty(2, 3)) is None
    True
    """
    if not is_distributed(tensor):
        return None
    try:
        held(tensor)
    except ResolveError as error:
        return error.problems[0]
    return None


def _demand_mesh_order(tensor: Any) -> None:
    """Refuse a DTensor that was split in another order than its mesh's."""
    order = getattr(tensor._spec, "shard_order", None) or ()  # noqa: SLF001 - the only place that says it
    # Strided shards say their order themselves, and some versions of torch say it once more.
    strided = {dim for dim, strides in map(_split, tensor.placements) if strides > 1}
    odd = (list(entry.mesh_dims) != sorted(entry.mesh_dims) for entry in order if entry.tensor_dim not in strided)
    if any(odd):
        fact = f"it is split along its mesh in the order {order}, and only the mesh's own order is known here."
        raise ResolveError(Problem("", fact, fix="Redistribute it to the default order."))
