"""How Hydra reads config files in a job of this package: within the bounds of recipes, and with their messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from initframe.recipe.files import read_yaml


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
            if own := own_recipe(config_path):
                return ConfigResult(
                    self.provider, self.path, OmegaConf.create(read_yaml(own) or {}), {"package": "init"}
                )
            path = Path(self.path, self._normalize_file_name(config_path))
            if path.exists():
                read_yaml(path)
            return super().load_config(config_path)

    Plugins.instance()  # registers Hydra's own sources first
    known = SourcesRegistry.instance().types
    before = known["file"]
    known["file"] = BoundedFiles
    try:
        yield
    finally:
        known["file"] = before
