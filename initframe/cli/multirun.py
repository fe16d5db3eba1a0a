"""How Hydra runs several jobs: one after the other, and without files of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from initframe.cli.folders import leave_nothing


@contextmanager
def silent_sweeper() -> Iterator[None]:
    """Leave out what Hydra's sweeper writes by itself, ``multirun.yaml``, and a folder that no job writes into."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper  # noqa: PLC0415

    sweeper: Any = BasicSweeper
    before = sweeper.sweep
    sweeper.sweep = _sweep
    try:
        yield
    finally:
        sweeper.sweep = before


def _sweep(sweeper: Any, arguments: list[str]) -> list[Any]:
    """What ``BasicSweeper.sweep`` does, but for the file: check all jobs of a batch, then run them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # noqa: PLC0415

    parser = OverridesParser.create(config_loader=sweeper.hydra_context.config_loader)
    overrides = parser.parse_overrides([*sweeper._parse_config(), *arguments])  # noqa: SLF001
    jobs: list[Any] = []
    try:
        for batch in sweeper.split_arguments(overrides, sweeper.max_batch_size):
            sweeper.validate_batch_is_legal(batch)
            jobs += sweeper.launcher.launch(batch, initial_job_idx=len(jobs))
    finally:
        leave_nothing(Path.cwd() / sweeper.config.hydra.sweep.dir)
    return [job.return_value for job in jobs]
