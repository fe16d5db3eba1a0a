"""What layers keep of a computed weight is renewed after a write."""

import pytest
import torch
from nets import rules
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.parametrize import cached

import initframe
from initframe import stream

REGISTER = [parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal]


@pytest.mark.parametrize("generator", ["stream", "torch"])
@pytest.mark.parametrize("register", REGISTER)
def test_a_cached_value_is_computed_anew(register, generator):
    layer = register(nn.Linear(4, 4)).eval()
    recipe = rules(weight={"init": "normal", "std": 2})
    with cached():
        before = layer.weight
        report = initframe.reinit(layer, recipe, seed=3, generator=generator, measure=True)
        assert not torch.equal(layer.weight, before)
        assert layer.weight is layer.weight
        assert report["weight"].digest == f"{stream.digest(layer.weight.detach()):016x}"
        inside = layer.weight.detach().clone()
        torch.testing.assert_close(layer(torch.eye(4)) - layer.bias, inside.T)
    assert torch.equal(layer.weight, inside)


def test_a_cached_value_that_depends_on_what_another_rule_writes():
    class Shared(nn.Module):
        """A weight that is scaled by a parameter of another layer."""

        def __init__(self, scale):
            super().__init__()
            self.scale = [scale]

        def forward(self, x):
            return x * self.scale[0]

    net = nn.ModuleDict({"layer": nn.Linear(2, 2), "scale": nn.Linear(1, 1, bias=False)})
    nn.utils.parametrize.register_parametrization(net["layer"], "weight", Shared(net["scale"].weight))
    with cached(), torch.no_grad():
        before = net["layer"].weight.clone()
        initframe.reinit(net, rules({"scale.weight": {"init": "constant", "val": 0}}))
        assert not before.eq(0).all()
        assert net["layer"].weight.eq(0).all()


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`")
@pytest.mark.parametrize(
    "register", [nn.utils.weight_norm, lambda layer: prune.random_unstructured(layer, "weight", 0.5)]
)
def test_the_weight_that_a_hook_shows_is_what_it_will_compute(register):
    layer = register(nn.Linear(4, 4))
    parts = [name for name, _ in layer.named_parameters() if name != "bias"]
    initframe.reinit(layer, rules({name: {"init": "constant", "val": 3} for name in parts}))
    shown = layer.weight.detach().clone()
    layer(torch.eye(4))
    assert torch.equal(layer.weight, shown)
