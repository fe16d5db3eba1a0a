"""What a job shows in a terminal."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from initframe.plan import WIDTH, Plan, counted
from initframe.plan.param_groups import CompanionWarning


def say(text: str) -> None:
    """Print text as it is: no markup, no wrapping of ours."""
    print(text)  # noqa: T201


def width() -> int:
    """The columns of the terminal, and no fewer than a plan needs."""
    return max(WIDTH, Console().width)


@contextmanager
def unwarned() -> Iterator[None]:
    """Leave out Python's warning of companions: its line is one of ours, its way out a program's. The jobs tell it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompanionWarning)
        yield


def remind(plan: Plan, who: str, what: str) -> None:
    """Say that a recipe asks for more than values, and what becomes of it, unless it says that this is seen to."""
    if plan.asks and plan.recipe.companions == "warn":
        say(f"{who} asks for more than values: {what}")


@contextmanager
def filling(plan: Plan) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr while a plan is applied.

    Args:
        plan: what will be applied.

    Yields:
        A function to tell how many elements were filled.
    """
    with progress(f"Filling {counted(len(plan.assignments), 'tensor')}", plan.elements) as advance:
        yield advance


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr.

    Args:
        what: stands before the bar.
        total: how many steps there are.

    Yields:
        A function to tell how many were done.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda steps: bar.advance(task, steps)
