"""The line between what a command trusts and what it reads as data."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import SMALL

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
GLOBAL = "# @package _global_\nhydra: {callbacks: {mine: {_target_: os.getcwd}}}\nrules: {}\n"
LEAK = 'rules:\n  "*.weight": {init: constant, val: "${oc.env:INITFRAME_SECRET}"}\n'


@pytest.mark.parametrize("place", ["[mine]", "[file://mine]", "[pkg://mine_package]"])
@pytest.mark.parametrize(("text", "said"), [(GLOBAL, "stays in its own part"), (LEAK, "reads nothing from outside")])
def test_recipes_of_every_search_path_are_data(refused, user_folder, monkeypatch, place, text, said):
    monkeypatch.setenv("INITFRAME_SECRET", "s3cr3t")
    folder = "mine_package" if "pkg" in place else "mine"
    here = user_folder(f"{folder}/init/strange.yaml", text).parents[2]
    user_folder(f"{folder}/__init__.py", "")
    monkeypatch.syspath_prepend(here)
    message = refused(*SMALL, f"hydra.searchpath={place}", "init=strange")
    assert said in message
    assert "s3cr3t" not in message


def test_a_recipe_reaches_no_file_above_the_current_folder(refused, user_folder):
    user_folder("mine.yaml", "defaults: [a/../../other.yaml]\nrules: {}\n")
    assert "defaults names 'a/../../other.yaml'" in refused(*SMALL, "init=mine.yaml")


@pytest.mark.parametrize(
    "text", ["SECRET=s3cr3t\n", "s3cr3t\n", "- s3cr3t\n", "s3cr3t: [\n", "a: b: s3cr3t\n", "\ts3cr3t"]
)
def test_the_lines_of_any_file_are_not_shown(refused, user_folder, text):
    user_folder("notes.yaml", text)
    assert "s3cr3t" not in refused(*SMALL, "init=notes.yaml")
    message = refused(*SMALL, "+init.rules.all={match: '*', init: pretrained, path: notes.yaml}")
    assert "s3cr3t" not in message
    assert "it is no checkpoint" in message


def test_what_a_setting_reads_is_not_shown(refused, monkeypatch):
    monkeypatch.setenv("INITFRAME_SECRET", "s3cr3t")
    message = refused(*SMALL, "seed=${oc.env:INITFRAME_SECRET}")
    assert "s3cr3t" not in message
    assert "seed: it is '${oc.env:INITFRAME_SECRET}'" in message


def test_help_shows_no_escapes(command, user_folder):
    user_folder("mine/init/strange\x1b[2J.yaml", "# words \x1b[31m and \u202e more\nrules: {}\n")
    left = command("--config-dir=mine", "--help")
    assert "words" in left.out
    assert not {*"\x1b\u202e"} & {*left.out}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_terminal_is_told_as_such(tmp_path):
    own = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, ROOT / "scripts/reinit.py", *SMALL, "hydra.run.dir=run"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(line, cwd=tmp_path, env=own, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "error: stdout: it cannot be written to: No space left on device" in done.stderr
    assert "hydra.run.dir" not in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "manifest.json").is_file()
