"""initframe-trace: a model's initialization as plan and recipe, in the run's folder."""

import functools
from pathlib import Path

import pytest
from torchvision.models import squeezenet1_1

import initframe
from initframe.cli import trace
from tests.cli.conftest import SMALL

HERE = "hydra.run.dir=run"


def traced(run, *arguments):
    return run(*arguments, main=trace.main, name="trace.py")


def test_a_model_is_read_and_its_recipe_used(command):
    told = traced(command, "model=resnet18", HERE)
    assert told.code == 0
    assert {"run/plan.txt", "run/recipe.yaml"} <= set(told.files)
    assert "torchvision/models/resnet.py" in told.out
    assert told.out.splitlines()[-1].startswith("To use it")
    assert [rule.init for rule in initframe.load_recipe("run/recipe.yaml").rules] == ["torch_default", "kaiming_normal"]
    assert command("model=resnet18", "init=run/recipe.yaml", "dry_run=true").code == 0


@pytest.mark.slow
def test_values_are_read_too(command):
    assert traced(command, *SMALL, "from=values", HERE).code == 0
    assert "Kolmogorov-Smirnov" in initframe.identify(squeezenet1_1())["features.0.weight"].evidence
    assert Path("run/recipe.yaml").exists()


def test_what_cannot_be_read_is_one_message(refused):
    run = functools.partial(refused, main=trace.main, name="trace.py")
    assert "Give constructor or values" in run(*SMALL, "from=thin_air")
    assert "model.weights" in run(*SMALL, "model.weights=DEFAULT")


def test_constructor_is_a_choice_like_any_other(command):
    told = command(*SMALL, "init=constructor", "dry_run=true")
    assert told.code == 0
    assert "constructor" in told.out
