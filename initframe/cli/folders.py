"""Where a run writes: never over what it reads, and over an earlier run only if it is told to."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from initframe.cli.errors import leave, problems
from initframe.errors import InitframeError, Problem, SourceError
from initframe.files.atomic import remove, replacing

FILES = ("manifest.json", "results.json", "model.safetensors", "plan.txt", "page.html", "picture.svg")
"""What the jobs write. The first two are records: a folder with one of them holds a finished run."""
RECORDS = {"manifest.json", "results.json"}
DATA = ("model", "init", "starts", "inits", "input")
"""Parts of a config that name files to read."""
FOLDERS = ("checkpoint", "path")
"""Keys there that may name a folder."""


def output_directory() -> Path:
    """Return the folder of this run."""
    return Path(HydraConfig.get().runtime.output_dir)


def siblings() -> list[Path]:
    """List the folders of a multirun's jobs, up to this one; nothing in a single run.

    Folders that were named otherwise than by the job's number are not told apart from others, and are not listed.
    """
    folder, run = output_directory(), HydraConfig.get()
    if run.mode != RunMode.MULTIRUN or folder.name != str(run.job.num):
        return []
    return [folder.parent / str(number) for number in range(run.job.num + 1)]


def demand_free(config: Any, folder: Path) -> None:
    """Refuse a folder where a run would destroy what it reads, or what an earlier run wrote.

    Args:
        config: the job's config.
        folder: where its files would go.

    Raises:
        SourceError: an input is there, or files of an earlier run are and ``overwrite`` is not true.
    """
    found = list(_inputs_in(config, folder.resolve()))
    earlier = [name for name in FILES if (folder / name).is_file()]
    if earlier and OmegaConf.select(config, "overwrite") is not True and not found:
        fix = "Choose another folder, hydra.run.dir=…, or replace them: overwrite=true."
        run = "an earlier run" if RECORDS.intersection(earlier) else "an earlier run that did not finish"
        found.append(Problem(os.path.relpath(folder), f"it has files of {run}: {', '.join(earlier)}.", fix=fix))
    if found:
        raise SourceError(*found)


@contextmanager
def run_set(config: Any, names: Sequence[str]) -> Iterator[dict[str, Path]]:
    """Write a run's files as one set, in place of an earlier one.

    Args:
        config: the job's config.
        names: the files; the last one is the record, without which the run is unfinished.

    Yields:
        A temporary path by name.

    Raises:
        SourceError: while this run waited for the folder, another one has written its files there.
        OSError: another run writes there, or the files cannot be written.
    """
    folder = output_directory()
    with replacing(*(folder / name for name in names), stale=[folder / name for name in FILES]) as drafts:
        if not is_rerun():
            demand_free(config, folder)
        yield dict(zip(names, drafts, strict=True))


def with_room(write: Callable[[], None]) -> None:
    """Write a draft of this run; if the disk is full, remove the earlier run's files, the record first, and try again.

    Args:
        write: what to do, once or twice.

    Raises:
        OSError: the disk is full without them, too.
    """
    try:
        write()
    except OSError as error:
        earlier = [path for name in FILES if (path := output_directory() / name).is_file()]
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not earlier:
            raise
        remove(earlier)
        write()


def is_rerun() -> bool:
    """Whether Hydra runs an earlier job again, which replaces its own files."""
    return any(argument.startswith("--experimental") for argument in sys.argv[1:])


def _inputs_in(config: Any, folder: Path) -> Iterator[Problem]:
    """Files and folders that a config reads and that are, or are around, what a run writes into a folder."""
    written = {folder / name for name in FILES} | {(folder / name).resolve() for name in FILES}
    fix = "Choose another folder: hydra.run.dir=…"
    for key, text in _texts(config):
        path = _existing(text)
        if path is None:
            continue
        is_source = key.rpartition(".")[2] in FOLDERS
        around = path if path.is_dir() else path.parent if path.name.endswith(".index.json") else None
        if path in written or (is_source and around == folder):
            yield Problem(key, f"{text} is read, and this run would write over it.", fix=fix)


def _texts(config: Any) -> Iterator[tuple[str, str]]:
    """Every text in the parts of a config that name files, with its key."""

    def walk(key: str, value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for inner, item in value.items():
                yield from walk(f"{key}.{inner}", item)
        elif isinstance(value, list):
            for item in value:
                yield from walk(key, item)
        elif isinstance(value, str):
            yield key, value

    data: Any = OmegaConf.to_container(config, resolve=False)
    for part in DATA:
        yield from walk(part, data.get(part))


def _existing(text: str) -> Path | None:
    """The file or folder that a text names, links followed."""
    try:
        path = Path(os.path.expanduser(text)).resolve()  # noqa: PTH111  # Path's own fails for ~nobody
        return path if text and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # no path at all
        return None


class Guard(Callback):
    """Looks at a run's folder before Hydra writes into it: it saves a job's config before it calls the job.

    Hydra takes an exception of a callback for a warning, so a refusal ends the process.
    """

    def on_run_start(self, config: Any, **_: Any) -> None:
        """Check the folder of a single run."""
        self._check(config, "hydra.run.dir")

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Check what the jobs of a multirun may find; each job checks its own folder again."""
        self._check(config, "hydra.sweep.dir", in_numbers=True)

    def _check(self, config: Any, key: str, in_numbers: bool = False) -> None:
        try:
            folder = Path(str(OmegaConf.select(config, key)))
            folder.mkdir(parents=True, exist_ok=True)
            numbered = [path for path in sorted(folder.iterdir()) if path.name.isdecimal()] if in_numbers else [folder]
            for path in numbered:
                demand_free(config, path)
        except OmegaConfBaseException:  # a folder that only the job can name
            return
        except (InitframeError, OSError) as error:
            leave(str(InitframeError(*problems(error))))
