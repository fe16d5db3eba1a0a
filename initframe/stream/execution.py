"""Executing draws: each goes to the backend of its device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from initframe.stream.backends import compiled, immediate
from initframe.stream.draws import Draw
from initframe.stream.philox import Key
from initframe.stream.threads import Task, spread


def execute(draws: Iterable[Draw], on_done: Callable[[int], None] | None = None) -> None:
    """Fill the memory of every draw.

    What is written depends on the draws alone, not on their order, the number of threads or the device.

    Args:
        draws: the jobs; they may come from a generator and are taken as they are needed.
        on_done: told, from the calling thread, how many elements were filled since it was last told.

    Raises:
        ValueError: a law cannot be drawn with its arguments (`check` says why).

    >>> from initframe.stream import key
    >>> out = torch.empty(4, 4)
    >>> execute([Draw(out.view(1, -1), "normal", (0.0, 1.0), key("w", seed=0))], on_done=print)
    16
    """
    for done in spread(_tasks(draws, on_done)):
        if on_done:
            on_done(done)


def draw(
    law: str,
    args: tuple[float, ...],
    key: Key,
    start: int,
    count: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw elements ``start`` to ``start + count`` of a stream into a new 1-D tensor.

    Args:
        law: a name in `LAWS`.
        args: the law's arguments, in their order.
        key: the address of the stream, from `key`.
        start: the index of the first element.
        count: how many elements.
        dtype: of the result, as in `Draw`; for the law ``bits`` always int32.
        device: where it is drawn.

    Returns:
        The values.

    >>> from initframe.stream import key
    >>> whole = draw("normal", (0.0, 1.0), key("w", seed=0), 0, 8)
    >>> torch.equal(draw("normal", (0.0, 1.0), key("w", seed=0), 3, 2), whole[3:5])
    True
    """
    out = torch.empty(1, count, dtype=torch.int32 if law == "bits" else dtype, device=device)
    execute([Draw(out, law, args, key, start)])
    return out[0]


def _tasks(draws: Iterable[Draw], on_done: Callable[[int], None] | None) -> Iterator[Task]:
    """Give the tasks of the draws whose backend works in tasks; fill the others on the way."""
    for job in draws:
        device = job.out.device
        torch.autograd.graph.increment_version(job.out)
        if backend := compiled(device):
            yield from backend.fill_tasks(job)
        else:
            immediate(device).fill(job, on_done)
