"""What --help shows of a command's config groups: every choice with a line of its own, the user's included."""

from __future__ import annotations

import textwrap
from pathlib import Path

from initframe.cli.groups import JOBS, files, first_words
from initframe.initializers import list_initializers

WIDTH, COLUMN = 110, 24
RECIPES = {"reinit": "init", "train": "+starts.NAME"}
"""Where a command takes a recipe."""


def choices(job: str) -> str:
    """All models, recipes and experiments of a job, and all initializers, for the template of ``--help``."""
    titles = {"model": "model", "init": RECIPES[job], "experiment": "experiment"}
    text = "\n\n".join([*(_group(job, group, title) for group, title in titles.items()), _initializers(job)])
    return text.replace("$", "$$")  # Hydra fills the template in like a shell would


def _group(job: str, group: str, title: str) -> str:
    rows: dict[str, str] = {}
    for path in files(group):
        words = _words(path, job)
        if words is not None:
            rows.setdefault(path.stem, textwrap.shorten(words, WIDTH - COLUMN, placeholder=" …"))
    return "\n".join([f"{title}=", *(f"  {name:<{COLUMN - 2}}{rows[name]}".rstrip() for name in sorted(rows))])


def _words(path: Path, job: str) -> str | None:
    """What a choice says about itself; nothing where it is an experiment of another command."""
    command, _, words = first_words(path).partition(", ")
    if command not in {f"initframe-{other}" for other in JOBS}:
        return first_words(path)
    return words if command == f"initframe-{job}" else None


def _initializers(job: str) -> str:
    """What a rule's init can be."""
    names = textwrap.wrap(", ".join(list_initializers()), WIDTH - 2)
    return "\n".join([f"{RECIPES[job]}.rules.NAME.init=", *(f"  {line}" for line in names)])
