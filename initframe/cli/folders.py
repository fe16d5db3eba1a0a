"""Where a run writes, and what is left where it wrote nothing."""

from __future__ import annotations

from pathlib import Path


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
