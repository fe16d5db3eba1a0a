"""How Hydra reads config files in a job of this package: within the bounds of recipes, and with their messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from initframe.errors import Problem, RecipeError, shown
from initframe.recipe.files import read_yaml
from initframe.recipe.plain import strangers

_NAME = re.compile(r"\w[\w./-]*")
"""What a recipe may lie over: a choice or a file of the same group, and no place outside of it."""


def own_recipe(config_path: str) -> Path | None:
    """The file that ``init=mine.yaml`` or ``init=recipes/mine.yaml`` names, beside the choices of the group.

    Args:
        config_path: what Hydra looks for, ``"init/mine.yaml"``.

    >>> own_recipe("init/nothing.yaml") is None
    True
    """
    group, _, path = config_path.partition("/")
    if group != "init" or not path.endswith((".yaml", ".yml")) or not Path(path).is_file():
        return None
    return Path(path).resolve()


def check_recipe(path: Path, data: object) -> None:
    """Refuse in a recipe's file what Hydra would read as more than a recipe, and what it could not hold.

    A recipe is data: it may lie over others that it names, and reach nothing else of the job.

    Args:
        path: the file, for the messages.
        data: what it holds.

    Raises:
        RecipeError: with every problem.

    >>> check_recipe(Path("mine.yaml"), {"defaults": ["/model/resnet18@_global_.model"]})
    Traceback (most recent call last):
    initframe.errors.RecipeError: mine.yaml: defaults names '/model/resnet18@_global_.model'. Fix: name recipes, ...
    """
    if data is not None and not isinstance(data, dict):
        raise RecipeError(f"{path}: init is a recipe, got {shown(data)}. Fix: write rules: and a rule under it.")
    given = dict(data or {})
    below = given.pop("defaults", [])
    wrong = [item for item in below if not _NAME.fullmatch(str(item))] if isinstance(below, list) else [below]
    fix = "Fix: name recipes, as in [xavier_relu, mine.yaml, _self_]."
    problems = [Problem(str(path), f"defaults names {shown(item)}.", fix=fix) for item in wrong]
    problems += [problem.on(str(path)) for problem in strangers(given, types_only=True)]
    if problems:
        raise RecipeError(*problems)


@contextmanager
def bounded_config_files() -> Iterator[None]:
    """Hold every config file to the size, the nesting and the distinct keys that a recipe must have.

    Hydra by itself expands a kilobyte of YAML aliases into gigabytes, and does not always say which file is wrong.
    """
    from hydra._internal.core_plugins.file_config_source import FileConfigSource  # noqa: PLC0415
    from hydra._internal.sources_registry import SourcesRegistry  # noqa: PLC0415
    from hydra.core.plugins import Plugins  # noqa: PLC0415
    from hydra.plugins.config_source import ConfigResult  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415

    class BoundedFiles(FileConfigSource):
        def is_config(self, config_path: str) -> bool:
            return super().is_config(config_path) or own_recipe(config_path) is not None

        def load_config(self, config_path: str) -> Any:
            own = own_recipe(config_path)
            path = own or Path(self.path, self._normalize_file_name(config_path))
            data = read_yaml(path) if path.exists() else None
            is_recipe = config_path.startswith("init/") and path.exists()
            if is_recipe:
                check_recipe(path, data)
            if own:
                return ConfigResult(self.provider, self.path, OmegaConf.create(data or {}), {"package": "init"})
            found = super().load_config(config_path)
            if is_recipe and found.header.get("package") not in (None, "init", "_group_"):
                raise RecipeError(
                    f"{path}: a recipe stays where it is. Fix: remove # @package {found.header['package']}."
                )
            return found

    Plugins.instance()  # registers Hydra's own sources first
    known = SourcesRegistry.instance().types
    before = known["file"]
    known["file"] = BoundedFiles
    try:
        yield
    finally:
        known["file"] = before
