"""One model is written by one thread at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock

from torch import Tensor

from initframe.errors import Problem, ResolveError
from initframe.model.memory import local

_LOCK = Lock()
_BEING_WRITTEN: set[tuple[str, int]] = set()


@contextmanager
def exclusive(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Refuse to write to memory that another call writes to at this moment.

    Args:
        tensors: those that will be written; known by their memory.

    Raises:
        ResolveError: another thread, or a callback of this one, is writing to one of them.

    >>> import torch
    >>> weight = torch.zeros(2)
    >>> with exclusive([weight]), exclusive([weight.clone()]):
    ...     pass
    """
    mine = {(str(held.device), held.data_ptr()) for held in map(local, tensors) if not held.is_meta and held.numel()}
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
