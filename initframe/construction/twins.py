"""Parameters without memory, in place of real ones."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakIdKeyDictionary

from initframe.construction.recorder import Recorder

HUGE = 1 << 30
"""Elements that no buffer has: a tensor of more is made without memory at once, though it is no parameter yet."""


class Base(NamedTuple):
    """The memory on meta that stands for a real one, which is held weakly, so that no later one is taken for it."""

    storage: StorageWeakRef
    tensor: Tensor


class Twins:
    """Parameters on meta in place of real ones; those of one memory share one.

    A parameter that shares a buffer's memory goes on to share it: one that comes after the buffer keeps its memory, and
    a buffer that comes after the parameter has none either.

    Attributes:
        recorder: what is noted while the real ones are made; what it has of their memory goes over to the twins.
        memory: by the storage of a real one, what stands for it.
    """

    def __init__(self) -> None:
        self.recorder = Recorder(HUGE)
        self.known: Any = WeakIdKeyDictionary()
        self.memory: dict[int, Base] = {}
        self.buffers: dict[int, StorageWeakRef] = {}

    def of(self, parameter: nn.Parameter) -> nn.Parameter:
        """Give a parameter's twin without memory; one object has one, because registering it twice means a tie."""
        twin: nn.Parameter | None = self.known.get(parameter)
        if twin is None:
            twin = self.known[parameter] = self._made(parameter)
        return twin

    def is_of_buffer(self, parameter: nn.Parameter) -> bool:
        """Whether a parameter has the memory of a buffer that came before it."""
        return (
            bool(self.buffers)
            and parameter.layout == torch.strided
            and parameter.untyped_storage()._cdata in self.buffers  # noqa: SLF001
        )

    def buffer(self, buffer: Tensor) -> Tensor | None:
        """Give the twin of a buffer that has a parameter's memory; ``None`` for any other, which keeps its values."""
        storage = buffer.untyped_storage()
        if storage._cdata in self.memory:  # noqa: SLF001
            return self._empty(buffer)
        self.buffers[storage._cdata] = StorageWeakRef(storage)  # type: ignore[no-untyped-call]  # noqa: SLF001
        return None

    def _made(self, parameter: nn.Parameter) -> nn.Parameter:
        plain = parameter.detach()
        if type(plain) is not Tensor:
            plain = plain.as_subclass(Tensor)
        empty = self._empty(plain) if plain.layout == torch.strided else torch.empty_like(plain, device="meta")
        twin: nn.Parameter = Tensor._make_subclass(type(parameter), empty, parameter.requires_grad)  # noqa: SLF001
        if attributes := vars(parameter):
            vars(twin).update(attributes)
        return twin

    def _empty(self, plain: Tensor) -> Tensor:
        """A tensor on meta, laid out as a real one; those of one storage are views of one."""
        storage = plain.untyped_storage()
        base = self.memory.get(storage._cdata)  # noqa: SLF001
        if base is None:
            if plain.numel() * plain.itemsize == storage.nbytes():
                first = torch.empty_strided(plain.shape, plain.stride(), dtype=plain.dtype, device="meta")
            else:
                first = torch.empty(storage.nbytes(), dtype=torch.uint8, device="meta")
            self.memory[storage._cdata] = Base(StorageWeakRef(storage), first)  # type: ignore[no-untyped-call]  # noqa: SLF001
            self.recorder.move(plain, first)
            if first.dtype == plain.dtype and first.shape == plain.shape:
                return first
            base = self.memory[storage._cdata]  # noqa: SLF001
        numbers = base.tensor
        if numbers.dtype != plain.dtype:
            count = storage.nbytes() // numbers.itemsize // plain.itemsize * plain.itemsize
            numbers = numbers.as_strided((count,), (1,), 0).view(plain.dtype)
        return numbers.as_strided(plain.shape, plain.stride(), plain.storage_offset())


def can_be_deferred(parameter: nn.Parameter | None) -> TypeGuard[nn.Parameter]:
    """Whether a parameter has memory that it can do without."""
    return (
        parameter is not None
        and not parameter.is_meta
        and not is_lazy(parameter)
        and nn.Parameter in type(parameter).__mro__
    )


def is_plain(buffer: Tensor | None) -> TypeGuard[Tensor]:
    """Whether a buffer has real memory that a parameter could share."""
    return type(buffer) is Tensor and not buffer.is_meta and buffer.layout == torch.strided
