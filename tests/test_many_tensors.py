"""What is shown and said of many tensors costs as much as there are, counted in calls."""

import random
from dataclasses import replace

import pytest
import torch
from torch import nn

import initframe
from initframe.fills import Normal
from initframe.plan.manifest import manifest
from initframe.signal.row import Row
from initframe.signal.verdicts import judge
from tests.calls import calls

FEW = 120
ZEROS = {"rules": {"z": {"match": "*.q.*", "init": "zeros"}}}


def named(count, shape=(2, 2)):
    """Tensors with numbers in their names that share few beginnings or ends."""
    chance = random.Random(count)
    places = [(chance.randrange(10**6), chance.randrange(10**6), chance.choice("qkv")) for _ in range(count)]
    return {f"{first}.x.{second}.{letter}.w": torch.zeros(shape) for first, second, letter in places}


def odd(count):
    """A plan of a constructor's fills: one number for all tensors but for every fifth, which has another."""
    plan = initframe.resolve({"rules": {"*": {"init": "normal", "std": 0.02}}}, nn.Sequential(*layers(count)))
    fills = [Normal(0.0, 0.01 if i % 5 == 0 else 0.02) for i in range(len(plan.assignments))]
    return replace(plan, assignments=tuple(replace(a, fill=f) for a, f in zip(plan.assignments, fills, strict=True)))


def layers(count):
    return [nn.Linear(2, 2, bias=False) for _ in range(count)]


def resolved(count):
    return initframe.resolve(ZEROS, named(count))


def traced(count):
    return initframe.trace(lambda: nn.Sequential(*layers(count)))


def applied(count):
    return initframe.apply(resolved(count), measure=True)


def verified(count):
    return initframe.verify(manifest(applied(count)), {name: torch.ones(2, 2) for name in named(count)})


def different(count):
    model = named(count)
    return initframe.diff(initframe.resolve(ZEROS, model), initframe.resolve({"rules": {"*": "ones"}}, model))


SHOWN = {
    "plan": (resolved, str),
    "plan of a constructor": (traced, str),
    "plan in a notebook": (resolved, lambda plan: plan._repr_html_()),
    "report": (applied, str),
    "report in a notebook": (applied, lambda report: report._repr_html_()),
    "manifest": (applied, manifest),
    "verification": (verified, str),
    "differences": (different, str),
    "recipe of a plan": (odd, initframe.describe),
}


@pytest.mark.parametrize(("make", "show"), SHOWN.values(), ids=SHOWN)
def test_work_grows_as_the_number_of_tensors_does(make, show):
    show(make(8))  # reads and compiles what is kept
    few, many = (calls(show, made) for made in (make(FEW), make(2 * FEW)))
    assert many <= 2.4 * few


def test_no_names_are_searched_for_what_was_requested_of_values():
    """A rule of an identified plan has no initializer; nobody asks for the closest one, tensor by tensor."""
    plan = initframe.identify(nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(FEW))))
    assert len(plan.assignments) == FEW
    assert plan.assignments[0].asked_std  # reads once what is installed
    assert calls(lambda: [a.asked_std for a in plan.assignments]) < 30 * FEW


class Counted(Row):
    """A row that counts how often it is read."""

    reads = 0

    def __getattribute__(self, name):
        Counted.reads += 1
        return super().__getattribute__(name)


def test_verdicts_read_every_row_a_few_times():
    def reads(count):
        Counted.reads = 0
        correlations = [0.1 if i % 2 else 0.999 for i in range(count - 2)] + [0.999, 0.999]
        given = [
            Counted(f"{i}", 0, "Linear", (2, 3), 0.0, 1.0, correlation, depth=i)
            for i, correlation in enumerate([0.1, *correlations])
        ]
        kinds = [one.kind for one in judge(given)]
        assert "correlation" in kinds
        return Counted.reads

    assert reads(2 * FEW) < 2.2 * reads(FEW)
