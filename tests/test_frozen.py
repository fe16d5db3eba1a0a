"""What a maker makes is as if the frozen class had made it."""

import copy
import inspect
import pickle
from dataclasses import MISSING, FrozenInstanceError, fields, replace

import pytest
import torch

import initframe
from initframe.model.place import Place, make_place
from initframe.model.slot import Slot, make_slot
from initframe.plan.assignment import Assignment, make_assignment
from initframe.plan.report import Result, make_result
from initframe.stream.draws import Draw, make_draw

WEIGHT = Slot("w", (2, 3), fan_in=3)
RULE = initframe.load_recipe({"rules": {"*": "zeros"}}).rules[0]
CASES = {
    Slot: (make_slot, {"name": "w", "shape": (2, 3), "fan_in": 3}),
    Place: (make_place, {"held": (torch.zeros(2),)}),
    Assignment: (make_assignment, {"slot": WEIGHT, "rule": RULE, "fill": initframe.Normal(0, 1), "factor": 2.0}),
    Result: (make_result, {"assignment": Assignment(WEIGHT, RULE, initframe.Normal(0, 1)), "computed": True}),
    Draw: (make_draw, {"out": torch.zeros(1, 2), "distribution": "normal", "args": (0.0, 1.0), "key": (1, 2, 3, 4)}),
}


@pytest.mark.parametrize("cls", CASES)
def test_what_is_made_is_as_made_by_its_class(cls):
    make, facts = CASES[cls]
    made, usual = make(**facts), cls(**facts)
    assert type(made) is cls
    assert [getattr(made, f.name) for f in fields(cls)] == [getattr(usual, f.name) for f in fields(cls)]
    first = fields(cls)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(made, first, None)
    assert getattr(replace(made), first) is getattr(made, first)
    for again in (copy.copy(made), pickle.loads(pickle.dumps(made))):
        assert type(again) is cls


@pytest.mark.parametrize("cls", CASES)
def test_a_maker_takes_the_arguments_of_its_class(cls):
    make, _ = CASES[cls]
    taken, known = inspect.signature(make).parameters, inspect.signature(cls).parameters
    assert list(taken) == list(known)
    assert [p.default is p.empty for p in taken.values()] == [p.default is p.empty for p in known.values()]
    usual = {f.name: f.default for f in fields(cls) if f.default is not MISSING}
    assert {name: taken[name].default for name in usual} == usual


def test_instances_do_not_share_what_a_factory_gives():
    assert make_slot("w", (2,)).settings is not make_slot("v", (2,)).settings


def test_equality_and_text_are_those_of_the_class():
    made = make_slot("w", (2, 3), fan_in=3)
    assert made == WEIGHT
    assert repr(made) == repr(WEIGHT)


def test_every_class_is_a_frozen_one_with_slots():
    for cls in CASES:
        assert cls.__dataclass_params__.frozen
        assert "__dict__" not in dir(cls)
