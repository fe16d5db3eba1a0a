"""What --help shows of the config groups: every choice with a line of its own, the user's included."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from initframe.initializers import list_initializers
from initframe.recipe.presets import conf_directory

GROUPS = ("model", "init", "experiment")
WIDTH = 110


def choices() -> str:
    """All choices of all groups, and all initializers, for the template of ``--help``."""
    text = "\n\n".join([*(_group(group, list(_folders())) for group in GROUPS), _initializers()])
    return text.replace("$", "$$")  # Hydra fills the template in like a shell would


def first_words(path: Path) -> str:
    """What a config says about itself in its first comment, up to the end of the first thought.

    >>> from initframe.recipe.presets import presets
    >>> first_words(presets()["zeros_bias"])
    'Zeros on every bias'
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    comments = (line[1:].strip() for line in lines if line.startswith("#") and "@package" not in line)
    return re.split(r"\s\(|[;.:](?:\s|$)", f"{next(comments, '')} ")[0].strip()


def about(experiment: str) -> str:
    """What an experiment of this package is, and which command it is for; empty for any other one.

    >>> about("digits")
    'initframe-train, a trained net for digits, as it was and after four ways to start again'
    """
    path = conf_directory() / "experiment" / f"{experiment}.yaml"
    return first_words(path) if path.is_file() else ""


def _folders() -> Iterator[Path]:
    """The folders that Hydra searches just now, ours first."""
    from hydra.core.global_hydra import GlobalHydra  # noqa: PLC0415

    for source in GlobalHydra.instance().config_loader().get_sources():
        if source.scheme() == "file":
            yield Path(source.path)


def _group(group: str, folders: list[Path]) -> str:
    files: dict[str, Path] = {}
    for folder in folders:
        for path in sorted((folder / group).glob("*.yaml")):
            files.setdefault(path.stem, path)
    about = {name: textwrap.shorten(first_words(path), WIDTH - 24, placeholder=" …") for name, path in files.items()}
    return "\n".join([f"{group}=", *(f"  {name:<22}{about[name]}".rstrip() for name in sorted(about))])


def _initializers() -> str:
    """What a rule's init can be."""
    names = textwrap.wrap(", ".join(list_initializers()), WIDTH - 2)
    return "\n".join(["init.rules.NAME.init=", *(f"  {line}" for line in names)])
