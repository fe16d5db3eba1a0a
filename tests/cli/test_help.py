"""Help: every choice with a line, examples that work when pasted, completion."""

from __future__ import annotations

import json
import subprocess

import pytest
import yaml

from initframe.cli import reinit
from initframe.cli.groups import about
from initframe.experiments import train
from initframe.recipe.presets import conf_directory, presets
from tests.cli.conftest import SMALL

JOBS = {"reinit": reinit.main, "train": train.main}


def examples(text: str) -> list[str]:
    """The lines below "Examples, to be pasted:"."""
    lines = text.partition("Examples, to be pasted:\n")[2].splitlines()
    return [line.strip() for line in lines[: lines.index("")]]


@pytest.fixture(params=JOBS)
def job(request):
    return request.param


def tables(text: str) -> dict[str, dict[str, str]]:
    """Each group of --help by its title, as its choices and what they say about themselves."""
    found = {}
    for part in text.split("\n\n"):
        title, *rows = part.splitlines()
        if title.endswith("="):
            found[title] = {row.split()[0]: row[24:] for row in rows}
    return found


def experiments(job: str) -> set[str]:
    """Those that say they are for this command."""
    found = (conf_directory() / "experiment").glob("*.yaml")
    return {path.stem for path in found if about(path)[0] == f"initframe-{job}"}


def test_every_choice_has_a_line(command, job):
    left = command("--help", main=JOBS[job])
    assert left.code == 0
    assert left.err == ""
    models, recipes, tries, _ = tables(left.out).values()
    assert models.keys() == {path.stem for path in (conf_directory() / "model").glob("*.yaml")}
    assert recipes.keys() == set(presets())
    assert tries.keys() == experiments(job)
    for rows in (models, recipes, tries):
        for name, words in rows.items():
            assert words.strip(), f"{name} says nothing about itself"
            assert "…" not in words, f"what {name} says does not fit its line"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "titles"),
    [
        ("reinit", ["model=", "init=", "experiment=", "init.rules.NAME.init="]),
        ("train", ["model=", "+starts.NAME=", "experiment=", "+starts.NAME.rules.NAME.init="]),
    ],
)
def test_the_titles_are_what_the_command_takes(command, job, titles):
    assert list(tables(command("--help", main=JOBS[job]).out)) == titles
    small = ["dry_run=true", *SMALL] if job == "reinit" else ["images=10", "epochs=0", "~experiment"]
    recipe, init = (title.replace("NAME", "biases") for title in titles[1::2])
    arguments = [f"{recipe}zeros_bias"] if job == "reinit" else [f"{init.replace('.init', '.match')}*bias"]
    left = command(*small, *arguments, f"{init}ones", main=JOBS[job])
    assert left.code == 0, left.err


def test_every_setting_has_a_line_with_what_it_is_by_default(command, job):
    head = command("--help", main=JOBS[job]).out.partition("\nmodel=\n")[0]
    config = yaml.safe_load((conf_directory() / f"{job}.yaml").read_text())
    for name in config.keys() - {"defaults", "hydra", "starts"}:
        value = json.dumps(config[name]).strip('"')
        assert f"\n{name}={value} " in head
    assert ("\n+starts.NAME=RECIPE " in head) == ("starts" in config)


@pytest.mark.slow
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
    user_folder("mine/init/quiet.yaml", "# yaml-language-server: $schema=s.json\n# Whispers; or less\nrules: {}\n")
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


def test_the_line_that_installs_completion(command, job):
    text = command("--help", main=JOBS[job]).out
    assert f'TAB completes after: eval "$(initframe-{job} -sc install=bash)"\n' in text
    script = command("-sc", "install=bash", main=JOBS[job], name=f"/usr/bin/initframe-{job}").out
    line = ["bash", "-c", f"{script}\ncomplete -p initframe-{job}"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout.endswith(f"-F hydra_bash_completion initframe-{job}\n")
