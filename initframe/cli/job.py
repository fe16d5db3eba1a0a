"""What the jobs share: Hydra around a function, and plugins."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException, HydraException
from omegaconf import OmegaConf

from initframe.cli import recipes
from initframe.cli.console import speakable
from initframe.cli.errors import leave, reported, stoppable
from initframe.cli.folders import demand_free, is_rerun, output_directory
from initframe.cli.groups import demand_named, demand_one
from initframe.cli.overview import choices, version
from initframe.errors import InitframeError, Problem, SourceError
from initframe.recipe.presets import conf_directory
from initframe.resolver.schema import schema_text


def hydra_job(name: str, run: Callable[[Any], float]) -> None:
    """Run a function as the Hydra job of a config of this package, with the arguments of the command line.

    Args:
        name: the config's name, ``conf/<name>.yaml``.
        run: takes the composed config and returns a number, which Hydra's sweepers read. It runs in the folder where
            the command was typed, so that relative paths mean the same with ``hydra.job.chdir=true``. An
            :class:`InitframeError` that it raises ends the process with one message.
    """

    def task(config: Any) -> float:
        with reported(), contextlib.chdir(HydraConfig.get().runtime.cwd):
            if not is_rerun():  # which replaces its own files, and whose config was composed before
                demand_free(config, output_directory())
                recipes.demand_deletable()
            demand_one("model")
            return run(config)

    atexit.register(gc.freeze)  # a process that ends looks for garbage in all that is loaded, which takes a second
    speakable()
    if (said := _said(sys.argv[1:])) is not None:
        print(said)  # noqa: T201
        return
    recipes.register()
    OmegaConf.register_new_resolver("initframe.choices", lambda: choices(name), replace=True)  # for --help
    sys.argv[1:] = sorted(sys.argv[1:], key=_is_override)
    with stoppable():
        try:
            demand_named(name, sys.argv[1:])
            hydra.main(version_base="1.3", config_path=str(conf_directory()), config_name=name)(task)()
        except InitframeError as error:
            leave(str(error))
        except CompactHydraException as error:  # of a rerun, which Hydra leaves to its caller
            if os.environ.get("HYDRA_FULL_ERROR") == "1":
                raise
            leave(str(error))


def import_plugins(names: list[str]) -> None:
    """Import the modules that register initializers or models of one's own.

    Args:
        names: dotted names, importable from the current directory too.

    Raises:
        SourceError: one cannot be imported.
    """
    if names and "" not in sys.path:
        sys.path.append("")  # last, so that no file here takes the place of an installed library
    for name in names:
        try:
            importlib.import_module(name)
        except InitframeError:
            raise
        except Exception as error:
            fact = f"it cannot be imported: {type(error).__name__}: {error}."
            fix = "Name a module that is installed, or a file in the current directory."
            raise SourceError(Problem(f"plugin {name!r}", fact, fix=fix)) from error


def _said(arguments: list[str]) -> str | None:
    """What a command prints instead of doing its job: its version, or the schema of recipes, plugins included."""
    if "--version" in arguments:
        return version()
    if "--schema" not in arguments:
        return None
    try:
        for text in (text for text in arguments if text.lstrip("+").startswith("plugins=")):
            value = OverridesParser.create().parse_override(text).value()
            import_plugins([str(name) for name in (value if isinstance(value, list) else [value])])
        return schema_text()
    except (InitframeError, HydraException) as error:
        leave(str(error))


def _is_override(argument: str) -> bool:
    """Tell ``seed=0`` from ``-m``: Hydra's parser takes overrides in one row only, people type them anywhere."""
    return not argument.startswith("-") and ("=" in argument or argument.startswith("~"))
