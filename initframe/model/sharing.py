"""Which tensors share part of their memory, a hazard: what is written to one changes the other."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import torch

from initframe.model.memory import Footprint

Claim = tuple[Footprint, int]
"""Which elements of memory a tensor is, and the group of tensors that it belongs to."""
LARGEST_MAP = 1 << 24
"""Bytes of memory of which a map is made, where nothing else tells whether tensors share elements."""


def sharing(claims: Sequence[Claim]) -> Iterator[tuple[int, int]]:
    """Pair the groups of tensors that share part of their memory.

    The footprints are sorted and swept once, so that the cost is that of sorting. Where they cross but have gaps, the
    elements decide: by arithmetic where all are windows of one tensor (columns of a matrix), else on a map of the
    memory. Where that would be large, crossing counts as sharing.

    Args:
        claims: footprints with their groups; inside a group, sharing is no matter.

    Yields:
        Not all such pairs, but enough to reach each group from another that it shares with.

    >>> from initframe.model.memory import footprint
    >>> flat = torch.zeros(10)
    >>> list(sharing([(footprint(part), i) for i, part in enumerate((flat[:6], flat[6:], flat[4:8]))]))
    [(0, 2), (2, 1)]
    """
    if not _crosses(claims):
        return  # as in most models, whatever the space
    spaces: dict[Hashable, list[Claim]] = {}
    for claim in claims:
        spaces.setdefault(claim[0].space, []).append(claim)
    for entries in spaces.values():
        for cluster in _clusters(entries) if _crosses(entries) else ():
            yield from ((one, other) for one, other in _shared(cluster) if one != other)


def _crosses(claims: Sequence[Claim]) -> bool:
    """Tell whether a footprint begins before another one ends."""
    end = 0
    for start, stop in sorted([(where.start, where.stop) for where, _ in claims]):
        if start < end:
            return True
        end = stop
    return False


def _clusters(entries: Sequence[Claim]) -> Iterator[list[Claim]]:
    """Sort the entries of one space and split them where no footprint crosses; only several in one come out."""
    cluster: list[Claim] = []
    stop = 0
    for entry in sorted(entries, key=lambda entry: entry[0].start):
        where = entry[0]
        if where.start >= stop:
            if len(cluster) > 1:
                yield cluster
            cluster, stop = [], where.stop
        elif where.stop > stop:
            stop = where.stop
        cluster.append(entry)
    if len(cluster) > 1:
        yield cluster


def _shared(cluster: Sequence[Claim]) -> Iterator[tuple[int, int]]:
    """Pair the groups of a cluster that have an element in common."""
    if all(where.is_dense for where, _ in cluster) or not _is_one_grid(cluster):
        return _crossing(cluster)
    if _are_windows(cluster):
        return _overlapping_windows(cluster)
    extent = max(where.stop for where, _ in cluster) - cluster[0][0].start
    return _meeting(cluster) if extent <= LARGEST_MAP else _crossing(cluster)


def _are_windows(cluster: Sequence[Claim]) -> bool:
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


def _overlapping_windows(cluster: Sequence[Claim]) -> Iterator[tuple[int, int]]:
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


def _crossing(cluster: Sequence[Claim]) -> Iterator[tuple[int, int]]:
    """Pair each group with the one before it that reaches furthest, if the two cross."""
    furthest = cluster[0]
    for entry in cluster[1:]:
        if entry[0].start < furthest[0].stop:
            yield furthest[1], entry[1]
        if entry[0].stop > furthest[0].stop:
            furthest = entry


def _meeting(cluster: Sequence[Claim]) -> Iterator[tuple[int, int]]:
    """Pair the groups that lay claim to one element, on a map of the memory."""
    start, unit = cluster[0][0].start, cluster[0][0].dtype.itemsize
    owner = torch.full(((max(where.stop for where, _ in cluster) - start) // unit,), -1)
    for where, group in cluster:
        claim = owner.as_strided(where.shape, where.stride, (where.start - start) // unit)
        yield from ((other, group) for other in claim.unique().tolist() if other >= 0)  # type: ignore[no-untyped-call]
        claim.fill_(group)


def _is_one_grid(cluster: Sequence[Claim]) -> bool:
    """Tell whether all elements have one size and stand on multiples of it."""
    start, unit = cluster[0][0].start, cluster[0][0].dtype.itemsize
    return all(where.dtype.itemsize == unit and (where.start - start) % unit == 0 for where, _ in cluster)
