"""Placements against torch's own splitting, for every process of every small mesh."""

import itertools

import pytest
import torch
from torch.distributed.tensor import Partial, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

from initframe import ResolveError
from initframe.applying.placements import sharded
from initframe.applying.regions import Region


def split_by_torch(size, mesh, coordinate, placements, dim=0):
    """The indices along one dimension that torch leaves to a process."""
    index = torch.arange(size)
    for parts, i, placement in zip(mesh, coordinate, placements, strict=True):
        if not isinstance(placement, Replicate) and placement.dim == dim:
            along = type(placement)(0, split_factor=placement.split_factor) if is_strided(placement) else Shard(0)
            index = along._split_tensor(index, parts, with_padding=False)[0][i]
    return index.tolist()


def is_strided(placement):
    return isinstance(placement, _StridedShard)


def indices(region, dim=0):
    return [i for run in region.runs[dim] for i in range(*run)]


def everywhere(mesh):
    return itertools.product(*map(range, mesh))


@pytest.mark.parametrize(
    ("mesh", "placements"),
    [
        ((3,), (Shard(0),)),
        ((2, 3), (Shard(0), Shard(0))),
        ((3, 2), (_StridedShard(0, split_factor=2), Shard(0))),
        ((2, 3), (_StridedShard(0, split_factor=3), Shard(0))),
        ((2, 2), (_StridedShard(0, split_factor=2), Replicate())),
        ((2, 3, 2), (Replicate(), _StridedShard(0, split_factor=2), Shard(0))),
        ((2, 2, 2), (_StridedShard(0, split_factor=4), _StridedShard(0, split_factor=2), Shard(0))),
    ],
    ids=str,
)
def test_every_process_holds_what_torch_gives_it(mesh, placements):
    for size, coordinate in itertools.product(range(30), everywhere(mesh)):
        region = sharded((size, 2), mesh, coordinate, placements)
        assert indices(region) == split_by_torch(size, mesh, coordinate, placements)
        assert region.runs[1] == ((0, 2),)


def test_runs_that_follow_each_other_are_one():
    region = sharded((8,), (1, 2), (0, 0), (_StridedShard(0, split_factor=2), Replicate()))
    assert region == Region.whole((8,))
    assert region.is_whole


def test_a_strided_shard_has_gaps():
    """torch's own compute_local_shape_and_global_offset says offset 0, length 4 here."""
    region = sharded((8,), (2, 2), (0, 0), (_StridedShard(0, split_factor=2), Replicate()))
    assert region.runs == (((0, 2), (4, 6)),)


@pytest.mark.parametrize("shape", [(7, 5), (6, 3, 4), (1, 1), (13,)])
def test_a_mesh_holds_every_element_once(shape):
    mesh, placements = (3, 2), (_StridedShard(0, split_factor=2), Shard(0))
    seen = torch.zeros(shape, dtype=torch.int)
    for coordinate in everywhere(mesh):
        region = sharded(shape, mesh, coordinate, placements)
        seen[torch.tensor(indices(region), dtype=torch.long)] += 1
    assert (seen == 1).all()


def test_shards_of_two_dimensions_meet():
    region = sharded((5, 6), (2, 3), (1, 2), (Shard(0), Shard(1)))
    assert region.runs == (((3, 5),), ((4, 6),))
    assert not region.is_whole


def test_outside_of_the_mesh_nothing_is_held():
    assert sharded((5, 4), (2,), None, (Shard(0),)).local_shape == (0, 0)


def test_partial_is_no_place():
    with pytest.raises(ResolveError, match=r"Partial.*Redistribute"):
        sharded((4,), (2,), (0,), (Partial(),))
