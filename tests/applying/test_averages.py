"""Copies inside a model are found, also among very many modules; those outside follow."""

import copy

import pytest
import torch
from nets import rules
from torch import nn
from torch.optim.swa_utils import AveragedModel

import initframe
from initframe.applying import averages


def test_copies_are_found_by_their_first_values_and_in_another_dtype(monkeypatch):
    compared = []
    is_copy = averages._is_copy
    monkeypatch.setattr(averages, "_is_copy", lambda *pair: compared.append(pair) or is_copy(*pair))
    model = nn.ModuleDict({f"layer_{chr(97 + i)}": nn.Linear(3, 3) for i in range(20)})
    model["online"] = nn.Linear(3, 3).bfloat16()
    model["target"] = copy.deepcopy(model["online"]).float()
    assert [twin.name for twin in averages.find_copies(model)] == ["target"]
    assert len(compared) == 1  # not every pair of children, of which there are thousands in large models


class Agent(nn.Module):
    """A net with a target and an average."""

    def __init__(self):
        super().__init__()
        self.online = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        self.target = copy.deepcopy(self.online)
        self.ema = AveragedModel(self.online)


@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel, torch.compile])
def test_copies_inside_of_a_wrapped_model_have_their_bare_names_once_each(wrap):
    recipe = rules({"online.*": {"init": "normal"}})
    report = initframe.reinit(wrap(Agent()), recipe, seed=0)
    assert sorted(report.stale) == ["ema", "target"]
    assert "Stale: target" in str(report)
    follow = rules({**recipe["rules"], "target.*": {"init": "copy", "source": "online.*"}})
    assert initframe.reinit(wrap(Agent()), follow, seed=0).stale == ("ema",)


@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel, torch.compile])
def test_an_average_may_be_the_state_of_a_wrapped_model(wrap):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    state = {name: value.clone() for name, value in wrap(copy.deepcopy(model)).state_dict().items()}
    initframe.reinit(model, rules({"*": {"init": "normal"}}), seed=0, averages=[state])
    assert all(torch.equal(one, other) for one, other in zip(state.values(), model.state_dict().values(), strict=True))
