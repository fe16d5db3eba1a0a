"""Tasks of all tensors, gathered into batches of some weight and spread over threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
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

    Args:
        tasks: the work, read by the calling thread as it is needed. What one task does must not depend
            on another.

    Yields:
        The sums of the results, batch by batch, in no order that means anything. Whoever stops reading, or is
        stopped by an error, gets control back when every thread has ended: no task runs later than that.

    >>> sum(spread(Task(lambda k=k: k, size=1 << 19) for k in range(10)))
    45
    """
    batches, threads = _batches(tasks), torch.get_num_threads()
    first = list(islice(batches, 2))
    if threads == 1 or len(first) < 2:
        yield from map(_run, chain(first, batches))
        return
    pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="initframe")
    waiting: deque[tuple[Future[int], Batch]] = deque()
    try:
        for batch in chain(first, batches):
            while waiting and waiting[0][0].done():
                yield waiting.popleft()[0].result()
            if len(waiting) < AHEAD * threads:
                waiting.append((pool.submit(_run, batch), batch))
            else:
                yield _run(batch)
        while waiting:
            yield _finished(*waiting.pop())
    finally:
        # After an error, and where the reader stops, what no thread has begun is left undone.
        pool.shutdown(cancel_futures=True)


def _finished(handed_over: Future[int], batch: Batch) -> int:
    """The result of a batch, which is taken back and run here where no other thread has begun it."""
    return _run(batch) if handed_over.cancel() else handed_over.result()


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
