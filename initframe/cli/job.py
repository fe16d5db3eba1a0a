"""What the jobs share: Hydra around a function, settings as plain data, plugins, and where a run writes."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from initframe.cli.choices import about, choices
from initframe.cli.complaints import one_message
from initframe.errors import InitframeError, SourceError, closest
from initframe.recipe.presets import conf_directory


def hydra_job(name: str, run: Callable[[Any], None]) -> None:
    """Run a function as the Hydra job of a config of this package, with the arguments of the command line.

    Args:
        name: the config's name, ``conf/<name>.yaml``.
        run: takes the composed config; an :class:`InitframeError` it raises ends the process with one message.
            ``HYDRA_FULL_ERROR=1`` in the environment asks for tracebacks.
    """
    import hydra  # noqa: PLC0415  # only the command line needs it
    from omegaconf import OmegaConf  # noqa: PLC0415

    traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"

    def guarded(config: Any) -> None:
        try:
            with one_message(traceback, _which_job()):
                run(config)
        finally:
            leave_nothing(output_directory())

    guarded.__module__ = run.__module__
    OmegaConf.register_new_resolver("initframe.choices", choices, replace=True)  # for the template of --help
    speakable()
    sys.argv[1:] = sorted(sys.argv[1:], key=_is_override)
    with one_message(traceback), _terminable(), _handed_on():
        hydra.main(version_base="1.3", config_path=str(conf_directory()), config_name=name)(guarded)()


class Setting(NamedTuple):
    """What a job's setting must be: in words, and as a test."""

    words: str
    fits: Callable[[Any], bool]


SEED = Setting("an integer from 0 to 2**64 - 1", lambda v: type(v) is int and 0 <= v < 2**64)
COUNT = Setting("a whole number, 0 or more", lambda v: type(v) is int and v >= 0)
SHARE = Setting("a share, 0 or more and below 1", lambda v: type(v) in (int, float) and 0 <= v < 1)
FLAG = Setting("true or false", lambda v: isinstance(v, bool))
GENERATOR = Setting("stream or torch", lambda v: v in ("stream", "torch"))
NAMES = Setting(
    "a list of names, as in [my_module]", lambda v: isinstance(v, list) and all(isinstance(name, str) for name in v)
)
DATA = Setting("a mapping", lambda v: isinstance(v, dict))
RECIPE = Setting("a recipe", lambda v: isinstance(v, dict | str))
SEALED = (DATA, RECIPE)
"""Settings that are data through and through: interpolations in them stay as they are written, and are refused."""


def settings(config: Any, **wanted: Setting) -> dict[str, Any]:
    """The settings of a job as plain data.

    Args:
        config: the composed config.
        **wanted: what the job knows, by name.

    Returns:
        One value per wanted setting.

    Raises:
        InitframeError: one is missing, of the wrong type, or not among the wanted.

    >>> settings({"seed": "7"}, seed=SEED)
    Traceback (most recent call last):
    initframe.errors.InitframeError: seed is an integer from 0 to 2**64 - 1, got '7'.
    """
    from omegaconf.errors import OmegaConfBaseException  # noqa: PLC0415

    problems = list(_unknown([key for key in config if key not in wanted], wanted))
    given = {}
    for key, setting in wanted.items():
        try:
            given[key] = plain(config, key, resolve=setting not in SEALED)
        except OmegaConfBaseException as error:
            problems.append(f"{key}: {str(error).splitlines()[0]}.")
            continue
        if key not in config:
            problems.append(f"{key} is missing: it is {setting.words}.")
        elif not setting.fits(given[key]):
            problems.append(f"{key} is {setting.words}, got {given[key]!r}.")
    if problems:
        raise InitframeError(*problems)
    return given


def _unknown(keys: list[str], wanted: Mapping[str, Setting]) -> Iterator[str]:
    """Settings that the job does not know; where an experiment may have brought them, that is the fact to tell."""
    from hydra.core.hydra_config import HydraConfig  # noqa: PLC0415

    experiment = HydraConfig.get().runtime.choices.get("experiment") if keys and HydraConfig.initialized() else None
    if experiment and about(experiment):
        yield f"unknown setting {', '.join(keys)}. experiment={experiment} is this: {about(experiment)}."
        return
    yield from (f"unknown setting {key}. {closest(key, wanted)}" for key in keys)


