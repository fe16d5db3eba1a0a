"""What a command's arguments can begin with: its config groups, whose choices are files, and its settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from initframe.recipe.files import read_yaml
from initframe.recipe.presets import conf_directory

JOBS = ("reinit", "train")
INSTEAD = {"init": " Its recipes are starts: +starts.NAME=RECIPE, and ~starts.NAME removes one."}
"""What a command has in the place of what only the other one has."""


def groups(job: str) -> tuple[str, ...]:
    """The config groups of a job.

    >>> groups("train")
    ('model', 'experiment')
    """
    defaults = read_yaml(conf_directory() / f"{job}.yaml")["defaults"]
    return tuple(group for entry in defaults if isinstance(entry, dict) for group in entry if group != "hydra")


def keys(job: str) -> set[str]:
    """The config groups and the settings of a job.

    >>> sorted(keys("reinit"))
    ['dry_run', 'experiment', 'generator', 'init', 'model', 'plugins', 'seed']
    """
    return {*groups(job), *read_yaml(conf_directory() / f"{job}.yaml")} - {"defaults", "hydra"}


def of_another(job: str, key: str) -> str:
    """Say that another command has a group or a setting which this one has not; empty where none has it.

    >>> of_another("reinit", "freeze")
    'initframe-reinit has no freeze, initframe-train has.'
    """
    if job not in JOBS or key in keys(job):
        return ""
    other = next((other for other in JOBS if key in keys(other)), None)
    return f"initframe-{job} has no {key}, initframe-{other} has.{INSTEAD.get(key, '')}" if other else ""


def files(group: str, name: str | None = None) -> Iterator[Path]:
    """The files that a group's choices are, or one of them, in all folders that Hydra searches just now, ours first."""
    from hydra.core.global_hydra import GlobalHydra  # noqa: PLC0415

    found = (Path(s.path) for s in GlobalHydra.instance().config_loader().get_sources() if s.scheme() == "file")
    for folder in dict.fromkeys(path.resolve() for path in found):
        named = [folder / group / f"{name}.yaml"] if name else sorted((folder / group).glob("*.yaml"))
        yield from filter(Path.is_file, named)


def about(experiment: str) -> str:
    """What an experiment of this package is, and which command it is for; empty for any other one.

    >>> about("digits")
    'initframe-train, a trained net for digits, as it was and after four ways to start again'
    """
    path = conf_directory() / "experiment" / f"{experiment}.yaml"
    return first_words(path) if path.is_file() else ""


def first_words(path: Path) -> str:
    """What a config says about itself in its first comment, up to the end of the first thought.

    >>> from initframe.recipe.presets import presets
    >>> first_words(presets()["zeros_bias"])
    'Zeros on every bias'
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    comments = (line[1:].strip() for line in lines if line.startswith("#") and "@package" not in line)
    return re.split(r"\s\(|[;.:](?:\s|$)", f"{next(comments, '')} ")[0].strip()
