"""Where a run writes, and what is left where it wrote nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def output_directory() -> Path:
    """Where this run writes."""
    from hydra.core.hydra_config import HydraConfig  # noqa: PLC0415

    return Path(HydraConfig.get().runtime.output_dir)


def siblings() -> list[Path]:
    """Where the jobs of this multirun write, those before this one and it; nothing in a single run."""
    from hydra.core.hydra_config import HydraConfig  # noqa: PLC0415
    from hydra.types import RunMode  # noqa: PLC0415

    folder, run = output_directory(), HydraConfig.get()
    if run.mode != RunMode.MULTIRUN or folder.name != str(run.job.num):  # folders by other names, nobody knows whose
        return []
    return [folder.parent / str(number) for number in range(run.job.num + 1)]


_there: set[Path] = set()
"""The folders on the way to where a run writes, of those that were there before it."""


def watching() -> Any:
    """A callback of Hydra's that notes, before a run makes folders, which are there."""
    from hydra.experimental.callback import Callback  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415

    def note(config: Any, key: str) -> None:
        folder = Path.cwd() / str(OmegaConf.select(config, key))
        _there.clear()
        _there.update(path for path in (folder, *folder.parents) if path.exists())

    class Watching(Callback):
        def on_run_start(self, config: Any, **_: Any) -> None:
            note(config, "hydra.run.dir")

        def on_multirun_start(self, config: Any, **_: Any) -> None:
            note(config, "hydra.sweep.dir")

    return Watching()


def leave_nothing(folder: Path) -> None:
    """Remove a run's folder where nothing was written into it, and what was made to hold it.

    Args:
        folder: goes with its parents, as far as they were not there before the run and are not around the current one.
    """
    here = Path.cwd()
    for path in (folder, *folder.parents):
        if path in {*_there, here, *here.parents}:
            return
        try:
            path.rmdir()
        except OSError:  # it holds something
            return
