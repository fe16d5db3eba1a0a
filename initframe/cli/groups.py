"""A command's config groups: their files, and what the command line chose."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from initframe.errors import InitframeError, Problem, printable
from initframe.recipe.files import read_yaml
from initframe.recipe.presets import conf_directory

_FOR_TOOLS = re.compile(r"#\s*(@package|yaml-language-server:|\$schema:)")
"""A comment that Hydra or an editor reads."""


def files(group: str, name: str | None = None) -> Iterator[Path]:
    """Find the files of a group's choices in every folder that Hydra searches.

    Args:
        group: ``"init"``.
        name: of one choice; all of them if left out.
    """
    sources = GlobalHydra.instance().config_loader().get_sources()
    folders = dict.fromkeys(Path(source.path).resolve() for source in sources if source.scheme() == "file")
    for folder in folders:
        found = [folder / group / f"{name}.yaml"] if name else sorted((folder / group).glob("*.yaml"))
        yield from filter(Path.is_file, found)


def about(path: Path) -> tuple[str, str]:
    """What a config says about itself in its first comment: the command that it is for, if any, and what it is.

    >>> from initframe.recipe.presets import presets
    >>> about(presets()["zeros_bias"])
    ('', 'Zeros on every bias')
    >>> about(conf_directory() / "experiment" / "lottery_ticket.yaml")[0]
    'initframe-train'
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    comments = (line[1:].strip() for line in lines if line.startswith("#") and not _FOR_TOOLS.match(line))
    words = printable(re.split(r"\s\(|[;.:](?:\s|$)", f"{next(comments, '')} ")[0].strip())
    command, comma, rest = words.partition(", ")
    return (command, rest) if comma and command.startswith("initframe-") else ("", words)


def written() -> list[str]:
    """What the command line changed in this job, as it was written."""
    texts: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return list(texts)


def overrides() -> list[Override]:
    """What the command line changed in this job, as Hydra's grammar reads it."""
    return OverridesParser.create().parse_overrides(written())


def experiment() -> str | None:
    """The experiment of this job, if one was chosen."""
    name: str | None = HydraConfig.get().runtime.choices.get("experiment")
    return name


def names(group: str) -> list[str]:
    """The choices in a config group: one, or several that Hydra has merged."""
    if one := HydraConfig.get().runtime.choices.get(group):
        return [one]
    merged = [change.value() for change in overrides() if change.key_or_group == group and not change.is_delete()]
    return [str(name) for name in merged[-1]] if merged and isinstance(merged[-1], list) else []


def chosen(group: str) -> str:
    """Name what was chosen in a config group, for a plan's title.

    ``xavier_relu+head_small`` if several were merged; ``xavier_relu, changed`` if the command line changed it. If an
    experiment was chosen, its name says more: it may hold parts of the group itself.
    """
    name = experiment() or "+".join(names(group)) or "recipe"
    inside = [change for change in overrides() if change.key_or_group.partition(".")[0] == group]
    if not experiment():
        inside = [change for change in inside if change.key_or_group != group]
    return f"{name}, changed" if inside else name


def demand_named(job: str, arguments: Iterable[str]) -> None:
    """Refuse ``null`` as a choice in a config group, at which Hydra shows a traceback.

    Args:
        job: the command's.
        arguments: of the command line.

    Raises:
        InitframeError: there is one.

    >>> demand_named("reinit", ["seed=3", "init=null"])
    Traceback (most recent call last):
    initframe.errors.InitframeError: init: null is no choice. Name one. To have none: ~init.
    """
    known = groups(job)
    found = []
    for argument in arguments:
        with contextlib.suppress(HydraException):  # Hydra will say what is wrong with it
            change = OverridesParser.create().parse_override(argument)
            group = change.key_or_group.partition("@")[0]
            if (group in known or "/" in group) and not change.is_delete() and None in _values(change):
                found.append(Problem(group, "null is no choice.", fix=f"Name one. To have none: ~{group}."))
    if found:
        raise InitframeError(*found)


def groups(job: str) -> set[str]:
    """Name the config groups that a command has.

    >>> sorted(groups("trace"))
    ['hydra', 'model']
    """
    defaults = read_yaml(conf_directory() / f"{job}.yaml")["defaults"]
    return {group for entry in defaults if isinstance(entry, dict) for group in entry}


def _values(change: Override) -> list[Any]:
    """The values that one override has in one run or several."""
    value = change.value()
    several = value.list if isinstance(value, ChoiceSweep) else [value]
    return [item for one in several for item in (one if isinstance(one, list) else [one])]


def demand_one(group: str) -> None:
    """Refuse several choices where one is meant: Hydra would merge them.

    Raises:
        InitframeError: several were chosen.
    """
    if len(found := names(group)) > 1:
        fix = f"To run one after the other: -m {group}={','.join(found)}."
        raise InitframeError(Problem(group, f"it is one choice, got {', '.join(found)}.", fix=fix))
