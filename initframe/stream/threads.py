"""Tasks of all tensors, gathered into batches of some weight and spread over threads."""

from __future__ import annotations

from _thread import start_new_thread
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from queue import Empty, SimpleQueue
from threading import Lock
from typing import NamedTuple, TypeAlias

import torch

BATCH = 1 << 20
"""Elements that are worth a hand-over to another thread."""
AHEAD = 4
"""Batches per thread that may wait, while the iterable is read on."""


class Task(NamedTuple):
    """A piece of work that returns a number, and its size in elements."""

    run: Callable[[], int]
    size: int


Batch: TypeAlias = list[Task]


def spread(tasks: Iterable[Task]) -> Iterator[int]:
    """Run tasks on ``torch.get_num_threads()`` threads, of which the calling one is one.

    Where the system gives fewer threads, or none, those there are do the work.

    Args:
        tasks: the work, read by the calling thread as it is needed. What one task does must not depend
            on another.

    Yields:
        The sums of the results, batch by batch, in no order that means anything. Whoever stops reading, or is
        stopped by an error or an interrupt, gets control back when no thread is at work: no task runs later than that.

    >>> sum(spread(Task(lambda k=k: k, size=1 << 19) for k in range(10)))
    45
    """
    batches, threads = _batches(tasks), torch.get_num_threads()
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
        # After an error, and where the reader stops, what no thread has begun is left undone.
        interrupt: BaseException | None = None
        while crew.gates:
            try:
                crew.dismiss()
            except BaseException as another:  # noqa: BLE001 (it has to wait, too)
                interrupt = another
        if interrupt:
            raise interrupt


class Crew:
    """Threads that take batches from a queue.

    An interrupt may reach the calling thread between any two of its steps: when a thread has begun and nobody has
    written it down, or inside of what `threading` builds on locks, which then stays as it is. So nothing here depends
    on which threads there are: each runs its batches behind a gate, a lock that was written down before it began.
    """

    def __init__(self, size: int) -> None:
        self.size, self.pending, self.dismissed = size, 0, False
        self.gates: list[Lock] = []
        self.batches: SimpleQueue[Batch] = SimpleQueue()
        self.results: SimpleQueue[int | BaseException] = SimpleQueue()

    def waiting(self) -> int:
        """How many batches no thread has begun."""
        return self.batches.qsize()

    def hand_over(self, batch: Batch) -> None:
        """Leave a batch to a thread, one more where there may be one more."""
        self.pending += 1
        self.batches.put(batch)
        if len(self.gates) < self.size:
            gate = Lock()
            self.gates.append(gate)
            with suppress(RuntimeError):  # there are no more to be had: what none takes, `rest` runs
                start_new_thread(self._serve, (gate,))

    def finished(self) -> Iterator[int]:
        """The results that are there."""
        while not self.results.empty():
            yield self._result()

    def rest(self) -> Iterator[int]:
        """The results of all that was handed over; what no thread has begun is run here."""
        while self.pending:
            try:
                batch = self.batches.get_nowait()
            except Empty:
                yield self._result()
            else:
                self.pending -= 1
                yield _run(batch)

    def dismiss(self) -> None:
        """Let no batch begin any more, and wait for those that have begun."""
        self.dismissed = True
        while self.gates:
            self.batches.put([])  # sends a thread home that waits for more
            with self.gates[-1]:
                pass
            self.gates.pop()

    def _result(self) -> int:
        result = self.results.get()
        self.pending -= 1
        if isinstance(result, BaseException):
            raise result
        return result

    def _serve(self, gate: Lock) -> None:
        """Run batches, in a thread of its own."""
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
