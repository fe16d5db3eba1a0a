"""Execute draws, each by the backend of its device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from initframe.collector import collector_paused
from initframe.stream import eager
from initframe.stream.backends import compiled, launched
from initframe.stream.draws import Draw
from initframe.stream.philox import Key
from initframe.stream.threads import BATCH, spread

if TYPE_CHECKING:
    from initframe.stream.cpu import Filling

_CPU = torch.device("cpu")
SMALL = 1 << 13
"""Elements up to which a tensor is drawn without a plan."""
Small: TypeAlias = tuple[Tensor, str, tuple[float, ...], Key]
"""A small tensor to be drawn whole: its memory, the distribution, its arguments, and the address of the stream."""


def execute(draws: Iterable[Draw], on_done: Callable[[int], None] | None = None) -> None:
    """Fill the memory of every draw.

    The values depend on the draws alone, not on their order, the number of threads or the device.

    Args:
        draws: what to draw.
        on_done: called from the calling thread with the number of elements that were filled since its last call.

    Raises:
        StreamError: a distribution cannot be drawn with its arguments (`check` says why).

    >>> from initframe.stream import key
    >>> out = torch.empty(4, 4)
    >>> execute([Draw(out.view(1, -1), "normal", (0.0, 1.0), key("w", seed=0))], on_done=print)
    16
    """
    Prepared(draws).execute(on_done=on_done)


def draw_small(several: Sequence[Small]) -> None:
    """Draw whole tensors that are so small that to plan a draw would take as long as the draw.

    Args:
        several: dense tensors of at most `SMALL` elements in a CPU's memory, no negated views; each with its
            distribution, the distribution's arguments and the key.

    Raises:
        StreamError: a distribution cannot be drawn with its arguments (`check` says why).

    >>> from initframe.stream import key
    >>> out = torch.empty(2, 4)
    >>> draw_small([(out, "normal", (0.0, 1.0), key("w", seed=0))])
    >>> torch.equal(out.flatten(), draw("normal", (0.0, 1.0), key("w", seed=0), 0, 8))
    True
    """
    if cpu := compiled(_CPU):
        torch.autograd.graph.increment_version([out for out, *_ in several])
        cpu.fill_dense(several)
    else:
        execute([Draw(out.view(1, -1), distribution, args, key) for out, distribution, args, key in several])


class Prepared:
    """Draws that were looked up once: kernels and constants, and on a GPU a table of them. Executing them only draws.

    It keeps the draws' memory alive until `release`. A tensor that is given other memory later needs other draws.

    Args:
        draws: what to draw.

    Raises:
        StreamError: a distribution cannot be drawn with its arguments (`check` says why).

    >>> from initframe.stream import key
    >>> out = torch.empty(1, 4)
    >>> prepared = Prepared([Draw(out, "normal", (0.0, 1.0), key("w", seed=0))])
    >>> prepared.execute([key("w", seed=1)])
    >>> torch.equal(out[0], draw("normal", (0.0, 1.0), key("w", seed=1), 0, 4))
    True
    """

    def __init__(self, draws: Iterable[Draw]) -> None:
        self.draws = tuple(draws)
        self.keys = [one.key for one in self.draws]
        self.sizes = [one.out.numel() for one in self.draws]
        self._fillings: list[tuple[int, Filling]] = []
        self._eager: list[int] = []
        self._tables: list[tuple[list[int], Any, int]] = []
        by_device: dict[torch.device, list[int]] = {}
        for i, one in enumerate(self.draws):
            by_device.setdefault(one.out.device, []).append(i)
        with collector_paused():
            for device, which in by_device.items():
                if cpu := compiled(device):
                    self._fillings += [(i, cpu.prepare(self.draws[i])) for i in which]
                elif gpu := launched(device):
                    table = gpu.Table([self.draws[i] for i in which])
                    self._tables.append((which, table, sum(self.sizes[i] for i in which)))
                else:
                    self._eager += which
        self.elements = sum(self.sizes[i] for i, _ in self._fillings)

    def release(self) -> bool:
        """Keep the addresses of the memory alone; `execute` is then given the tensors.

        Returns:
            False if torch's operations draw some of it: they need the tensors, so nothing is released.
        """
        if self._eager:
            return False
        self.draws = ()
        for _, table, _ in self._tables:
            table.draws = ()
        return True

    def execute(
        self,
        keys: Sequence[Key] | None = None,
        on_done: Callable[[int], None] | None = None,
        memory: Sequence[Tensor] | None = None,
    ) -> None:
        """Fill the memory of every draw.

        Args:
            keys: one for each draw, in their order; by default the draws' own.
            on_done: as for `execute`.
            memory: after `release`, for each draw a tensor in the memory that it was prepared for.
        """
        keys = self.keys if keys is None else keys
        memory = [one.out for one in self.draws] if memory is None else memory
        tell = on_done or (lambda _: None)
        torch.autograd.graph.increment_version(memory)
        for which, table, elements in self._tables:
            table.execute([keys[i] for i in which])
            if elements:
                tell(elements)
        for i in self._eager:
            eager.fill(replace(self.draws[i], key=keys[i]), on_done)
        if self.elements < BATCH:  # not worth another thread
            for i, one in self._fillings:
                one.run(keys[i])
            if filled := sum([self.sizes[i] for i, _ in self._fillings]):
                tell(filled)
            return
        tasks = (task for i, one in self._fillings for task in one.tasks(keys[i], memory[i]))
        for done in spread(tasks):
            tell(done)


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
