"""What a user can cause, in one message: Hydra's, YAML's and the system's errors in our own words."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from initframe.cli.groups import about, groups, keys, of_another
from initframe.errors import InitframeError, closest
from initframe.recipe.presets import conf_directory

QUOTES = (
    "Quote the whole argument for the shell, and what has parentheses, < or > once more: "
    """'+init.rules.head={match: fc.weight, init: normal, std: "1 / sqrt(fan_in)"}'."""
)
OWN = {
    "model": "Any other by its library: model=torchvision model.name=NAME, or timm, or transformers.",
    "init": "Your own: init=FILE.yaml, or NAME.yaml in a folder init below --config-dir.",
    "experiment": "Your own: NAME.yaml in a folder experiment below --config-dir.",
}
EXAMPLES = {"model": "resnet18", "init": "xavier_relu"}


@contextmanager
def one_message(job: str, traceback: bool = False, where: str = "") -> Iterator[None]:
    """Turn what a user can cause into one message on stderr and exit code 1; leave bugs their traceback.

    Args:
        job: the job's name.
        traceback: whether to leave everything its traceback.
        where: put in front of the message.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        number = stop.args[0] if stop.args else signal.SIGINT
        leave("terminated." if number == signal.SIGTERM else "interrupted.", 128 + number)
    except Exception as error:
        message = told(error, job)
        if traceback or message is None:
            raise
        leave(where + message)


def leave(message: str, code: int = 1) -> None:
    """Say one thing on stderr, and end the process."""
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    raise SystemExit(code)


def told(error: BaseException, job: str) -> str | None:
    """Say what went wrong, or ``None`` where the user had no part in it.

    >>> told(NotADirectoryError(20, "Not a directory", "notes.txt/run"), "reinit")
    'notes.txt/run: Not a directory. Choose another place: hydra.run.dir=…'
    """
    if isinstance(error, InitframeError):
        return str(error)
    if message := _told_hydra(error, job):
        return message
    for tell in (_told_omegaconf, _told_yaml, _told_system):
        if message := tell(error):
            return message
    return None


def _told_hydra(error: BaseException, job: str) -> str | None:
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException  # noqa: PLC0415

    first, *_ = [*str(error).splitlines(), ""]
    match error:
        case RecursionError() if _is_by_defaults(error):
            return "a recipe's defaults lead back to itself. Name others there, and _self_ for its own place."
        case MissingConfigException(missing_cfg_file=str(missing), options=options):
            return _no_such_choice(missing, options or ())
        case OverrideParseException(override=str(override)):
            return f"cannot read {override!r}: {_unreadable(override, first)}"
        case HydraException() if found := re.search(r"override '([^'@]+).*No match in the defaults", first):
            return _no_such_group(found[1], first, job)
        case HydraException() if found := re.match(r"(\w+) appears more than once in the final defaults", first):
            return f"there is one {found[1]} already. Write {found[1]}=, without the +, to choose another."
        case HydraException():
            return _unknown_key(error.__cause__, job) or str(error).strip()
        case ValueError() if first.startswith("Config group override"):
            return f"{first}. Name a choice, as in init=xavier_relu; --help lists them."
    return None


def _is_by_defaults(error: BaseException) -> bool:
    """Whether an error comes from following the defaults of config files."""
    at = error.__traceback__
    while at and not at.tb_frame.f_code.co_filename.endswith("defaults_list.py"):
        at = at.tb_next
    return at is not None


def _unreadable(override: str, reason: str) -> str:
    """Why Hydra's grammar cannot read an argument, and how to write it."""
    name, equals, value = override.partition("=")
    if not equals:
        return "it is no NAME=VALUE. --help shows all."
    if not re.fullmatch(r"[+~]*[\w./@-]+", name):
        return f"a pattern cannot stand in front of the =, a rule's name can. {QUOTES}"
    if not re.search(r"""["'{}\[\]]""", value):
        return f"""its value has characters that need quotes. Write '{name}="{value}"', with both kinds of quotes."""
    return f"{reason.removesuffix('.')}. {QUOTES}"


def _no_such_choice(missing: str, options: Any) -> str:
    """A group has no such choice; where Hydra does not list the choices, ours are known."""
    group, _, choice = missing.rpartition("/") if missing.startswith("hydra/") else missing.partition("/")
    if not group:
        return f"there is no config {missing!r}."
    if not choice:
        return f"{group} is empty. Name a choice, as in {group}={EXAMPLES.get(group, 'NAME')}; --help lists them."
    if choice.endswith((".yaml", ".yml")):
        return f"{group}={choice}: there is no file {choice} in {Path.cwd()}."
    known = {*options, *(path.stem for path in (conf_directory() / group).glob("*.yaml"))}
    fix = f"{closest(choice, known)} --help lists all. {OWN.get(group, '').replace('NAME', choice)}"
    return f"unknown {group} {choice!r}. {fix}".replace("  ", " ").rstrip()


def _no_such_group(group: str, reason: str, job: str) -> str:
    """A config group that the job has not; where an experiment asks for it, that is the fact to tell."""
    group = group.removeprefix("/")
    if asked := re.search(r"In 'experiment/([^']+)'", reason):
        for_what = about(asked[1]) or of_another(job, group) or f"initframe-{job} has no {group} to override."
        return f"experiment={asked[1]} is for another command: {for_what.removesuffix('.')}."
    return of_another(job, group) or _unknown(group, groups(job))


def _unknown(key: str, known: Iterable[str]) -> str:
    return f"unknown key {key}. {closest(key, known)} --help shows all.".replace("  ", " ")


def _unknown_key(error: BaseException | None, job: str) -> str | None:
    """A key that the config does not have, with those beside it."""
    from omegaconf.errors import ConfigAttributeError, ConfigKeyError  # noqa: PLC0415

    if not isinstance(error, ConfigAttributeError | ConfigKeyError) or not error.full_key:
        return None
    if "." not in error.full_key:
        return of_another(job, error.full_key) or _unknown(error.full_key, keys(job))
    hint = closest(str(error.key), {str(key) for key in error.parent_node or ()})
    return f"unknown key {error.full_key}. {hint} To add a new one, put a + in front.".replace("  ", " ")


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
