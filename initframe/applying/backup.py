"""What a model held before a write, to be put back if the write fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from initframe.applying.locate import Write
from initframe.applying.optimizer_state import with_wrapped
from initframe.errors import InitframeError, Problem, harmless
from initframe.fills import Partial
from initframe.model.memory import footprint, local

SHOWN = 8
"""Tensors that are named of many."""


class Backup:
    """One copy of everything that a write changes: tensors, what they are computed from, an optimizer's state."""

    def __init__(self) -> None:
        self._values: list[tuple[Tensor, Tensor]] = []
        self._states: list[tuple[Any, dict[Any, Any]]] = []

    def take(
        self, writes: Sequence[Write], optimizers: Sequence[torch.optim.Optimizer], outside: Sequence[Tensor] = ()
    ) -> None:
        """Copy what the writes, cleared optimizers and refreshed averages will change.

        Args:
            writes: what is to be written.
            optimizers: whose state is to be cleared.
            outside: the tensors of averages that are to be refreshed.
        """
        touched = {id(held): held for write in writes if not write.kept for held in map(local, _touched(write))}
        touched |= {id(held): held for held in map(local, outside)}
        touched |= {id(held): held for held in map(local, _states_of_units(writes, optimizers))}
        with torch.no_grad():
            self._values = [(held, held.detach().clone()) for held in touched.values()]
        self._states = [(inner.state, dict(inner.state)) for inner in with_wrapped(optimizers)]

    def put_back(self) -> None:
        """Give everything the value that it had."""
        with torch.no_grad():
            for held, before in self._values:
                held.copy_(before)
        for state, entries in self._states:
            state.clear()
            state.update(entries)


def _states_of_units(writes: Sequence[Write], optimizers: Sequence[torch.optim.Optimizer]) -> Iterator[Tensor]:
    """Give the tensors of an optimizer's state of which only some units will be cleared, in place."""
    partly = {footprint(held) for write in writes if isinstance(write.fill, Partial) for held in write.place.held}
    for inner in with_wrapped(optimizers):
        for known, state in inner.state.items():
            if isinstance(known, Tensor) and footprint(known) in partly:
                yield from (value for value in state.values() if isinstance(value, Tensor))


def _touched(write: Write) -> Iterator[Tensor]:
    """Give the tensors that a write changes; around a parametrization, all that its modules hold."""
    yield from write.place.held[: 1 if write.place.computed is None else None]
    how = write.place.computed
    if how is None:
        return
    yield from how.renewed
    if isinstance(how.owner, nn.Module):
        yield from (*how.owner.parameters(), *how.owner.buffers())
    for owner, name in write.place.owners:
        if isinstance(owner, nn.Module):
            yield from (*owner.parameters(recurse=False), *owner.buffers(recurse=False))
            if isinstance(shown := vars(owner).get(name), Tensor):
                yield shown


@contextmanager
def restored_on_failure() -> Iterator[Backup]:
    """Put back what a backup has taken if the block fails; with several processes, on all if it fails on one.

    Raises:
        InitframeError: the block failed on another process; the model here is as it was.
    """
    backup = Backup()
    try:
        yield backup
    except BaseException:
        backup.put_back()
        _ranks_that_failed(here=True)
        raise
    if failed := _ranks_that_failed(here=False):
        backup.put_back()
        fact = f"it failed on rank {', '.join(map(str, failed))}; this process holds what it held before."
        raise InitframeError(Problem("apply", fact, fix="Read the error there."))


def _ranks_that_failed(*, here: bool) -> list[int]:
    """Ask all processes, if there are several; one that does not answer is an error of torch.distributed."""
    dist = sys.modules.get("torch.distributed")
    if dist is None or not (dist.is_available() and dist.is_initialized()):
        return []
    answers = [False] * dist.get_world_size()
    dist.all_gather_object(answers, here)
    return [rank for rank, failed in enumerate(answers) if failed]


def note_written(error: BaseException, names: Sequence[str], done: Sequence[str]) -> None:
    """Add a note to what was raised: which tensors were written, and which may have been.

    Args:
        error: whatever was raised.
        names: of all that were to be written, in order.
        done: of those that were.

    >>> error = KeyboardInterrupt()
    >>> note_written(error, ["a", "b"], ["a"])
    >>> error.__notes__
    ['initframe: written: a; not, or in part: b. With restore=True, everything would be as before.']
    """
    written = set(done)
    rest = [name for name in names if name not in written]
    fix = "With restore=True, everything would be as before."
    error.add_note(f"initframe: written: {_some(done)}; not, or in part: {_some(rest)}. {fix}")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(harmless, names[:SHOWN])) + more if names else "none"
