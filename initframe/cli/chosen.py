"""What the command line has chosen and changed, in the words of a run that is going on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from initframe.cli.groups import files, groups
from initframe.errors import InitframeError


def chosen(group: str) -> str:
    """What was chosen in a config group: ``xavier_relu``; ``xavier_relu+head_small`` where one lies over the other.

    Where an experiment was chosen, its name says more: it may hold parts of the group itself.
    """
    experiment = _experiment()
    name = experiment or "+".join(names(group)) or "recipe"
    starts = (f"{group}.", f"{group}=") if experiment else (f"{group}.",)
    changed = any(text.lstrip("+~").startswith(starts) for text in overrides())
    return f"{name}, changed" if changed else name


def names(group: str) -> list[str]:
    """The choices in a config group, one or several."""
    from hydra.core.hydra_config import HydraConfig  # noqa: PLC0415

    if one := HydraConfig.get().runtime.choices.get(group):
        return [one]
    *_, last = ["", *(text.partition("=")[2] for text in overrides() if text.startswith(f"{group}=["))]
    return [name for name in last.strip("[]").split(",") if name]


def overrides() -> list[str]:
    """What the command line changed, as it was written."""
    from hydra.core.hydra_config import HydraConfig  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415

    written: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return list(written)


def check_choices(job: str) -> None:
    """Refuse what Hydra decides without a word: one of several models, one of several files of the same name.

    Args:
        job: the job's name.

    Raises:
        InitframeError: a choice is not clear.
    """
    if problems := [problem for group in groups(job) for problem in _unclear(group)]:
        raise InitframeError(*problems)


def _unclear(group: str) -> Iterator[str]:
    found = names(group)
    if group == "model" and len(found) > 1:
        yield f"model is one model, got {', '.join(found)}. To take one after the other: -m model={','.join(found)}."
    for name in found:
        ours, *others = [*files(group, name), None]
        if others[:-1]:
            theirs = os.path.relpath(str(others[0]))
            fix = f", or name the file: init={theirs}" if group == "init" else ""
            yield f"there are two {group}={name}, {os.path.relpath(str(ours))} and {theirs}. Rename yours{fix}."


def _experiment() -> str | None:
    from hydra.core.hydra_config import HydraConfig  # noqa: PLC0415

    experiment: str | None = HydraConfig.get().runtime.choices.get("experiment")
    return experiment
