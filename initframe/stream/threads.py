"""Run tasks on threads, in batches that are worth handing over; compile in one thread at a time."""

from __future__ import annotations

import os
import threading
from _thread import start_new_thread
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice
from queue import Empty, SimpleQueue
from typing import NamedTuple, TypeAlias

import torch

BATCH = 1 << 20
"""Elements of a batch: enough to be worth handing over to another thread."""
AHEAD = 4
"""Batches per thread that may wait in the queue."""


class Task(NamedTuple):
    """A piece of work that returns a number, and its size in elements."""

    run: Callable[[], int]
    size: int


Batch: TypeAlias = list[Task]

COMPILING = threading.RLock()
"""Held while a backend is loaded and while LLVM compiles: both happen in one thread at a time."""

if hasattr(os, "register_at_fork"):
    # A forked child has only the forking thread: a lock that another thread held, this one or LLVM's own, would stay
    # locked forever. So nobody forks while it is held.
    os.register_at_fork(before=COMPILING.acquire, after_in_parent=COMPILING.release, after_in_child=COMPILING.release)


def spread(tasks: Iterable[Task], threads: int | None = None) -> Iterator[int]:
    """Run tasks on several threads, the calling one included.

    If the system gives fewer threads, or none, those that exist do the work.

    Args:
        tasks: the work, read by the calling thread as it is needed. No task may depend on another.
        threads: how many; by default ``torch.get_num_threads()``.

    Yields:
        The sum of each batch's results, in any order. A reader that stops, or that an error or an interrupt stops,
        gets control back when no thread works any more: no task runs later.

    >>> sum(spread(Task(lambda k=k: k, size=1 << 19) for k in range(10)))
    45
    """
    batches, threads = _batches(tasks), threads or torch.get_num_threads()
    first = list(islice(batches, 2))
    if threads == 1 or len(first) < 2:
        yield from map(_run, chain(first, batches))
        return
    crew = Crew(threads - 1)
    try:
        for batch in chain(first, batches):
            yield from crew.finished()
            if crew.waiting() < AHEAD * threads:
                crew.hand_over(batch)
            else:
                yield _run(batch)
        yield from crew.rest()
    finally:
        # After an error, or if the reader stops, batches that no thread has begun stay undone.
        interrupt: BaseException | None = None
        while crew.gates:
            try:
                crew.dismiss()
            except BaseException as another:  # noqa: BLE001 (another interrupt waits, too)
                interrupt = another
        if interrupt:
            raise interrupt


@contextmanager
def single_threaded() -> Iterator[int]:
    """Have every operation of torch use one thread, in this thread and in those that begin meanwhile.

    What LAPACK and BLAS compute depends on the number of their threads, in its last bits.

    Yields:
        How many threads this one had before.
    """
    before = torch.get_num_threads()
    if before == 1:
        yield before
        return
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


class Crew:
    """Threads that take batches from a queue.

    An interrupt may reach the calling thread between any two of its steps: after a thread has begun and before it is
    recorded, or inside of `threading`, which would stay in an inconsistent state. So nothing here depends on a list of
    threads: each thread runs its batches behind a gate, a lock that was recorded before the thread began.
    """

    def __init__(self, size: int) -> None:
        self.size, self.pending, self.dismissed = size, 0, False
        self.gates: list[threading.Lock] = []
        self.batches: SimpleQueue[Batch] = SimpleQueue()
        self.results: SimpleQueue[int | BaseException] = SimpleQueue()

    def waiting(self) -> int:
        """Return how many batches no thread has begun."""
        return self.batches.qsize()

    def hand_over(self, batch: Batch) -> None:
        """Queue a batch; start one more thread if the crew is not complete."""
        self.pending += 1
        self.batches.put(batch)
        if len(self.gates) < self.size:
            gate = threading.Lock()
            self.gates.append(gate)
            with suppress(RuntimeError):  # the system has no more threads: `rest` runs what nobody takes
                start_new_thread(self._serve, (gate,))

    def finished(self) -> Iterator[int]:
        """Yield the results that are ready."""
        while not self.results.empty():
            yield self._result()

    def rest(self) -> Iterator[int]:
        """Yield the results of everything queued; run here what no thread has begun."""
        while self.pending:
            try:
                batch = self.batches.get_nowait()
            except Empty:
                yield self._result()
            else:
                self.pending -= 1
                yield _run(batch)

    def dismiss(self) -> None:
        """Let no further batch begin, and wait for those that have begun."""
        self.dismissed = True
        while self.gates:
            self.batches.put([])  # ends a thread that waits for a batch
            with self.gates[-1]:
                pass
            self.gates.pop()

    def _result(self) -> int:
        result = self.results.get()
        self.pending -= 1
        if isinstance(result, BaseException):
            raise result
        return result

    def _serve(self, gate: threading.Lock) -> None:
        """Run batches; this is a thread's function."""
        torch.get_num_threads()  # gives MKL in this thread torch's number of threads: by itself it would use all cores
        while batch := self.batches.get():
            with gate:
                if self.dismissed:
                    return
                self.results.put(_outcome(batch))
            del batch  # its memory may go while this thread waits


def _outcome(batch: Batch) -> int | BaseException:
    try:
        return _run(batch)
    except BaseException as error:  # noqa: BLE001 (it is raised where the results are read)
        return error


def _batches(tasks: Iterable[Task]) -> Iterator[Batch]:
    """Gather tasks until they weigh `BATCH`."""
    batch: Batch = []
    weight = 0
    for task in tasks:
        batch.append(task)
        weight += task.size
        if weight >= BATCH:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def _run(batch: Batch) -> int:
    return sum(task.run() for task in batch)
