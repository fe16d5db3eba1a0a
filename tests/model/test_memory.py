"""Shared memory: whole, in part, or none."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from initframe.model.memory import elements as tells_elements
from initframe.model.memory import footprint, overlaps_itself, plain_elements
from initframe.model.obstacles import FILLABLE, obstacle
from initframe.model.sharing import sharing


def sharers(*groups):
    """Those of several tensors, or groups of them, that share memory with another."""
    parts = [group if isinstance(group, list) else [group] for group in groups]
    return {
        i for pair in sharing([(footprint(part), i) for i, group in enumerate(parts) for part in group]) for i in pair
    }


def elements(tensor):
    """The addresses of all elements, the slow way."""
    positions = torch.arange(tensor.untyped_storage().nbytes() // tensor.element_size())
    return positions.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).flatten().tolist()


views = st.builds(
    lambda first, rows, column, columns, row_step, column_step: (
        slice(first, first + rows, row_step),
        slice(column, column + columns, column_step),
    ),
    st.integers(0, 7),
    st.integers(1, 8),
    st.integers(0, 7),
    st.integers(1, 8),
    st.integers(1, 3),
    st.integers(1, 3),
)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@settings(max_examples=150, deadline=None)
@given(st.lists(views, min_size=1, max_size=6))
def test_overlaps_are_those_of_the_elements(device, cuts):
    whole = torch.zeros(8, 8, device=device)
    parts = [whole[cut] for cut in cuts]
    found = sharers(*parts)
    taken = [set(elements(part)) for part in parts]
    for i, mine in enumerate(taken):
        partners = {j for j, other in enumerate(taken) if j != i and mine & other}
        assert (i in found) == bool(partners)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 6)), min_size=1, max_size=4))
def test_a_tensor_that_overlaps_itself_has_an_element_twice(dimensions):
    shape, stride = zip(*dimensions, strict=True)
    view = torch.zeros(100).as_strided(shape, stride)
    addresses = elements(view)
    twice = len(set(addresses)) < len(addresses)
    assert overlaps_itself(view) or not twice


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3, 4),
        torch.zeros(4, 3).T,
        torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.ones(()),
    ],
)
def test_a_permuted_tensor_does_not_overlap_itself(tensor):
    assert not overlaps_itself(tensor)


class TestFootprint:
    def test_of_the_same_memory_seen_the_same_way_is_the_same(self):
        tensor = nn.Parameter(torch.zeros(2, 3))
        assert footprint(tensor) == footprint(tensor.data) == footprint(nn.Parameter(tensor.data))

    @pytest.mark.parametrize(
        "view", [lambda t: t.T, lambda t: t.view(-1), lambda t: t[:1], lambda t: t.view(torch.int32)]
    )
    def test_of_the_same_memory_seen_in_another_way_is_another(self, view):
        tensor = torch.zeros(2, 2)
        assert footprint(tensor) != footprint(view(tensor))

    def test_of_meta_tensors_goes_by_their_storage(self):
        layer = nn.Linear(2, 2, device="meta")
        assert footprint(layer.weight) == footprint(layer.state_dict()["weight"])
        assert footprint(layer.weight) != footprint(nn.Linear(2, 2, device="meta").weight)

    @pytest.mark.parametrize("make", [lambda: torch.zeros(0, 3), lambda: torch.zeros(2, 2).to_sparse()])
    def test_without_memory_is_the_object(self, make):
        tensor, twin = make(), make()
        assert footprint(tensor) == footprint(tensor) != footprint(twin)


def test_views_of_different_width_are_compared_by_their_bytes():
    whole = torch.zeros(8)
    assert sharers(whole[:4], whole.view(torch.float16)[6:]) == {0, 1}
    assert not sharers(whole[:4], whole.view(torch.float16)[8:])


def test_windows_of_a_tensor_larger_than_any_memory_are_compared_by_arithmetic():
    whole = torch.empty(1 << 20, 1 << 20, 3, device="meta")
    parts = [whole[:, : 1 << 19], whole[:, 1 << 19 :, :2], whole[5:, 1 << 19 :, 2:], whole[:9, 7:8]]
    assert sharers(*parts) == {0, 3}


def test_large_tensors_that_cross_in_no_simple_way_count_as_sharing():
    whole = torch.empty(1 << 20, 1 << 10, device="meta")
    assert sharers(whole[::2], whole[1:, :5]) == {0, 1}


windows = st.tuples(st.integers(0, 5), st.integers(1, 3), st.integers(0, 5), st.integers(1, 6))


@given(st.lists(windows, min_size=2, max_size=5))
def test_windows_overlap_where_their_elements_do(cuts):
    whole = torch.empty(8, 12, device="meta")
    parts = [whole[r : r + rows, c : c + columns] for r, rows, c, columns in cuts]
    found = sharers(*parts)
    taken = [set(elements(part)) for part in parts]
    for i, mine in enumerate(taken):
        assert (i in found) == any(mine & other for j, other in enumerate(taken) if j != i)


def test_sharing_inside_a_group_is_no_matter():
    whole = torch.zeros(8)
    assert not sharers([whole[:4], whole[2:6]], whole[6:])


def given_attributes():
    tensor = torch.zeros(2, 3)
    tensor.kept_elsewhere = True
    return tensor


def resized(count):
    tensor = torch.zeros(2, 3)
    tensor.untyped_storage().resize_(count * tensor.element_size())
    return tensor


def made_in_inference_mode():
    with torch.inference_mode():
        return torch.zeros(2, 3)


class Own(torch.Tensor):
    """A class of somebody's own."""


PLAIN = {
    "a tensor": lambda: torch.zeros(2, 3),
    "a parameter": lambda: nn.Parameter(torch.zeros(2, 3)),
    "one element": lambda: torch.zeros(()),
    "some rows": lambda: torch.zeros(5, 3)[1:3],
    "bfloat16": lambda: torch.zeros(2, 3, dtype=torch.bfloat16),
    "integers": lambda: torch.zeros(2, 3, dtype=torch.int64),
    "meta": lambda: torch.zeros(5, 3, device="meta")[1:3],
}
NOT_PLAIN = {
    "transposed": lambda: torch.zeros(2, 3).t(),
    "columns": lambda: torch.zeros(2, 5)[:, 1:3],
    "expanded": lambda: torch.zeros(1, 3).expand(2, 3),
    "empty": lambda: torch.zeros(0, 3),
    "sparse": lambda: torch.zeros(2, 3).to_sparse(),
    "nested": lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged),
    "lazy": lambda: nn.LazyLinear(3).weight,
    "with attributes": given_attributes,
    "freed": lambda: resized(0),
    "partly freed": lambda: resized(4),
    "of inference mode": made_in_inference_mode,
    "of a class of its own": lambda: torch.zeros(2, 3).as_subclass(Own),
}


@pytest.mark.parametrize("what", [*PLAIN, *NOT_PLAIN])
def test_a_plain_tensor_is_told_by_one_look_and_needs_no_other(what):
    tensor = (PLAIN | NOT_PLAIN)[what]()
    found = plain_elements(tensor)
    assert (found is not None) == (what in PLAIN)
    if found:
        assert found == tells_elements(tensor)
        assert obstacle(tensor) is None or tensor.dtype not in FILLABLE
