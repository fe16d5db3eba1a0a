"""Modules that run with other tensors have their own ones afterwards, whatever they are called."""

import pytest
import torch
from torch import nn

from initframe.model.functional import run_with


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.b.weight = self.a.weight
        self.again = self.a

    def forward(self, x):
        return self.again(self.b(self.a(x)))


@pytest.mark.parametrize("name", ["a.weight", "b.weight", "again.weight"])
def test_a_tensor_is_replaced_in_all_of_its_places(name):
    model = Tied()
    own = model.a.weight
    assert run_with(model, {name: 2 * torch.eye(2)}, [torch.ones(1, 2)]).tolist() == [[8.0, 8.0]]
    assert own is model.a.weight is model.b.weight is model.again.weight


def test_after_an_error_too():
    model = Tied()
    own = model.a.weight
    with pytest.raises(RuntimeError):
        run_with(model, {"a.weight": torch.zeros(3, 3)}, [torch.ones(1, 2)])
    assert own is model.a.weight is model.again.weight
