"""What a job prints: text, which its log keeps too, and progress bars."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would fail once more when it ends
        fact = f"it cannot be written to: {error.strerror}."
        fix = "Read plan.txt or the log in the job's folder; a folder with a manifest.json is complete."
        raise SourceError(Problem("stdout", fact, fix=fix)) from error


def show(text: str) -> None:
    """Print what no job logs; a reader that wants no more of it (``| head``) is no error."""
    try:
        print(text, flush=True)  # noqa: T201
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would fail once more when it ends


def record(text: str, level: int = logging.INFO) -> None:
    """Write text into the job's log files only: the terminal shows it already."""
    entry = logging.LogRecord("initframe", level, __file__, 0, text, None, None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(entry)


def speakable() -> None:
    """Let a terminal that cannot show ± and → show question marks, rather than fail after the work is done."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


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
