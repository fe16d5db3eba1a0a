"""restore=True: whatever is raised, the model and its optimizer hold what they held."""

import copy
import warnings

import pytest
import torch
from nets import bits, changed, rules
from torch import nn
from torch.nn.utils import prune, spectral_norm, weight_norm
from torch.nn.utils.parametrizations import orthogonal

import initframe
from initframe.applying import draw

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


class Stop(BaseException):
    """No Exception, as Ctrl-C is none."""


def stop(_):
    raise Stop


def net():
    model = nn.Sequential(
        nn.Linear(4, 4),
        orthogonal(nn.Linear(4, 4)),
        weight_norm(nn.Linear(4, 4)),
        spectral_norm(nn.Linear(4, 4)),
        prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5),
        torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
    )
    model(torch.ones(2, 4))
    return model.eval()  # in training, reading a spectrally normed weight changes its vectors


RECIPE = rules({"*.weight": "xavier_normal", "*.bias": "ones"})


@pytest.mark.parametrize("generator", ["stream", "torch"])
@pytest.mark.parametrize("make", [net, lambda: net().state_dict()], ids=["module", "state_dict"])
def test_everything_is_as_it_was(make, generator):
    model = make()
    recipe = RECIPE if isinstance(model, nn.Module) else rules({"0.*": "zeros", "1.bias": "zeros"})
    before = bits(model)
    shown = [m.weight.detach().clone() for m in model] if isinstance(model, nn.Module) else []
    with pytest.raises(Stop):
        initframe.reinit(model, recipe, seed=1, generator=generator, on_progress=stop, restore=True)
    assert changed(model, before) == set()
    if shown:
        assert all(torch.equal(m.weight, old) for m, old in zip(model, shown, strict=True))


def test_also_where_half_of_the_batches_are_written(monkeypatch):
    monkeypatch.setattr(draw, "AT_ONCE", 1)
    model = net()
    before = bits(model)
    told = []

    def later(count):
        told.append(count)
        if len(told) == 5:
            raise Stop

    with pytest.raises(Stop):
        initframe.reinit(model, RECIPE, on_progress=later, restore=True)
    assert changed(model, before) == set()


def test_the_optimizer_keeps_its_state():
    model = nn.Linear(3, 3)
    adam = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    adam.step()
    state, before = copy.deepcopy(adam.state_dict()), bits(model)
    recipe = rules({"*": {"init": "zeros", "companions": {"lr": 2}}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(initframe.CompanionWarning):  # raised after the write, with the state cleared
            initframe.reinit(model, recipe, optimizer=adam, restore=True)
    assert changed(model, before) == set()
    found = adam.state_dict()
    assert all(torch.equal(found["state"][i][k], v) for i, own in state["state"].items() for k, v in own.items())


def test_nothing_is_different_if_nothing_is_raised():
    one, other = net(), net()
    other.load_state_dict(one.state_dict())
    initframe.reinit(one, RECIPE, seed=2)
    initframe.reinit(other, RECIPE, seed=2, restore=True)
    assert changed(one, bits(other)) == set()


def test_without_it_the_error_says_what_was_written(monkeypatch):
    monkeypatch.setattr(draw, "AT_ONCE", 1)
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    told = []

    def later(count):
        told.append(count)
        if len(told) == 3:
            raise Stop

    with pytest.raises(Stop) as caught:
        initframe.reinit(model, rules({"*": "ones"}), on_progress=later)
    (note,) = caught.value.__notes__
    written, rest = note.split(";")
    assert "0.weight, 0.bias" in written
    assert "1.bias" in rest
