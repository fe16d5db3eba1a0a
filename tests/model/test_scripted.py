"""Modules of TorchScript are read as the modules that they were made of."""

import io

import pytest
import torch
from nets import bits, changed, same_bits
from refusals import refused
from torch import nn

import initframe
from initframe.construction.deferred import deferred, materialize, resolve_deferred
from initframe.model.survey import survey

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit")

LAYERS = {
    "embedding": lambda: nn.Embedding(5, 3, padding_idx=-1),
    "bag": lambda: nn.EmbeddingBag(5, 3, padding_idx=0),
    "grouped": lambda: nn.Conv2d(4, 8, 3, groups=2, stride=2),
    "transposed": lambda: nn.ConvTranspose2d(4, 8, 3, stride=2),
    "norm": lambda: nn.BatchNorm2d(3),
    "gated": lambda: nn.GRU(3, 4),
    "linear": lambda: nn.Linear(3, 4),
    "nested": lambda: nn.Sequential(nn.Linear(3, 4), nn.PReLU(init=0.1)),
}


def loaded(module):
    """The module as torch.jit.load gives it."""
    file = io.BytesIO()
    torch.jit.save(module, file)
    file.seek(0)
    return torch.jit.load(file)


def around(module):
    model = nn.Module()
    model.part = module
    return model


def facts(model):
    """What rules ask of a slot; TorchScript does not tell which buffers are persistent."""
    asked = ("name", "shape", "layer", "module_types", "padding_row", "effective_fan_in", "effective_fan_out", "kind")
    return [tuple(getattr(slot, name) for name in asked) for slot in survey(model).slots]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("script", [torch.jit.script, lambda module: loaded(torch.jit.script(module))])
def test_a_scripted_layer_has_the_facts_and_numbers_of_its_layer(name, script):
    layer = LAYERS[name]()
    plain, model = around(layer), around(script(layer))
    assert facts(model) == facts(plain)
    everything = {"rules": {"*": {"init": "torch_default", "kind": "any"}}}
    initframe.reinit(model, everything, seed=4)
    initframe.reinit(plain, everything, seed=4)
    assert all(same_bits(bits(plain)[name], tensor) for name, tensor in bits(model).items())


def test_a_traced_layer_is_known_by_its_class():
    traced = around(torch.jit.trace(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.zeros(1, 3, 5, 5)))
    assert survey(traced).slots[0].layer == "Conv2d"
    initframe.resolve({"rules": {"*": {"module": "Conv2d", "init": "zeros"}}}, traced)


class Own(nn.Linear):
    """A class that is loaded here."""


def test_a_class_of_ones_own_is_known_with_its_bases():
    (weight, _) = survey(around(torch.jit.script(Own(2, 3)))).slots
    assert weight.module_types == ("Own", "Linear", "Module")


def test_materialize_passes_scripted_modules_that_have_memory():
    with deferred():
        model = nn.Sequential(nn.Linear(2, 3))
    model.append(torch.jit.script(nn.Linear(3, 2)))
    materialize(model, {"rules": {"*.weight": "ones", "*.bias": "zeros"}})
    assert all((model[i].weight == 1).all() for i in (0, 1))


def test_scripted_modules_without_memory_are_refused_by_name():
    with deferred():
        model = around(torch.jit.script(nn.Linear(2, 3)))
    problems = refused(materialize, model, {"rules": {"*": "zeros"}})
    assert [problem.subject for problem in problems] == ["part.weight", "part.bias"]


def test_a_model_that_scripts_while_it_is_built_is_built_with_memory():
    recipe = {"rules": {"*": "ones"}}
    plan = resolve_deferred(recipe, lambda: around(torch.jit.script(nn.Linear(2, 3))))
    materialize(plan.model, plan)
    assert (plan.model.part.weight == 1).all()


def test_a_failure_puts_a_model_with_scripted_modules_back():
    with deferred():
        model = nn.Sequential(nn.Linear(2, 3))
    model.append(torch.jit.script(nn.Linear(3, 2)))
    before = bits(model[1])

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        materialize(model, {"rules": {"0.*": "ones", "1.*": "keep"}}, on_progress=stop)
    assert model[0].weight.is_meta
    assert changed(model[1], before) == set()
