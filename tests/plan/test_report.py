"""The report: data first, a table second."""

import json
import math

import pytest
import torch
from nets import Tower, rules
from refusals import refused
from torch import nn

import initframe
from initframe.errors import ResolveError
from initframe.plan.text import WIDTH

RECIPE = rules(
    {
        "weights": {"match": "*.weight", "where": "ndim > 1", "init": "xavier_uniform"},
        "*.bias": "zeros",
        "*.norm.*": "keep",
        "scale": {"init": "shift", "by": 0.5},
    }
)


def tower():
    """A model whose values before do not depend on torch's own generator."""
    model = Tower()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((torch.arange(parameter.numel()) % 4).view(parameter.shape))
    return model


def test_a_measured_report(golden):
    report = initframe.reinit(tower(), RECIPE, seed=0, measure=True)
    golden("tower_report.txt", str(report))


@pytest.mark.parametrize("measure", [False, "after", True])
def test_a_report_fits_its_columns(measure):
    report = initframe.reinit(tower(), RECIPE, seed=0, measure=measure)
    for width in (WIDTH, 160):
        lines = report.render(width).split("\nUntouched")[0].splitlines()
        assert max(map(len, lines)) <= width
    assert str(report).startswith("Tower × recipe, seed 0: 33 tensors, 1,617 elements\n")


@pytest.mark.parametrize("measure", [False, "after", True])
def test_a_report_packs_into_json(measure):
    report = initframe.reinit(tower(), RECIPE, seed=3, measure=measure)
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert (data["model"], data["seed"], data["generator"]) == ("Tower", 3, "stream")
    assert [entry["name"] for entry in data["results"]] == [a.slot.name for a in report.plan.assignments]
    for entry in data["results"]:
        assert (entry["before"] is None) == (measure is not True)
        assert (entry["after"] is None) == (entry["digest"] is None) == (not measure)


def strange():
    """A model whose first layer holds values that no report should pass over."""
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight[0, 0] = math.inf
        model[0].bias.fill_(math.nan)
    return model


def test_values_that_are_not_finite_are_said_with_how_many():
    report = initframe.reinit(strange(), rules({"*": "zeros", "0.bias": "keep"}), measure=True)
    weight, bias = report["0.weight"], report["0.bias"]
    assert (weight.before.nonfinite, weight.after.nonfinite, bias.after.nonfinite) == (1, 0, 3)
    assert weight.before.moments.mean == math.inf
    lines = [line for line in str(report).splitlines() if line.startswith("Not finite")]
    assert lines == [
        "Not finite: 0.weight: 1 of 6 values before",
        "Not finite: 0.bias: 3 of 3 values before, 3 of 3 values after",
    ]
    assert "inf → 0" in str(report)
    assert "nan → nan" in str(report)
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["results"][0]["before"] == {"mean": None, "std": None, "nonfinite": 1}
    assert report.to_frame()["nonfinite"].tolist() == [0, 3, 0, 0]
    assert "Not finite" not in str(initframe.reinit(nn.Linear(2, 2), rules({"*": "zeros"}), measure=True))


def test_a_tensor_without_elements_has_no_numbers():
    report = initframe.reinit({"w": torch.zeros(0, 3)}, rules({"*": "zeros"}), measure=True)
    assert "nan" not in str(report)


def test_a_report_is_asked_by_name():
    report = initframe.reinit(tower(), RECIPE)
    assert report["scale"].assignment.rule.name == "scale"
    (problem,) = refused(report.__getitem__, "scael", kind=ResolveError)
    assert "'scael'" in problem.fact
    assert problem.options.startswith("Closest: scale")


def test_equal_digests_are_equal_tensors():
    one, same, other = (
        initframe.reinit(nn.Linear(5, 5), rules(weight="normal"), seed=seed, measure=True) for seed in (0, 0, 1)
    )
    assert one["weight"].digest == same["weight"].digest != other["weight"].digest
    assert len(one["weight"].digest) == 16
