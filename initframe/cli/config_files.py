"""How Hydra reads config files in a job of this package: within the bounds of recipes, and with their messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from initframe.recipe.files import read_yaml


@contextmanager
def bounded_config_files() -> Iterator[None]:
    """Hold every config file to the size, the nesting and the distinct keys that a recipe must have.

    Hydra by itself expands a kilobyte of YAML aliases into gigabytes, and does not always say which file is wrong.
    """
    from hydra._internal.core_plugins.file_config_source import FileConfigSource  # noqa: PLC0415
    from hydra._internal.sources_registry import SourcesRegistry  # noqa: PLC0415
    from hydra.core.plugins import Plugins  # noqa: PLC0415

    class BoundedFiles(FileConfigSource):
        def load_config(self, config_path: str) -> Any:
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
