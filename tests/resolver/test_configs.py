"""``model.config``: taken from the nearest module around a tensor that has one."""

import pytest
from refusals import refused
from torch import nn

import initframe


class Configured(nn.Module):
    """A model with a number of its own."""

    def __init__(self, spread):
        super().__init__()
        self.config = {"spread": spread}
        self.layer = nn.Linear(3, 3)


def around(**modules):
    model = nn.Module()
    for name, module in modules.items():
        model.add_module(name, module)
    return model


RECIPE = {"rules": {"*.weight": {"init": "normal", "std": "spread"}, "*.bias": "zeros"}}


def test_a_model_without_a_config_has_that_of_the_module_inside():
    model = around(inner=around(net=Configured(2)), head=nn.Linear(3, 3))
    plan = initframe.resolve(RECIPE, model)
    assert (plan["inner.net.layer.weight"].fill.std, plan["head.weight"].fill.std) == (2, 2)


def test_each_of_several_has_its_own():
    plan = initframe.resolve(RECIPE, around(one=Configured(1), other=Configured(2)))
    assert (plan["one.layer.weight"].fill.std, plan["other.layer.weight"].fill.std) == (1, 2)


def test_what_is_in_none_of_several_has_none():
    model = around(one=Configured(1), other=Configured(2), head=nn.Linear(3, 3))
    (problem,) = refused(initframe.resolve, RECIPE, model)
    assert "head.weight" in problem.subject


def test_the_models_own_goes_first():
    model = Configured(3)
    model.part = Configured(1)
    plan = initframe.resolve(RECIPE, model)
    assert (plan["layer.weight"].fill.std, plan["part.layer.weight"].fill.std) == (3, 3)


@pytest.mark.filterwarnings("ignore")
def test_below_a_lightning_module():
    lightning = pytest.importorskip("lightning")

    class Task(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.save_hyperparameters({"rate": 0.1})
            self.net = Configured(2)

    assert initframe.resolve(RECIPE, Task())["net.layer.weight"].fill.std == 2
