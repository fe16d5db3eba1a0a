"""Execute draws, each by the backend of its device."""

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

    The values depend on the draws alone, not on their order, the number of threads or the device.

    Args:
        draws: what to draw; a generator is read as draws are needed.
        on_done: called from the calling thread with the number of elements that were filled since its last call.

    Raises:
        StreamError: a distribution cannot be drawn with its arguments (`check` says why).

    >>> from initframe.stream import key
    >>> out = torch.empty(4, 4)
    >>> execute([Draw(out.view(1, -1), "normal", (0.0, 1.0), key("w", seed=0))], on_done=print)
    16
    """
    for done in spread(_tasks(draws, on_done)):
        if on_done:
            on_done(done)


def draw(
    distribution: str,
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
        distribution: a name in `DISTRIBUTIONS`.
        args: the distribution's arguments, in their order.
        key: the address of the stream, from `key`.
        start: the index of the first element.
        count: how many elements.
        dtype: of the result, as in `Draw`; for the distribution ``bits`` always int32.
        device: where it is drawn.

    Returns:
        The values.

    >>> from initframe.stream import key
    >>> whole = draw("normal", (0.0, 1.0), key("w", seed=0), 0, 8)
    >>> torch.equal(draw("normal", (0.0, 1.0), key("w", seed=0), 3, 2), whole[3:5])
    True
    """
    out = torch.empty(1, count, dtype=torch.int32 if distribution == "bits" else dtype, device=device)
    execute([Draw(out, distribution, args, key, start)])
    return out[0]


def _tasks(draws: Iterable[Draw], on_done: Callable[[int], None] | None) -> Iterator[Task]:
    """Yield the tasks of the draws whose backend works in tasks; fill the others at once."""
    for one in draws:
        device = one.out.device
        torch.autograd.graph.increment_version(one.out)
        if backend := compiled(device):
            yield from backend.fill_tasks(one)
        else:
            immediate(device).fill(one, on_done)
