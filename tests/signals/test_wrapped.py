"""Models inside of wrappers: plans name their tensors without them, and so do predictions and factors."""

import warnings

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

import initframe

RECIPE = {"rules": {"*.weight": {"init": "normal", "std": 2.0}, "*.bias": "zeros"}}
INPUTS = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))


def net():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5))


def compiled(model):
    return torch.compile(model, backend="eager")


WRAPPERS = {
    "compiled": compiled,
    "a compiled layer": lambda model: nn.Sequential(compiled(model[0]), model[1], model[2]),
    "averaged": AveragedModel,
    "checkpointed layers": lambda model: nn.Sequential(checkpoint_wrapper(model[0]), model[1], model[2]),
}


def last(signal):
    """The numbers of the model's output."""
    return signal.rows[-1].rms, signal.rows[-1].mean


def factors(model, method):
    found = initframe.calibrate(model, RECIPE, INPUTS, method=method)
    return {rule.name: rule.arguments["factor"] for rule in found.rules if "factor" in rule.arguments}


@pytest.mark.filterwarnings("ignore:.*lru_cache")
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapped_model_is_predicted_and_calibrated_as_the_bare_one(wrap):
    bare, wrapped = net(), wrap(net())
    expected = initframe.predict(initframe.resolve(RECIPE, bare), INPUTS)
    signal = initframe.predict(initframe.resolve(RECIPE, wrapped), INPUTS)
    assert last(signal) == last(expected)
    assert [row.weight for row in signal.rows if row.op == "Linear"][:1] == ["0.weight"]
    for method in ("measure", "predict"):
        assert factors(wrapped, method) == factors(bare, method)


class Remembers(nn.Module):
    """Keeps its last activation, as many models keep their attention for a picture."""

    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.Linear(6, 6), None

    def forward(self, x):
        self.last = self.layer(x)
        return self.last


def used(model):
    model(INPUTS)
    return model


def old_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 6)))


GRAPHS = {
    "a stored activation": lambda: used(Remembers()),
    "weight_norm": old_weight_norm,
    "pruned": lambda: nn.Sequential(nn.utils.prune.random_unstructured(nn.Linear(6, 6), "weight", 0.2)),
}


@pytest.mark.parametrize("build", GRAPHS.values(), ids=GRAPHS)
def test_models_that_hold_tensors_of_a_graph_are_calibrated(build):
    model = build()
    held = [value for module in model.modules() for value in vars(module).values() if isinstance(value, torch.Tensor)]
    before = [value.clone() for value in held]
    recipe = {"rules": {"*.weight": {"init": "normal", "std": 2.0}, "layer.*": {"init": "normal", "optional": True}}}
    found = initframe.calibrate(model, recipe, INPUTS)
    assert "factor" in found.rules[-1].arguments
    assert held
    assert all(torch.equal(one, other) for one, other in zip(held, before, strict=True))


def test_what_cannot_be_copied_is_told():
    model = net()
    model.handle = (number for number in range(3))
    with pytest.raises(initframe.InitframeError) as caught:
        initframe.calibrate(model, RECIPE, INPUTS)
    assert caught.value.problems[0].subject == "model"
    assert factors(model, "predict")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_measured_in_any_mode(mode):
    model = net()
    expected = initframe.propagate(model, INPUTS, loss=lambda output: output.square().mean())
    with mode():
        found = initframe.propagate(model, INPUTS, loss=lambda output: output.square().mean())
        assert not torch.is_grad_enabled()
    assert [row.grad_rms for row in found.rows] == [row.grad_rms for row in expected.rows]
    assert found.rows[0].grad_rms > 0


def test_hooks_may_be_anything_that_can_be_called():
    model, bare = net(), net()
    seen = {}
    model[0].register_forward_pre_hook(seen.setdefault)  # a method of C, of no module
    signals = [initframe.predict(initframe.resolve(RECIPE, one), INPUTS) for one in (model, bare)]
    assert [row.rms for row in signals[0].rows] == [row.rms for row in signals[1].rows]
    seen.clear()
    initframe.propagate(model, INPUTS)
    assert model[0] in seen
