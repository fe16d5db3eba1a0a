"""What the commands say about themselves: their version, the schema of recipes, and what there is."""

import json
import os
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import initframe
from initframe.cli import reinit, trace, verify
from initframe.cli.overview import commands, overview, version
from initframe.experiments import compare, train
from initframe.recipe.presets import list_presets

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
JOBS = {"reinit": reinit.main, "train": train.main, "trace": trace.main, "compare": compare.main, "verify": verify.main}


def test_every_command_is_listed():
    assert commands().keys() == PROJECT["scripts"].keys()
    assert all(what and "`" not in what for what in commands().values())


def test_every_preset_is_listed():
    lines = {line.split()[0] for line in overview().splitlines() if line.startswith("  ")}
    assert lines == {*commands(), *list_presets()}
    assert all(len(line) <= 110 for line in overview().splitlines())


def test_python_m(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["initframe"])
    monkeypatch.delitem(sys.modules, "initframe.__main__", raising=False)  # another test may have imported it
    runpy.run_module("initframe", run_name="__main__")
    assert capsys.readouterr().out == f"{overview()}\n"


@pytest.mark.parametrize("name", JOBS)
def test_a_command_says_its_own_version(command, name):
    left = command("--version", main=JOBS[name])
    assert (left.code, left.out, left.files + left.hydra) == (0, f"{version()}\n", [])
    assert left.out.startswith(f"initframe {initframe.__version__} ")


@pytest.mark.parametrize("name", JOBS)
def test_a_command_prints_the_schema(command, name):
    left = command("--schema", main=JOBS[name])
    assert (left.code, left.files + left.hydra) == (0, [])
    assert json.loads(left.out)["title"] == "A recipe of initframe"
    assert "xavier_uniform" in names(left)


def names(run):
    """The initializers that a printed schema knows."""
    return json.loads(run.out)["definitions"]["rule"]["properties"]["init"]["enum"]


PLUGIN = """
import initframe


@initframe.initializer("hush")
def hush(slot, *, level: float = 0.1):
    \"\"\"Almost nothing.\"\"\"
    return initframe.Normal(0, level)
"""


def test_the_schema_knows_plugins(command, user_folder, table):
    user_folder("hushes.py", PLUGIN)
    left = command("--schema", "plugins=[hushes]")
    assert "hush" in names(left)
    assert "hush" in names(command("--schema", "plugins=hushes"))


@pytest.mark.parametrize("plugins", ["[", "[no_such_module]", "no_such_module"])
def test_plugins_that_are_none(refused, plugins):
    assert "error: " in refused("--schema", f"plugins={plugins}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["-m", "initframe"], *(["-m", "initframe.cli.reinit", said] for said in ("--schema", "--help"))]
)
def test_a_reader_that_wants_no_more_is_no_error(command):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, *command], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
