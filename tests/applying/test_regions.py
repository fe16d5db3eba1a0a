"""Regions against plain indexing: whatever a shard holds, it knows where that stands in the whole."""

import itertools
import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from initframe.applying.placements import held
from initframe.applying.regions import Region


@st.composite
def runs(draw, size):
    """Ascending runs of indices below a size, with gaps between them, possibly none."""
    cuts = sorted(draw(st.sets(st.integers(0, size), max_size=6)))
    return tuple(zip(cuts[::2], cuts[1::2], strict=False))


@st.composite
def regions(draw, max_dims=4):
    """A part of a whole tensor of a few dimensions."""
    shape = tuple(draw(st.lists(st.integers(1, 6), max_size=max_dims)))
    extent = tuple((0, size) for size in shape)
    return Region(shape, extent, tuple(draw(st.one_of(runs(size), st.just(((0, size),)))) for size in shape))


def indices(region):
    """Per dimension the indices that are held."""
    return [torch.tensor([i for run in runs for i in range(*run)], dtype=torch.long) for runs in region.runs]


def taken(whole, region):
    """The held part of a whole tensor, by plain indexing."""
    for dim, index in enumerate(indices(region)):
        whole = whole.index_select(dim, index)
    return whole


def flat(shape):
    return torch.arange(math.prod(shape)).reshape(shape)


@given(regions())
def test_local_shape_is_what_is_held(region):
    assert taken(flat(region.shape), region).shape == region.local_shape


@given(regions())
def test_pick_is_plain_indexing(region):
    assert torch.equal(region.pick(flat(region.shape)), taken(flat(region.shape), region))


@given(regions(), st.integers(0, 5), st.data())
def test_places_are_picked_as_plain_indexing_does(region, count, data):
    lists = data.draw(st.booleans())
    index = []
    for size in region.shape:
        one = st.integers(0, size - 1)
        several = st.lists(one, min_size=count, max_size=count).map(lambda i: torch.tensor(i, dtype=torch.long))
        index.append(data.draw(st.one_of(one, several if lists else st.just(slice(None)))))
    index = tuple(index)
    whole, here = torch.zeros(region.shape, dtype=torch.long), torch.zeros(region.local_shape, dtype=torch.long)
    values = 1 + flat(region.shape)[index]
    whole[index] = values
    if part := region.pick_at(index, values):
        places, picked = part
        here[places] = picked
    assert torch.equal(here, taken(whole, region))


@given(regions())
def test_rows_are_all_of_the_memory_once_and_know_their_place(region):
    memory = torch.full(region.local_shape, -1)
    for row, start, stride in region.rows(memory):
        assert row.ndim == 2
        assert (row == -1).all()
        row.copy_(start + torch.arange(row.shape[0])[:, None] * stride + torch.arange(row.shape[1]))
    assert torch.equal(memory, taken(flat(region.shape), region))


WINDOWS = {
    "columns": (torch.empty(5, 99)[:, 2:46], 5),
    "every second row": (torch.empty(9, 40)[::2], 5),
    "channels": (torch.empty(4, 6, 5, 5)[:, 1:3], 4),
    "the last dimension": (torch.empty(4, 6, 50)[..., 1:40], 24),
    "one of several": (torch.empty(4, 6, 50)[:, 2], 4),
    "dimensions of one": (torch.empty(1, 6, 1, 50)[:, ::2], 3),
    "some rows": (torch.empty(9, 4)[2:5], 1),
}


@pytest.mark.parametrize(("memory", "number"), WINDOWS.values(), ids=WINDOWS)
def test_a_window_of_other_memory_has_rows(memory, number):
    shape = tuple(memory.shape)
    ((rows, start, stride),) = Region.whole(shape).rows(memory)
    assert len(rows) == number
    rows.copy_(start + torch.arange(len(rows))[:, None] * stride + torch.arange(rows.shape[1]))
    assert torch.equal(memory, flat(shape).float())


NONE = {
    "every second element": torch.empty(100)[::2],
    "short rows": torch.empty(5, 99)[:, :31],
    "a negated view": torch._neg_view(torch.zeros(4)),
}


@pytest.mark.parametrize("memory", NONE.values(), ids=NONE)
def test_what_is_better_drawn_beside_has_no_rows(memory):
    with pytest.raises(RuntimeError):
        list(Region.whole(tuple(memory.shape)).rows(memory))


@given(regions(), st.data())
def test_a_position_holds_its_index(region, data):
    index = tuple(data.draw(st.integers(0, size - 1)) for size in region.shape)
    index = index[: data.draw(st.integers(0, len(index)))]
    position = region.position(index)
    is_here = all(i in here for i, here in zip(index, indices(region), strict=False))
    assert (position is not None) == is_here
    if is_here:
        n = len(index)
        rest = Region(region.shape[n:], region.extent[n:], region.runs[n:])
        assert torch.equal(taken(flat(region.shape), region)[position], taken(flat(region.shape)[index], rest))


@given(regions(), st.data())
def test_a_block_is_where_it_says(region, data):
    assume(region.shape)
    dim = data.draw(st.integers(0, len(region.shape) - 1))
    start, stop = sorted((data.draw(st.integers(0, region.shape[dim])), data.draw(st.integers(0, region.shape[dim]))))
    block, here = region.block(dim, start, stop)
    window = (slice(None),) * dim
    local = taken(flat(region.shape), region)
    assert torch.equal(local[(*window, here)], taken(flat(region.shape), block))
    inside = flat(region.shape)[(*window, slice(start, stop))]
    assert block.extent[dim] == (start, stop)
    assert torch.equal(block.pick(inside), local[(*window, here)])
    assert block.everything().local_shape == inside.shape


@given(regions(), st.data())
def test_blocks_side_by_side_cover_the_memory(region, data):
    assume(region.shape)
    dim = data.draw(st.integers(0, len(region.shape) - 1))
    cuts = [0, *sorted(data.draw(st.sets(st.integers(0, region.shape[dim])))), region.shape[dim]]
    slices = [region.block(dim, *ends)[1] for ends in itertools.pairwise(cuts)]
    assert [s.start for s in slices] == [0, *(s.stop for s in slices)][: len(slices)]
    assert slices[-1].stop == region.local_shape[dim]


@given(st.lists(st.integers(0, 5), max_size=4).map(tuple))
def test_a_tensor_of_ones_own_is_held_whole(shape):
    tensor, region = held(torch.zeros(shape))
    assert region == Region.whole(shape)
    assert region.local_shape == tuple(tensor.shape)
    assert region.everything() == region


@pytest.mark.parametrize(
    "memory",
    [
        torch.empty(10)[::2],
        torch.empty(4, 8)[:, ::2],
        torch.empty(3, 4).t(),
        torch.empty(2, 3, 4, 5).to(memory_format=torch.channels_last),
    ],
    ids=["every second", "every second column", "transposed", "channels_last"],
)
def test_memory_without_dense_rows_is_refused(memory):
    with pytest.raises(RuntimeError, match=r"dense|view"):
        list(Region.whole(tuple(memory.shape)).rows(memory))


def test_a_scalar_is_one_row_of_one():
    ((row, start, _),) = Region.whole(()).rows(torch.empty(()))
    assert (tuple(row.shape), start) == ((1, 1), 0)
