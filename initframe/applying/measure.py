"""Measure what tensors hold: moments and digests, which a mesh adds up over its shards."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from initframe import stream
from initframe.applying.placements import held
from initframe.applying.regions import Region
from initframe.model.memory import is_composite, is_distributed, is_shapeless, memoryless
from initframe.plan.report import Measured, Moments

PIECE = 1 << 24
"""Elements that are looked at together, in float32 or wider."""
ROW = 1024
"""Elements whose sum, and whose sum of squares, a processor keeps in the dtype of the tensor."""
FEW = 1 << 16
"""Elements of which torch's std_mean, which goes over them one by one, is fast enough."""


@dataclass(frozen=True)
class Sample:
    """What this process sees of one tensor.

    Attributes:
        count: how many elements.
        mean: their mean; 0 if there are none.
        squares: the sum of their squared distances from the mean.
        digest: the sum of their hashes, modulo 2⁶⁴.
        mesh: the mesh that holds the other parts, if any.
        dims: the dimensions of the mesh that split the tensor.
        nonfinite: how many of the elements are infinite or NaN.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    digest: int = 0
    mesh: Any = None
    dims: tuple[int, ...] = ()
    nonfinite: int = 0

    @property
    def measured(self) -> Measured:
        """The sample, taken for all there is."""
        if not self.count:
            return Measured(Moments(math.nan, math.nan), self.digest)
        return Measured(Moments(self.mean, math.sqrt(self.squares / self.count)), self.digest, self.nonfinite)


@torch.no_grad()
def sample(tensor: Tensor) -> Sample | None:
    """Sample the elements of a tensor that this process holds; no other process takes part.

    Returns:
        The sample; ``None`` in a process outside of the tensor's mesh.

    >>> sample(torch.tensor([1.0, 3.0])).measured.moments
    Moments(mean=2.0, std=1.0)
    """
    if tensor.is_meta:
        return Sample()
    found = bits(tensor)
    local, _ = held(tensor.detach())
    if found is None or not local.numel():
        return found
    parts = [_moments(piece) for piece in _pieces(local)]
    pivot = min((mean for _, mean, _ in parts if math.isfinite(mean)), default=0.0)
    count, first, second = map(sum, zip(*(_about(pivot, *part) for part in parts), strict=True))
    count, mean, squares = _added(pivot, count, first, second)
    strange = 0 if math.isfinite(mean) else nonfinite(local)
    return replace(found, count=count, mean=mean, squares=squares, nonfinite=strange)


@torch.no_grad()
def nonfinite(local: Tensor) -> int:
    """Count the elements that are infinite or NaN.

    >>> nonfinite(torch.tensor([1.0, math.inf, math.nan]))
    2
    """
    pieces = torch.split(local.reshape(-1), PIECE) if local.is_complex() else _pieces(local)
    return sum(piece.numel() - int(piece.isfinite().sum()) for piece in pieces)


@torch.no_grad()
def bits(tensor: Tensor) -> Sample | None:
    """Digest the bits of a tensor, of any dtype.

    Returns:
        A sample without elements; ``None`` where there are no bits to compare: outside of the tensor's mesh, without
        memory or one shape, and in other formats than rows of numbers.

    >>> bits(torch.tensor([True])).digest == bits(torch.tensor([1])).digest
    True
    """
    if is_shapeless(tensor) or memoryless(tensor) or is_composite(tensor) or tensor.is_quantized:
        return None
    mesh, dims = _spread(tensor)
    elsewhere = is_distributed(tensor) and mesh is None
    if elsewhere or tensor.layout != torch.strided or tensor.element_size() > 8:
        return None
    return Sample(digest=digest_of(*held(tensor.detach())), mesh=mesh, dims=dims)


def combine(samples: Sequence[Sample | None]) -> list[Measured | None]:
    """Add up what the processes of each sample's mesh see: two small collectives per mesh.

    Args:
        samples: of the same tensors in the same order on every process of a mesh; ``None`` where there is nothing here.

    Returns:
        Per sample, the moments and the digest of the whole tensor.
    """
    whole = dict(enumerate(samples))
    spread: dict[Any, dict[int, Sample]] = defaultdict(dict)
    for i, one in whole.items():
        if one is not None and one.dims:
            spread[one.mesh, one.dims][i] = one
    for (mesh, dims), parts in spread.items():
        whole |= zip(parts, _reduced(list(parts.values()), mesh, dims), strict=True)
    return [None if one is None else one.measured for one in whole.values()]


def digest_of(local: Tensor, region: Region) -> int:
    """The digest of a region's memory; those of all regions of a tensor add up to the tensor's."""
    if region.is_whole:
        return stream.digest(local)
    return sum(stream.digest(*rows) for rows in region.rows(local.contiguous())) % 2**64


def _spread(tensor: Tensor) -> tuple[Any, tuple[int, ...]]:
    """The mesh of a DTensor and the dimensions of it that split the tensor; none outside of the mesh."""
    if not is_distributed(tensor):
        return None, ()
    sharded: Any = tensor
    if sharded.device_mesh.get_coordinate() is None:
        return None, ()
    dims = (i for i, placement in enumerate(sharded.placements) if not placement.is_replicate())
    return sharded.device_mesh, tuple(dims)


def _pieces(local: Tensor) -> Iterator[Tensor]:
    """The memory in pieces of float32 or wider; complex numbers as two."""
    local = torch.view_as_real(local) if local.is_complex() else local
    flat = local.view(-1) if local.is_contiguous() else local.reshape(-1)
    for piece in torch.split(flat, PIECE):
        yield piece if piece.dtype == torch.float64 else piece.float()


def _moments(piece: Tensor) -> tuple[int, float, float]:
    """Count, mean, and the sum of squared distances from the mean.

    With values that are not finite, the mean is as IEEE 754 has it: ±∞, or NaN if they cancel or one is NaN. The std is
    NaN then.
    """
    count = piece.numel()
    if count >= FEW and (found := _by_sums(piece)):
        return count, *found
    std, mean = (one.item() for one in torch.std_mean(piece, correction=0))
    if math.isnan(mean):  # also if only infinities of one sign are in it
        return count, piece.sum(dtype=torch.float64).item() / count, math.nan
    return count, mean, std * std * count


def _by_sums(piece: Tensor) -> tuple[float, float] | None:
    """Mean and the sum of squared distances from it, by sums over rows: 50 times as fast as torch's std_mean.

    Returns:
        The two; ``None`` where they would cancel, overflow or underflow.
    """
    # A difference of two sums loses as many digits as mean² is larger than the variance, and float32 has no squares
    # below 10⁻³⁸: both are left to std_mean before it shows in the sixth digit.
    count, cut = piece.numel(), piece.numel() // ROW * ROW
    parts = piece[:cut].view(-1, ROW), piece[cut:].view(1, -1)
    mean = sum(part.sum(1).double().sum().item() for part in parts) / count
    square = sum(torch.linalg.vector_norm(part, dim=1).double().square().sum().item() for part in parts) / count
    variance = square - mean * mean
    if not max(mean * mean / 16, 1e-30) < variance < math.inf:
        return None
    return mean, variance * count


def _about(pivot: float, count: int, mean: float, squares: float) -> tuple[int, float, float]:
    """Count, sum and sum of squares of the distances from a pivot; distances, so that nothing cancels."""
    far = mean - pivot
    return count, count * far, squares + count * (far * far)


def _added(pivot: float, count: int, first: float, second: float) -> tuple[int, float, float]:
    """Count, mean and squares again, from sums over the parts."""
    return count, pivot + first / count, max(second - first * first / count, 0.0)  # NaN stays


def _reduced(samples: list[Sample], mesh: Any, dims: tuple[int, ...]) -> list[Sample]:
    """Add samples up over some dimensions of a mesh."""
    import torch.distributed as dist  # noqa: PLC0415  # where there is a mesh, it is loaded

    def over_mesh(rows: Any, operation: Any) -> Any:
        table = torch.tensor(rows, dtype=torch.float64, device=mesh.device_type)
        for dim in dims:
            dist.all_reduce(table, operation, group=mesh.get_group(dim))
        return table.tolist()

    finite = [one.mean if one.count and math.isfinite(one.mean) else math.inf for one in samples]
    pivots = [pivot if pivot < math.inf else 0.0 for pivot in over_mesh(finite, dist.ReduceOp.MIN)]
    sums = over_mesh([_row(one, pivot) for one, pivot in zip(samples, pivots, strict=True)], dist.ReduceOp.SUM)
    return [_whole(pivot, row) for pivot, row in zip(pivots, sums, strict=True)]


def _row(one: Sample, pivot: float) -> tuple[float, ...]:
    """A sample as float64 numbers whose sums are exact where they must be: the digest in halves."""
    about = _about(pivot, one.count, one.mean, one.squares) if one.count else (0, 0.0, 0.0)
    return (*about, one.nonfinite, one.digest >> 32, one.digest & 0xFFFFFFFF)


def _whole(pivot: float, row: Sequence[float]) -> Sample:
    """The sample of the whole tensor from a row of sums."""
    count, first, second, strange, high, low = row
    digest = ((int(high) << 32) + int(low)) % 2**64
    if not count:
        return Sample(digest=digest)
    return Sample(*_added(pivot, int(count), first, second), digest, nonfinite=int(strange))
