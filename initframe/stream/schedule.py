"""Tasks of all tensors, gathered into batches of some weight and spread over threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import NamedTuple

import torch

BATCH = 1 << 20
"""Elements that are worth a hand-over to another thread."""
AHEAD = 4
"""Batches per thread that may wait, while the iterable is read on."""


class Task(NamedTuple):
    """A piece of work that returns a number, and its size in elements."""

    run: Callable[[], int]
    size: int


def spread(tasks: Iterable[Task]) -> Iterator[int]:
    """Run tasks on ``torch.get_num_threads()`` threads.

    Args:
        tasks: the work, read by the calling thread as it is needed. What one task does must not depend
            on another.

    Yields:
        The sums of the results, batch by batch, in order.

    >>> sum(spread(Task(lambda k=k: k, size=1 << 19) for k in range(10)))
    45
    """
    batches, threads = _batches(tasks), torch.get_num_threads()
    first = list(islice(batches, 2))
    if threads == 1 or len(first) < 2:
        yield from map(_run, chain(first, batches))
        return
    waiting: deque[Future[int]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="initframe") as pool:
        for batch in chain(first, batches):
            waiting.append(pool.submit(_run, batch))
            if len(waiting) > AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _batches(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """Gather tasks until they weigh `BATCH`."""
    batch: list[Task] = []
    weight = 0
    for task in tasks:
        batch.append(task)
        weight += task.size
        if weight >= BATCH:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def _run(batch: list[Task]) -> int:
    return sum(task.run() for task in batch)
