"""Which modules inside a model may be copies of others, and which of them are."""

import copy

import pytest
import torch
from torch import nn

from initframe.applying import averages


def twins(**names):
    """A module with copies of one layer under several names."""
    model, layer = nn.Module(), nn.Linear(3, 3)
    for name, dtype in names.items():
        setattr(model, name, copy.deepcopy(layer).to(dtype))
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_copies_are_found_in_any_dtype(dtype):
    model = twins(online=dtype, target=torch.float32)
    model.target.load_state_dict(model.online.state_dict())  # rounded already
    assert [twin.name for twin in averages.find_copies(model)] == ["target"]


def test_layers_that_only_a_number_tells_apart_are_a_stack():
    assert averages.find_copies(twins(layer_1=torch.float32, layer_2=torch.float32)) == []
    model = twins(critic_1=torch.float32, critic_2=torch.float32, target_critic_1=torch.float32)
    assert [twin.name for twin in averages.find_copies(model)] == ["target_critic_1"]


def test_what_has_other_shapes_is_not_read(monkeypatch):
    monkeypatch.setattr(averages, "_first_values", None)
    model = nn.ModuleDict({"one": nn.Linear(3, 3), "other": nn.Linear(3, 4), "bare": nn.Linear(3, 3, bias=False)})
    assert averages.find_copies(model) == []


def test_what_is_inside_of_a_copy_is_no_copy_of_its_own():
    model = nn.Module()
    model.online = twins(left=torch.float32, right=torch.float32)
    model.target = copy.deepcopy(model.online)
    assert [twin.name for twin in averages.find_copies(model)] == ["target", "online.right"]


def test_the_layers_of_a_stack_are_not_looked_into():
    layers = [twins(q_proj=torch.float32, o_proj=torch.float32) for _ in range(3)]
    for model in (nn.ModuleList(layers), nn.ModuleDict({"layers": nn.ModuleList(layers), "head": nn.Linear(3, 2)})):
        assert averages.find_copies(model) == []
        assert not averages.may_have_copies(model)
