"""One model is written by one thread at a time."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from threading import Lock
from typing import TypeAlias

from initframe.errors import Problem, ResolveError
from initframe.model.memory import local
from initframe.model.place import Place

_LOCK = Lock()
_BEING_WRITTEN: set[tuple[Hashable, int]] = set()


def _forget_other_threads() -> None:
    """Begin anew in a forked child: it has none of the threads that were writing."""
    global _LOCK  # noqa: PLW0603  # another thread may have held it
    _LOCK = Lock()
    _BEING_WRITTEN.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_threads)

Memory: TypeAlias = frozenset[tuple[Hashable, int]]
"""Devices and addresses."""


def memory_of(places: Sequence[Place]) -> Memory:
    """Say where the tensors of places are, those without memory or elements left out."""
    here: list[tuple[Hashable, int]] = []
    for place in places:
        if place.plain:
            here.append((place.plain.space, place.plain.start))
            continue
        held = [local(tensor) for tensor in place.held]
        here += [(tensor.device, tensor.data_ptr()) for tensor in held if not tensor.is_meta and tensor.numel()]
    return frozenset(here)


class exclusive:  # noqa: N801 - used as a function; a generator would take three times as long to enter
    """Refuse to write to memory that another call writes to at this moment.

    Args:
        mine: what will be written, from :func:`memory_of`.

    Raises:
        ResolveError: another thread, or a callback of this one, is writing to one of them.

    >>> import torch
    >>> weight = torch.zeros(2)
    >>> with exclusive(memory_of([Place((weight,))])), exclusive(memory_of([Place((weight.clone(),))])):
    ...     pass
    """

    def __init__(self, mine: Memory) -> None:
        self.mine = mine

    def __enter__(self) -> None:
        with _LOCK:
            if not self.mine.isdisjoint(_BEING_WRITTEN):
                fact, fix = "another thread is writing to the same tensors.", "Fill a model in one thread"
                raise ResolveError(Problem("apply", fact, fix=f"{fix}; different models need no order."))
            _BEING_WRITTEN.update(self.mine)

    def __exit__(self, *_: object) -> None:
        with _LOCK:
            _BEING_WRITTEN.difference_update(self.mine)
