"""What the jobs share: Hydra around a function, plugins and signals."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from initframe.cli.choices import choices
from initframe.cli.chosen import check_choices
from initframe.cli.config_files import bounded_config_files
from initframe.cli.errors import one_message
from initframe.cli.folders import leave_nothing, output_directory
from initframe.cli.multirun import silent_sweeper
from initframe.errors import InitframeError, SourceError
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
            with one_message(name, traceback, _which_job()):
                check_choices(name)
                run(config)
        finally:
            leave_nothing(output_directory())

    guarded.__module__ = run.__module__
    OmegaConf.register_new_resolver("initframe.choices", lambda: choices(name), replace=True)  # for --help
    speakable()
    sys.argv[1:] = sorted(sys.argv[1:], key=_is_override)
    with one_message(name, traceback), _terminable(), _handed_on(), bounded_config_files(), silent_sweeper():
        hydra.main(version_base="1.3", config_path=str(conf_directory()), config_name=name)(guarded)()


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