def plain(config: Any, key: str, *, resolve: bool) -> Any:
    """One value of a config as plain data, interpolations resolved or left as they are written."""
    from omegaconf import OmegaConf  # noqa: PLC0415

    if not OmegaConf.is_config(config):
        return config.get(key)
    if not resolve:
        return OmegaConf.to_container(config, resolve=False).get(key)  # type: ignore[union-attr]
    value = config.get(key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def import_plugins(names: list[str]) -> None:
    """Import the modules that register initializers of one's own.

    Args:
        names: dotted names, importable from the current directory too.

    Raises:
        SourceError: one cannot be imported.
    """
    if names and "" not in sys.path:
        sys.path.insert(0, "")
    for name in names:
        try:
            importlib.import_module(name)
        except InitframeError:
            raise
        except Exception as error:
            raise SourceError(
                f"plugin {name!r} cannot be imported: {type(error).__name__}: {error}. "
                "Name a module that is installed or lies in the current directory."
            ) from error


def chosen(group: str) -> str:
    """What was chosen in a config group: ``xavier_relu``; ``xavier_relu+head_small`` where one lies over the other."""
    from hydra.core.hydra_config import HydraConfig  # noqa: PLC0415

    choices = HydraConfig.get().runtime.choices
    lists = [text.partition("=")[2].strip("[]") for text in overrides() if text.startswith(f"{group}=[")]
    name = choices.get(group) or "".join(lists[-1:]).replace(",", "+") or choices.get("experiment") or "recipe"
    changed = any(text.lstrip("+~").startswith(f"{group}.") for text in overrides())
    return f"{name}, changed" if changed else name


def overrides() -> list[str]:
    """What the command line changed."""
    from hydra.core.hydra_config import HydraConfig  # noqa: PLC0415

    return list(HydraConfig.get().overrides.task)


def output_directory() -> Path:
    """Where this run writes."""
    from hydra.core.hydra_config import HydraConfig  # noqa: PLC0415

    return Path(HydraConfig.get().runtime.output_dir)


def siblings() -> list[Path]:
    """Where the jobs of this multirun write, this one and those before it; nothing in a single run."""
    from hydra.core.hydra_config import HydraConfig  # noqa: PLC0415
    from hydra.types import RunMode  # noqa: PLC0415

    folder = output_directory()
    return sorted(folder.parent.iterdir()) if HydraConfig.get().mode == RunMode.MULTIRUN else []


def leave_nothing(folder: Path) -> None:
    """Remove a run's folder where nothing was written into it, and what was made to hold it.

    Args:
        folder: a folder below the current one goes with its parents there, any other one alone.
    """
    here = Path.cwd()
    inside = [path for path in (folder, *folder.parents) if path != here and path.is_relative_to(here)]
    for path in inside or {folder} - {here, *here.parents}:
        try:
            path.rmdir()
        except OSError:  # it holds something
            return


def _which_job() -> str:
    """Say which job of a multirun this is."""
    from hydra.core.hydra_config import HydraConfig  # noqa: PLC0415
    from hydra.types import RunMode  # noqa: PLC0415

    job = HydraConfig.get()
    return f"job {job.job.num} ({job.job.override_dirname}): " if job.mode == RunMode.MULTIRUN else ""


def speakable() -> None:
    """Let a terminal that cannot show ± and → show question marks, rather than fail after the work is done."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _is_override(argument: str) -> bool:
    """Tell ``seed=0`` from ``-m``: Hydra's parser takes overrides in one row only, people type them anywhere."""
    return not argument.startswith("-") and ("=" in argument or argument.startswith("~"))


@contextmanager
def _handed_on() -> Iterator[None]:
    """Have Hydra hand its errors on instead of printing them itself."""
    name = "HYDRA_FULL_ERROR"
    before: Mapping[str, str] = {name: os.environ[name]} if name in os.environ else {}
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
        os.environ.update(before)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the process as Ctrl-C does, so that half-written files are removed on the way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
