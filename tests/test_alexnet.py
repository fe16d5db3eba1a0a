"""A real AlexNet: 16 tensors, 61 million elements, none replaced and none touched that no rule wins."""

import pytest
import torch
from nets import bits, changed, same_bits

import initframe

LAYERS = ["features.0", "features.3", "features.6", "features.8", "features.10"]
LAYERS += ["classifier.1", "classifier.4", "classifier.6"]
NAMES = [f"{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias")]


@pytest.fixture(scope="module")
def alexnet():
    models = pytest.importorskip("torchvision.models")
    return models.alexnet()


def test_its_names(alexnet):
    assert list(alexnet.state_dict()) == NAMES
    plan = initframe.resolve("xavier_relu", alexnet)
    assert [a.slot.name for a in plan.assignments] == NAMES
    assert plan.untouched == ()


def test_one_rule_changes_one_tensor(alexnet):
    before = bits(alexnet)
    rule = {"init": "xavier_uniform", "gain": "relu"}
    initframe.reinit(alexnet, {"rules": {"features.0.weight": rule}}, seed=1)
    assert changed(alexnet, before) == {"features.0.weight"}


def test_a_whole_reinitialization_keeps_every_object_and_is_the_plan(alexnet):
    tensors = dict(alexnet.named_parameters())
    pointers = {name: t.data_ptr() for name, t in tensors.items()}
    optimizer = torch.optim.SGD(alexnet.parameters(), 0.1)
    before = bits(alexnet)
    report = initframe.reinit(alexnet, "xavier_relu", seed=0, measure="after")
    assert changed(alexnet, before) == set(NAMES)
    for name, parameter in alexnet.named_parameters():
        assert parameter is tensors[name]
        assert parameter.data_ptr() == pointers[name]
        assert parameter.requires_grad
    assert [p for group in optimizer.param_groups for p in group["params"]] == list(tensors.values())
    for result in report.results:
        fill, slot = result.assignment.fill, result.assignment.slot
        assert abs(result.after.moments.mean) <= 5 * fill.std / slot.numel**0.5
        assert result.after.moments.std == pytest.approx(fill.std, rel=0.02)
    small = torch.empty(192, 64, 5, 5)
    initframe.fill_(small, report.plan["features.3.weight"].fill, name="features.3.weight", seed=0)
    assert same_bits(small, alexnet.features[3].weight)
    with torch.no_grad():
        assert alexnet.eval()(torch.zeros(1, 3, 224, 224)).isfinite().all()
