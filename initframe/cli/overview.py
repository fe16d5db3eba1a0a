"""What there is: the version, the commands and the presets, as ``python -m initframe`` prints them."""

from __future__ import annotations

import platform
import re
import textwrap

import hydra
import torch

from initframe import stream
from initframe.cli.groups import about
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


def _table(title: str, rows: dict[str, str]) -> str:
    shown = {name: textwrap.shorten(text, WIDTH - COLUMN, placeholder=" …") for name, text in rows.items()}
    return "\n".join([title, *(f"  {name:<{COLUMN - 2}}{text}" for name, text in shown.items())])
