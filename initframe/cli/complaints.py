"""What a user can cause, in one message: Hydra's, YAML's and the system's errors in our own words."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from initframe.cli.choices import about
from initframe.errors import InitframeError, closest
from initframe.recipe.presets import conf_directory

QUOTES = (
    "Quote the whole argument for the shell, and what has parentheses once more: "
    """'+init.rules.head={match: fc.weight, init: normal, std: "1 / sqrt(fan_in)"}'. """
    "A pattern cannot stand in front of the =, a rule's name can"
)
OWN = (
    "--help lists all. Your own: a recipe anywhere, init=FILE.yaml; others in a folder of that name below --config-dir"
)


@contextmanager
def one_message(traceback: bool = False, where: str = "") -> Iterator[None]:
    """Turn what a user can cause into one message on stderr and exit code 1; leave bugs their traceback.

    Args:
        traceback: whether to leave everything its traceback.
        where: put in front of the message.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        number = stop.args[0] if stop.args else signal.SIGINT
        leave("terminated." if number == signal.SIGTERM else "interrupted.", 128 + number)
    except Exception as error:
        message = told(error)
        if traceback or message is None:
            raise
        leave(where + message)


def leave(message: str, code: int = 1) -> None:
    """Say one thing on stderr, and end the process."""
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    raise SystemExit(code)


def told(error: BaseException) -> str | None:
    """Say what went wrong, or ``None`` where the user had no part in it.

    >>> told(NotADirectoryError(20, "Not a directory", "notes.txt/run"))
    'notes.txt/run: Not a directory. Choose another place: hydra.run.dir=…'
    """
    if isinstance(error, InitframeError):
        return str(error)
    for tell in (_told_hydra, _told_omegaconf, _told_yaml, _told_system):
        if message := tell(error):
            return message
    return None


def _told_hydra(error: BaseException) -> str | None:
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException  # noqa: PLC0415

    first, *_ = [*str(error).splitlines(), ""]
    match error:
        case MissingConfigException(missing_cfg_file=str(missing), options=options):
            return _no_such_choice(missing, options or ())
        case OverrideParseException(override=override):
            return f"cannot read {override!r}: {first.removesuffix('.')}. {QUOTES}."
        case HydraException() if other := re.search(r"In 'experiment/([\w-]+)'.*No match in the defaults", first):
            return f"experiment={other[1]} is for another command: {about(other[1])}."
        case HydraException():
            return _unknown_key(error.__cause__) or str(error).strip()
        case ValueError() if first.startswith("Config group override"):
            return f"{first}. Name a choice, as in init=xavier_relu; --help lists them."
    return None


def _no_such_choice(missing: str, options: Any) -> str:
    """A group has no such choice; where Hydra does not list the choices, ours are known."""
    group, _, choice = missing.rpartition("/") if missing.startswith("hydra/") else missing.partition("/")
    if not choice:
        return f"there is no config {missing!r}."
    if choice.endswith((".yaml", ".yml")):
        return f"{group}={choice}: there is no file {choice} in {Path.cwd()}."
    known = {*options, *(path.stem for path in (conf_directory() / group).glob("*.yaml"))}
    return f"unknown {group} {choice!r}. {closest(choice, known)} {OWN}.".replace("  ", " ")


def _unknown_key(error: BaseException | None) -> str | None:
    """A key that the config does not have, with those beside it."""
    from omegaconf.errors import OmegaConfBaseException  # noqa: PLC0415

    if not isinstance(error, OmegaConfBaseException) or not error.full_key:
        return None
    beside = {str(key) for key in error.parent_node or ()}
    if "." in error.full_key:
        fix = "To add a new one, put a + in front."
    else:
        beside |= {path.name for path in conf_directory().iterdir() if path.is_dir()}
        fix = "--help shows all."
    hint = closest(str(error.key), beside - {"hydra", "__pycache__"})
    return f"unknown key {error.full_key}. {hint} {fix}".replace("  ", " ")


def _told_omegaconf(error: BaseException) -> str | None:
    from omegaconf.errors import OmegaConfBaseException  # noqa: PLC0415

    if not isinstance(error, OmegaConfBaseException):
        return None
    first = str(error).splitlines()[0]
    return f"{error.full_key}: {first}" if error.full_key else first


def _told_yaml(error: BaseException) -> str | None:
    """Of files inside of packages; the others are read with our own messages."""
    from yaml import YAMLError  # noqa: PLC0415

    return f"malformed YAML: {error}" if isinstance(error, YAMLError) else None


def _told_system(error: BaseException) -> str | None:
    if not isinstance(error, OSError):
        return None
    place = f"{error.filename}: " if error.filename else ""
    fix = "" if isinstance(error, BrokenPipeError) else " Choose another place: hydra.run.dir=…"
    return f"{place}{error.strerror or error}.{fix}"
