"""What is made open and then given a frozen class is as if that class had made it."""

import copy
import pickle
from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch

import initframe
from initframe.model.latest import LatestSurvey
from initframe.model.place import OpenPlace, Place
from initframe.model.slot import OpenSlot, Slot
from initframe.model.survey import OpenSurvey, Survey
from initframe.plan.assignment import Assignment, OpenAssignment
from initframe.plan.plan import OpenPlan, Plan
from initframe.plan.report import OpenReport, OpenResult, Report, Result
from initframe.stream.draws import Draw, OpenDraw

WEIGHT = Slot("w", (2, 3), fan_in=3)
RECIPE = initframe.load_recipe({"rules": {"*": "zeros"}})
RULE, LATEST = RECIPE.rules[0], LatestSurvey()
CASES = {
    Slot: (OpenSlot, {"name": "w", "shape": (2, 3), "fan_in": 3}),
    Place: (OpenPlace, {"held": (torch.zeros(2),)}),
    Assignment: (OpenAssignment, {"slot": WEIGHT, "rule": RULE, "fill": initframe.Normal(0, 1), "factor": 2.0}),
    Result: (OpenResult, {"assignment": Assignment(WEIGHT, RULE, initframe.Normal(0, 1)), "computed": True}),
    Draw: (OpenDraw, {"out": torch.zeros(1, 2), "distribution": "normal", "args": (0.0, 1.0), "key": (1, 2, 3, 4)}),
    Survey: (OpenSurvey, {"title": "Linear", "slots": (WEIGHT,), "places": {}}),
    Plan: (OpenPlan, {"recipe": RECIPE, "title": "Linear", "assignments": (), "latest": LATEST}),
    Report: (OpenReport, {"plan": None, "seed": 3, "generator": "stream", "results": ()}),
}


@pytest.mark.parametrize("cls", CASES)
def test_what_becomes_frozen_is_as_made_by_its_class(cls):
    open_class, facts = CASES[cls]
    made, usual = open_class(**facts), cls(**facts)
    made.__class__ = cls
    assert type(made) is cls
    assert [getattr(made, f.name) for f in fields(cls)] == [getattr(usual, f.name) for f in fields(cls)]
    first = fields(cls)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(made, first, None)
    assert getattr(replace(made), first) is getattr(made, first)
    for again in (copy.copy(made), pickle.loads(pickle.dumps(made))):
        assert type(again) is cls


def test_equality_and_text_are_those_of_the_class():
    made = OpenSlot(name="w", shape=(2, 3), fan_in=3)
    made.__class__ = Slot
    assert made == WEIGHT
    assert repr(made) == repr(WEIGHT)
