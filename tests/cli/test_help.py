"""Help: every choice with a line, examples that work when pasted, completion."""

from __future__ import annotations

import subprocess

import pytest

from initframe.cli import reinit, train
from initframe.cli.choices import GROUPS
from initframe.recipe.presets import conf_directory

JOBS = {"reinit": reinit.main, "train": train.main}


def examples(text: str) -> list[str]:
    """The lines below "Examples, to be pasted:"."""
    lines = text.partition("Examples, to be pasted:\n")[2].splitlines()
    return [line.strip() for line in lines[: lines.index("")]]


@pytest.fixture(params=JOBS)
def job(request):
    return request.param


def test_every_choice_has_a_line(command, job):
    left = command("--help", main=JOBS[job])
    assert left.code == 0
    assert left.err == ""
    lines = {line.split()[0]: line.split(maxsplit=1)[1:] for line in left.out.splitlines() if line.startswith("  ")}
    for group in GROUPS:
        assert f"\n{group}=\n" in left.out
        for path in (conf_directory() / group).glob("*.yaml"):
            assert lines[path.stem], f"{group}={path.stem} says nothing about itself"


def test_every_setting_has_a_line(command, job):
    text = command("--help", main=JOBS[job]).out
    head = (conf_directory() / f"{job}.yaml").read_text()
    for line in head.partition("defaults:")[2].partition("\nhydra:")[0].splitlines():
        name = line.partition(":")[0]
        if name.isidentifier():
            assert name in text


def test_three_examples_that_work_when_pasted(command, job):
    lines = examples(command("--help", main=JOBS[job]).out)
    assert len(lines) == 3
    for line in lines:
        name, _, rest = line.partition(" ")
        assert name == f"initframe-{job}"
        seen = subprocess.run(["bash", "-c", f"printf '%s\\0' {rest}"], capture_output=True, text=True, check=True)
        small = ["dry_run=true"] if job == "reinit" else ["images=100", "epochs=1"]
        left = command(*seen.stdout.split("\0")[:-1], *small, main=JOBS[job])
        assert left.code == 0, left.err


def test_choices_of_ones_own_are_shown_too(command, user_folder):
    user_folder("mine/init/quiet.yaml", "# Whispers; or less\nrules: {}\n")
    user_folder("mine/init/strange.yaml", b"# \xff costs $5\nrules: {}\n")
    user_folder("mine/init/silent.yaml", "rules: {}\n")
    left = command("--help", "--config-dir=mine")
    assert "  quiet                 Whispers\n" in left.out
    assert "  silent\n" in left.out
    assert "costs $5" in left.out


def test_a_choice_says_what_it_is_before_it_says_how(command):
    text = command("--help").out
    assert "  vgg                   VGG" in text
    assert all(len(line) <= 120 for line in text.splitlines())


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("init=xavier_r", "init=xavier_relu"), ("mod", "model="), ("init.rules.w", "init.rules.weights.")],
)
def test_completion(command, monkeypatch, typed, offered):
    line = f"initframe-reinit {typed}"
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    monkeypatch.setenv("COMP_CWORD", "1")
    left = command("-sc", "query=bash")
    assert offered in left.out.split()
