"""What the jobs share: Hydra around a function, plugins, plain data out of a config, and errors in one message."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from initframe.errors import InitframeError, SourceError
from initframe.recipe.presets import conf_directory


def hydra_job(name: str, run: Callable[[Any], None]) -> None:
    """Run a function as the Hydra job of a config of this package, with the arguments of the command line.

    Args:
        name: the config's name, ``conf/<name>.yaml``.
        run: takes the composed config; an :class:`InitframeError` it raises ends the process with one message.
    """
    import hydra  # noqa: PLC0415  # only the command line needs it

    def guarded(config: Any) -> None:
        with one_message():
            run(config)

    guarded.__module__ = run.__module__
    with one_message():
        hydra.main(version_base="1.3", config_path=str(conf_directory()), config_name=name)(guarded)()


@contextmanager
def one_message() -> Iterator[None]:
    """Turn what a user can cause into one message on stderr and exit code 1; leave bugs their traceback."""
    from hydra.errors import HydraException  # noqa: PLC0415
    from omegaconf.errors import OmegaConfBaseException  # noqa: PLC0415
    from yaml import YAMLError  # noqa: PLC0415

    wants_traceback = os.environ.setdefault("HYDRA_FULL_ERROR", "1") != "1"
    try:
        yield
    except InitframeError as error:
        _leave(str(error))
    except (HydraException, OmegaConfBaseException, YAMLError, OSError) as error:
        if wants_traceback:
            raise
        _leave(_told(error))


def _leave(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    raise SystemExit(1)


def _told(error: BaseException) -> str:
    """An exception and its cause, without repeating either."""
    parts = [str(error)]
    if error.__cause__ is not None and str(error.__cause__) not in parts[0]:
        parts.append(str(error.__cause__))
    return "\n".join(parts)


def import_plugins(modules: Any) -> None:
    """Import the modules that register initializers of one's own.

    Args:
        modules: dotted names, importable from the current directory too.

    Raises:
        SourceError: one cannot be imported, or there is no list.
    """
    names = plain(modules)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SourceError(f"plugins is a list of module names, got {names!r}. Write plugins=[my_module].")
    if names and "" not in sys.path:
        sys.path.insert(0, "")
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise SourceError(
                f"plugin {name!r} cannot be imported: {error}. "
                "Name a module that is installed or lies in the current directory."
            ) from error


def plain(config: Any) -> Any:
    """A part of a config as plain data, interpolations left as they were written: a recipe reads no environment."""
    from omegaconf import OmegaConf  # noqa: PLC0415

    return OmegaConf.to_container(config, resolve=False) if OmegaConf.is_config(config) else config


def chosen(group: str) -> str:
    """What was chosen in a config group: ``xavier_relu``; ``xavier_relu+head_small`` where one lies over the other."""
    from hydra.core.hydra_config import HydraConfig  # noqa: PLC0415

    choice = HydraConfig.get().runtime.choices.get(group)
    return choice if isinstance(choice, str) else "+".join(choice or ["recipe"])


def output_directory() -> Path:
    """Where this run writes."""
    from hydra.core.hydra_config import HydraConfig  # noqa: PLC0415

    return Path(HydraConfig.get().runtime.output_dir)
