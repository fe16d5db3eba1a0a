"""Build models with every write to their parameters noted, with or without the parameters' memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any, NamedTuple, TypeGuard
from weakref import ref

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakIdKeyDictionary

from initframe.construction.readout import remember_all
from initframe.construction.recorder import Recorder
from initframe.construction.watch import watching
from initframe.errors import InitframeError

NOTE = (
    "initframe.deferred(): the parameters of this model had no values while it was built. If its constructor needs "
    "them, build it without deferred(), and fill it by initframe.reinit."
)

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
    """

    def __init__(self) -> None:
        self.known: Any = WeakIdKeyDictionary()
        self.memory: dict[int, Base] = {}
        self.buffers: dict[int, StorageWeakRef] = {}

    def of(self, parameter: nn.Parameter, recorder: Recorder) -> nn.Parameter:
        """Give a parameter's twin without memory; one object has one, because registering it twice means a tie."""
        twin: nn.Parameter | None = self.known.get(parameter)
        if twin is None:
            twin = self.known[parameter] = self._made(parameter, recorder)
        return twin

    def is_of_buffer(self, parameter: nn.Parameter) -> bool:
        """Whether a parameter has the memory of a buffer that came before it."""
        return (
            bool(self.buffers)
            and parameter.layout == torch.strided
            and parameter.untyped_storage()._cdata in self.buffers  # noqa: SLF001
        )

    def buffer(self, buffer: Tensor, recorder: Recorder) -> Tensor | None:
        """Give the twin of a buffer that has a parameter's memory; ``None`` for any other, which keeps its values."""
        storage = buffer.untyped_storage()
        if storage._cdata in self.memory:  # noqa: SLF001
            return self._empty(buffer, recorder)
        self.buffers[storage._cdata] = StorageWeakRef(storage)  # type: ignore[no-untyped-call]  # noqa: SLF001
        return None

    def _made(self, parameter: nn.Parameter, recorder: Recorder) -> nn.Parameter:
        plain = parameter.detach()
        if type(plain) is not Tensor:
            plain = plain.as_subclass(Tensor)
        empty = (
            self._empty(plain, recorder) if plain.layout == torch.strided else torch.empty_like(plain, device="meta")
        )
        twin: nn.Parameter = Tensor._make_subclass(type(parameter), empty, parameter.requires_grad)  # noqa: SLF001
        if attributes := vars(parameter):
            vars(twin).update(attributes)
        return twin

    def _empty(self, plain: Tensor, recorder: Recorder) -> Tensor:
        """A tensor on meta, laid out as a real one; those of one storage are views of one."""
        storage = plain.untyped_storage()
        base = self.memory.get(storage._cdata)  # noqa: SLF001
        if base is None:
            if plain.numel() * plain.itemsize == storage.nbytes():
                first = torch.empty_strided(plain.shape, plain.stride(), dtype=plain.dtype, device="meta")
            else:
                first = torch.empty(storage.nbytes(), dtype=torch.uint8, device="meta")
            self.memory[storage._cdata] = Base(StorageWeakRef(storage), first)  # type: ignore[no-untyped-call]  # noqa: SLF001
            recorder.move(plain, first)
            if first.dtype == plain.dtype and first.shape == plain.shape:
                return first
            base = self.memory[storage._cdata]  # noqa: SLF001
        numbers = base.tensor
        if numbers.dtype != plain.dtype:
            count = storage.nbytes() // numbers.itemsize // plain.itemsize * plain.itemsize
            numbers = numbers.as_strided((count,), (1,), 0).view(plain.dtype)
        return numbers.as_strided(plain.shape, plain.stride(), plain.storage_offset())


@contextmanager
def recorded(twins: Twins | None) -> Iterator[Recorder]:
    """Note what constructors write, and keep it in the modules that they build.

    Args:
        twins: gives parameters without memory; ``None`` leaves them their memory.

    Yields:
        What is noted. Hooks and modes come off again, whatever is raised.
    """
    recorder = Recorder(None if twins is None else HUGE)
    here = recorder.thread  # the hooks are the process's, the model is this thread's
    built: dict[int, ref[nn.Module]] = {}

    def parameter_comes(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:  # noqa: ARG001
        if get_ident() != here:
            return None
        built[id(module)] = ref(module)
        with torch._C.DisableTorchFunction():  # noqa: SLF001
            if parameter is not None and not is_lazy(parameter):
                recorder.registered.append(tuple(parameter.shape))
            if twins is None or not can_be_deferred(parameter):
                return None
            return None if twins.is_of_buffer(parameter) else twins.of(parameter, recorder)

    def buffer_comes(module: nn.Module, name: str, buffer: Tensor | None) -> Tensor | None:  # noqa: ARG001
        if twins is None or not is_plain(buffer) or get_ident() != here:
            return None
        with torch._C.DisableTorchFunction():  # noqa: SLF001
            return twins.buffer(buffer, recorder)

    def module_comes(module: nn.Module, name: str, child: nn.Module | None) -> None:  # noqa: ARG001
        if get_ident() == here:  # a child may come from another thread, where it was not seen
            built.update((id(one), ref(one)) for one in (module, *(child.modules() if child else ())))

    hooks = [
        register_module_parameter_registration_hook(parameter_comes),  # type: ignore[arg-type]  # may return one
        register_module_buffer_registration_hook(buffer_comes),  # type: ignore[arg-type]  # may return one
        register_module_module_registration_hook(module_comes),
    ]
    try:
        with watching(recorder):
            yield recorder
    except Exception as error:
        if twins and twins.memory and not isinstance(error, InitframeError):
            error.add_note(NOTE)
        raise
    finally:
        for hook in hooks:
            hook.remove()
        recorder.leave()
    modules = (weak() for weak in built.values())
    remember_all((module for module in modules if module is not None), recorder)


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
