"""Copies inside a model are found, also among very many modules."""

import copy

from torch import nn

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
