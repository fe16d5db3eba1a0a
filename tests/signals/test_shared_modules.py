"""Models that have a module twice: whoever runs them with other tensors puts their own back."""

import pytest
import torch
from torch import nn

import initframe
from initframe.signal.calibrate import calibration
from initframe.signal.inputs import example
from tests.nets import bits, same_bits

RULES = {"rules": {"*": "torch_default"}}
IMAGES = (4, 3, 28, 28)


class Twice(nn.Module):
    """A block under two names, a tied weight, and a buffer that another module has, too."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
        self.again = self.block
        self.last = nn.Conv2d(3, 3, 3, padding=1)
        self.last.weight = self.block[0].weight
        self.last.register_buffer("shift", self.block[1].running_mean)
        self.head = nn.Linear(3 * 28 * 28, 2)

    def forward(self, x):
        x = self.last(self.again(self.block(x))) + self.last.shift[:, None, None]
        return self.head(x.flatten(1))


def held(model):
    """Every attribute that is a tensor, by identity."""
    both = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: id(tensor) for name, tensor in both}


@pytest.mark.parametrize(
    "run",
    [
        lambda model: initframe.propagate(model, torch.randn(IMAGES)),
        lambda model: initframe.predict(initframe.resolve(RULES, model), torch.randn(IMAGES)),
        lambda model: calibration(model, RULES, torch.randn(IMAGES)),
        lambda model: calibration(model, RULES, torch.randn(IMAGES), method="predict"),
        example,
    ],
    ids=["propagate", "predict", "calibrate by measuring", "calibrate by predicting", "example"],
)
def test_it_is_as_before(run):
    model = Twice()
    before, values = held(model), bits(model)
    run(model)
    assert held(model) == before
    assert all(same_bits(value, values[name]) for name, value in model.state_dict().items())


def test_its_calls_are_counted():
    model = Twice()
    measured = initframe.propagate(model, torch.randn(IMAGES))
    predicted = initframe.predict(initframe.resolve(RULES, model), torch.randn(IMAGES))
    convolutions = [
        ("block.0", 0, "block.0.weight", 1),
        ("block.0", 1, "block.0.weight", 2),
        ("last", 0, "block.0.weight", 3),
    ]
    for signal in (measured, predicted):
        found = [(row.name, row.call, row.weight, row.depth) for row in signal.rows if row.op == "Conv2d"]
        assert found == convolutions
        assert not signal.notes
