"""One model is written by one thread at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TypeAlias

import torch
from torch import Tensor

from initframe.errors import Problem, ResolveError
from initframe.model.memory import local

_LOCK = Lock()
_BEING_WRITTEN: set[tuple[torch.device, int]] = set()


def _forget_other_threads() -> None:
    """Begin anew in a forked child: it has none of the threads that were writing."""
    global _LOCK  # noqa: PLW0603  # another thread may have held it
    _LOCK = Lock()
    _BEING_WRITTEN.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_threads)

Memory: TypeAlias = frozenset[tuple[torch.device, int]]
"""Devices and addresses."""


def memory_of(tensors: Iterable[Tensor]) -> Memory:
    """Say where tensors are, those without memory or elements left out."""
    here = (held for held in map(local, tensors) if not held.is_meta and held.numel())
    return frozenset([(held.device, held.data_ptr()) for held in here])


@contextmanager
def exclusive(mine: Memory) -> Iterator[None]:
    """Refuse to write to memory that another call writes to at this moment.

    Args:
        mine: what will be written, from :func:`memory_of`.

    Raises:
        ResolveError: another thread, or a callback of this one, is writing to one of them.

    >>> import torch
    >>> weight = torch.zeros(2)
    >>> with exclusive(memory_of([weight])), exclusive(memory_of([weight.clone()])):
    ...     pass
    """
    with _LOCK:
        if not mine.isdisjoint(_BEING_WRITTEN):
            fact = "another thread is writing to the same tensors."
            raise ResolveError(
                Problem("apply", fact, fix="Fill a model in one thread; different models need no order.")
            )
        _BEING_WRITTEN.update(mine)
    try:
        yield
    finally:
        with _LOCK:
            _BEING_WRITTEN.difference_update(mine)
