"""How a job ends early: what a user can cause is one message, and a signal is an exit code."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from hydra.errors import CompactHydraException

from initframe.cli.console import record
from initframe.errors import InitframeError, Problem


@contextmanager
def reported() -> Iterator[None]:
    """Turn what a user can cause into an error that Hydra prints without a traceback; leave bugs theirs.

    Hydra's launchers hand such an error on from other processes; ``HYDRA_FULL_ERROR=1`` in the environment shows where
    it came from.
    """
    try:
        yield
    except (InitframeError, OSError) as error:
        message = str(InitframeError(*problems(error)))
        record(message, logging.ERROR)
        raise CompactHydraException(f"error: {message}") from error


def problems(error: InitframeError | OSError) -> tuple[Problem, ...]:
    """Say what went wrong, as data.

    >>> print(*problems(NotADirectoryError(20, "Not a directory", "notes.txt/run")))
    notes.txt/run: Not a directory. Choose another place: hydra.run.dir=…
    """
    if isinstance(error, InitframeError):
        return error.problems
    fix = "" if isinstance(error, BrokenPipeError) else "Choose another place: hydra.run.dir=…"
    return (Problem(str(error.filename or ""), f"{error.strerror or error}.", fix=fix),)


def leave(message: str, code: int = 1) -> NoReturn:
    """Say one thing on stderr, and end the process."""
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    raise SystemExit(code)


@contextmanager
def stoppable() -> Iterator[None]:
    """End the process on SIGTERM as on Ctrl-C: half-written files are removed on the way, and one line says why."""

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt(number)

    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if in_main else None
    try:
        yield
    except KeyboardInterrupt as stopped:
        number = stopped.args[0] if stopped.args else signal.SIGINT
        leave("terminated." if number == signal.SIGTERM else "interrupted.", 128 + number)
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)
