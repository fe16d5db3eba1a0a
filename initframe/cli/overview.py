"""What there is: the version, the commands and their choices, as ``python -m initframe`` and ``--help`` print them."""

from __future__ import annotations

import platform
import re
import textwrap
from collections.abc import Mapping

import hydra
import torch

from initframe import stream
from initframe.cli.groups import about, files, groups
from initframe.errors import printable
from initframe.initializers import list_initializers
from initframe.recipe.presets import conf_directory, presets
from initframe.version import __version__

WIDTH, COLUMN = 110, 24


def version() -> str:
    """Say which version this is, and of what it depends on.

    >>> version().startswith(f"initframe {__version__} (stream version ")
    True
    """
    others = [f"torch {torch.__version__}", f"hydra-core {hydra.__version__}"]
    python = f"Python {platform.python_version()}"
    return f"initframe {__version__} (stream version {stream.VERSION}, {', '.join([*others, python])})"


def overview() -> str:
    """List the commands and the presets.

    >>> print(overview().partition("Presets")[0])
    initframe ...
    Commands, each with --help, --version and --schema
      initframe-compare     what several recipes do to a model's activations and gradients
      ...
    """
    rows = {name: about(path)[1] for name, path in presets().items()}
    parts = [
        version(),
        _table("Commands, each with --help, --version and --schema", commands()),
        _table('Presets, for init=NAME and initframe.load_recipe("NAME")', rows),
    ]
    return "\n\n".join(parts)


def commands() -> dict[str, str]:
    """Name the commands, each with what it does, as the first line of its config says it.

    >>> commands()["initframe-reinit"]
    'build a model, reinitialize it by a recipe, write it down'
    """
    firsts = {
        path.stem: path.read_text(encoding="utf-8").partition("\n")[0] for path in conf_directory().glob("*.yaml")
    }
    return {f"initframe-{name}": re.sub(r"^# .*?`: |\.$", "", first) for name, first in sorted(firsts.items())}


def choices(job: str) -> str:
    """List all models, recipes, experiments and initializers of a job, for the template of ``--help``."""
    recipe = "init" if "init" in groups(job) else "+starts.NAME"
    titles = {"model": "model", "init": recipe, "experiment": "experiment"}
    initializers = textwrap.wrap(", ".join(list_initializers()), WIDTH - 2)
    parts = [_table(f"{title}=", _rows(job, group)) for group, title in titles.items()]
    parts.append("\n".join([f"{recipe}.rules.NAME.init=", *(f"  {line}" for line in initializers)]))
    return "\n\n".join(parts).replace("$", "$$")  # Hydra fills the template in as a shell would


def _rows(job: str, group: str) -> dict[str, str]:
    """Each choice of a group and what it is, but for those that say that they are another command's."""
    rows: dict[str, str] = {}
    for path in files(group):
        command, words = about(path)
        if command in ("", f"initframe-{job}"):
            rows.setdefault(path.stem, words)
    return rows


def _table(title: str, rows: Mapping[str, str]) -> str:
    shown = {name: textwrap.shorten(rows[name], WIDTH - COLUMN, placeholder=" …") for name in sorted(rows)}
    return "\n".join([title, *(f"  {printable(name):<{COLUMN - 2}}{text}".rstrip() for name, text in shown.items())])
