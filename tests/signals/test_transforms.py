"""Models that use torch.func in their forward pass have the signal of what they map over."""

import pytest
import torch
from torch import nn
from torch.func import grad, vmap

import initframe

RECIPE = {"rules": {"*.weight": {"init": "normal", "std": 0.7}, "*.bias": "zeros"}}
INPUTS = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)

    def one(self, x):
        return self.last(self.relu(self.first(x)))

    def forward(self, x):
        return self.one(x)


class Mapped(Plain):
    def forward(self, x):
        return vmap(self.one)(x)


class MappedOverColumns(Plain):
    def forward(self, x):
        return vmap(self.one, in_dims=1)(x.t())


class Differentiated(nn.Module):
    """Forces of an energy, by the gradient for each input."""

    def __init__(self):
        super().__init__()
        self.first, self.tanh = nn.Linear(4, 1), nn.Tanh()

    def forward(self, x):
        return vmap(grad(lambda one: self.tanh(self.first(one)).sum()))(x)


def measured(model):
    initframe.reinit(model, RECIPE, seed=0)
    return initframe.propagate(model, INPUTS, loss=lambda output: output.square().sum())


def predicted(model):
    return initframe.predict(initframe.resolve(RECIPE, model), INPUTS)


@pytest.mark.parametrize("signal", [measured, predicted])
@pytest.mark.parametrize("mapped", [Mapped, MappedOverColumns])
def test_a_mapped_model_has_the_rows_of_the_plain_one(signal, mapped):
    expected, found = signal(Plain()), signal(mapped())
    for name in ("first", "relu", "last", ""):
        for number in ("rms", "mean", "correlation", "grad_rms"):
            one, other = getattr(found[name], number), getattr(expected[name], number)
            assert one == other or one == pytest.approx(other, rel=1e-5, abs=1e-6), (name, number)
        assert found[name].shape == expected[name].shape


def test_gradients_in_a_forward_pass_are_predicted():
    expected, found = measured(Differentiated()), predicted(Differentiated())
    assert found["tanh"].rms == pytest.approx(expected["tanh"].rms, rel=0.4)
    assert found[""].shape == expected[""].shape == (64, 4)


def test_mapped_weights_are_calibrated():
    recipe = initframe.calibrate(Mapped(), RECIPE, INPUTS)
    model = Plain()
    initframe.reinit(model, recipe, seed=0)
    assert model(INPUTS).square().mean().sqrt().item() == pytest.approx(1, rel=0.01)
