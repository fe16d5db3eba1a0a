"""What a job prints: text, which its log keeps too, and progress bars."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from initframe.errors import Problem, SourceError, printable
from initframe.plan import Plan
from initframe.plan.param_groups import CompanionWarning
from initframe.plan.text import WIDTH, counted


def say(text: str) -> None:
    """Print text without markup or wrapping, and keep it in the job's log; what could move a cursor is escaped.

    Raises:
        SourceError: stdout takes no more.
    """
    text = printable(text, besides="\n")
    record(text)
    try:
        print(text, flush=True)  # noqa: T201
    except OSError as error:
        _drop(sys.stdout.fileno())  # Python would fail once more when it ends
        fact = f"it cannot be written to: {error.strerror}."
        fix = "Read plan.txt or the log in the job's folder; a folder with a manifest.json is complete."
        raise SourceError(Problem("stdout", fact, fix=fix)) from error


def record(text: str, level: int = logging.INFO) -> None:
    """Write text into the job's log files only: the terminal shows it already."""
    entry = logging.LogRecord("initframe", level, __file__, 0, text, None, None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(entry)


def speakable() -> None:
    """Let no terminal and no pipe end a job: it shows ± as a question mark, or drops what nobody reads (``| head``).

    This also holds for what Hydra and progress bars print.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        stream.reconfigure(errors="replace")
        if stream is getattr(sys, f"__{name}__") and not stream.isatty():  # nobody leaves a terminal
            setattr(sys, name, patient(stream))


def patient(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a stream that writes to the file of another one, and drops what follows when its reader is gone.

    Args:
        stream: keeps its file, and is not used any more.
    """
    raw = _Patient(stream.fileno(), "w", closefd=False)
    buffered = io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffered,
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Patient(io.FileIO):
    """A file that takes everything, whether it is read or not."""

    def write(self, data: Any) -> int:
        """Write, or drop what there is no reader for."""
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            _drop(self.fileno())
            return memoryview(data).nbytes


def _drop(file: int) -> None:
    """Have an open file take everything and keep nothing."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, file)
    os.close(nowhere)


def width() -> int:
    """Count the columns of the terminal, or what a plan needs if that is more."""
    return max(WIDTH, Console().width)


@contextmanager
def unwarned() -> Iterator[None]:
    """Leave out Python's warning about companions, which the jobs print as a sentence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompanionWarning)
        yield


def remind(plan: Plan, who: str, what: str) -> None:
    """Print that a recipe asks for more than values, and where that goes, unless its companions are set otherwise."""
    if plan.asks and plan.recipe.companions == "warn":
        say(f"{who} asks for more than values: {what}")


@contextmanager
def filling(plan: Plan) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr while a plan is applied.

    Args:
        plan: what will be applied.

    Yields:
        A function that takes how many elements were filled.
    """
    with progress(f"Filling {counted(len(plan.assignments), 'tensor')}", plan.elements) as advance:
        yield advance


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr.

    Args:
        what: stands before the bar.
        total: how many steps there are.

    Yields:
        A function that takes how many steps were done.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda steps: bar.advance(task, steps)
