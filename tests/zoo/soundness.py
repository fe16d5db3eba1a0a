"""What holds for every real model, built once: no tensor missed, none listed twice, a plan that can be read."""

import math
import warnings

import torch

import initframe
from initframe.fills import Constant, Normal
from initframe.model.survey import survey
from initframe.plan.text import WIDTH


def on_meta(build):
    """Build a model on the meta device without its library's warnings; those of initframe still count."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        return build()


def assert_sound(model):
    """Survey a model, lay kaiming weights and zero biases over it, and read the plan."""
    seen = survey(model)
    assert_covered(seen, model)
    plan = initframe.resolve("kaiming_relu", model)
    assert_planned_once(plan, seen)
    assert_laws(plan)
    assert_readable(plan)
    return seen


def assert_covered(seen, model):
    """Every tensor of the state_dict under exactly one slot, alias or original; nothing else but what is lost."""
    every = (*seen.slots, *seen.raw)
    names = [name for slot in every for name in (slot.name, *slot.aliases)]
    computed = {slot.part_of for slot in seen.raw}
    lost = {name for slot in every if not slot.persistent for name in (slot.name, *slot.aliases)}
    assert len(names) == len(set(names))
    assert set(names) - lost - computed == set(model.state_dict()) - set(seen.extra)
    raw = {slot.name for slot in seen.raw}
    plain = [slot.name for slot in seen.slots if slot.kind == "parameter" and slot.name not in computed]
    assert plain == [name for name, _ in model.named_parameters() if name not in raw]


def assert_planned_once(plan, seen):
    """Every parameter is assigned, untouched or skipped, and one of them only."""
    listed = [*(a.slot.name for a in plan.assignments), *plan.untouched, *plan.skipped]
    assert sorted(listed) == sorted(slot.name for slot in seen.slots if slot.kind == "parameter")


def assert_laws(plan):
    """Weights have the std that kaiming gives them, biases are zero."""
    for assignment in plan.assignments:
        slot, fill = assignment.slot, assignment.fill
        if assignment.rule.name == "biases":
            assert fill == Constant(0.0)
        elif slot.padding_row is None:
            assert fill == Normal(0.0, assignment.asked_std)
            assert math.isclose(fill.std, math.sqrt(2 / slot.fan_in))
    assert {a.rule.name for a in plan.assignments} <= {"weights", "biases"}


def assert_readable(plan):
    """The printed plan fits its columns, and has an explanation for every tensor."""
    assert max(map(len, str(plan).splitlines())) <= WIDTH
    assert all(plan.explain(name).startswith(name) for name in (a.slot.name for a in plan.assignments))
