"""16,384 processes without a process: shards of a model with 405 billion parameters, each computed alone."""

import itertools
import math
import random

import pytest
import torch
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

from initframe import Normal, fill_, stream
from initframe.applying.placements import sharded

MESHES = {
    "replicas × shards × tensor parallel": (16, 128, 8),
    "shards × tensor parallel": (2048, 8),
    "shards": (16384,),
}
# Llama 3.1 405B. A strided shard stands where fully_shard splits a dimension that tensor parallelism has split.
SHAPES = {
    "tok_embeddings.weight": ((128256, 16384), "columns"),
    "layers.7.attention.wq.weight": ((16384, 16384), "columns"),
    "layers.7.attention.wk.weight": ((1024, 16384), "columns"),
    "layers.7.feed_forward.w1.weight": ((53248, 16384), "columns"),
    "layers.7.feed_forward.w2.weight": ((16384, 53248), "rows"),
    "layers.7.attention_norm.weight": ((16384,), "everywhere"),
    "an.uneven.weight": ((16381, 4099), "columns"),
}
LAW = Normal(0, 0.02)


def placements(mesh, kind):
    """As fully_shard over parallelize_module leaves them."""
    if len(mesh) == 1:
        return (Shard(0),)
    tensor_parallel = {
        "columns": (_StridedShard(0, split_factor=mesh[-1]), Shard(0)),
        "rows": (Shard(0), Shard(1)),
        "everywhere": (Shard(0), Replicate()),
    }[kind]
    return (Replicate(),) * (len(mesh) - 2) + tensor_parallel


def sampled(mesh, count):
    """The first, the last, and some processes between."""
    chosen = random.Random(0)
    return [(0,) * len(mesh), tuple(n - 1 for n in mesh), *(tuple(map(chosen.randrange, mesh)) for _ in range(count))]


def whole_rows(name, shape, runs):
    """Rows of the whole tensor, drawn one run after the other as flat numbers."""
    width, key = math.prod(shape[1:]), stream.key(name, 0)
    pieces = [
        stream.draw(LAW.distribution, LAW.args, key, a * width, (b - a) * width, dtype=torch.bfloat16) for a, b in runs
    ]
    return torch.cat(pieces).view(-1, *shape[1:])


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
@pytest.mark.parametrize("name", SHAPES)
def test_a_shard_computed_alone_is_a_slice_of_the_whole(name, mesh):
    shape, kind = SHAPES[name]
    for coordinate in sampled(mesh, 3):
        region = sharded(shape, mesh, coordinate, placements(mesh, kind))
        shard = torch.empty(region.local_shape, dtype=torch.bfloat16)
        fill_(shard, LAW, name=name, region=region)
        if shard.numel():
            rows = whole_rows(name, shape, region.runs[0])
            assert torch.equal(shard, rows if len(shape) == 1 else rows[:, slice(*region.runs[1][0])])


@pytest.mark.parametrize("name", SHAPES)
def test_every_row_and_column_is_somewhere_once(name):
    shape, kind = SHAPES[name]
    mesh = (128, 8)
    held = torch.zeros(shape[0], dtype=torch.int)
    count = 0
    for coordinate in itertools.product(*map(range, mesh)):
        region = sharded(shape, mesh, coordinate, placements(mesh, kind))
        for a, b in region.runs[0]:
            held[a:b] += 1
        count += math.prod(region.local_shape)
    copies = 8 if kind == "everywhere" else 1
    assert count == copies * math.prod(shape)
    assert held.unique().tolist() == [8 if kind != "columns" else 1]
