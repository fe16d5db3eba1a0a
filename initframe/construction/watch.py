"""Watch a constructor: the calls of torch, and what modules register; none of torch's functions is replaced."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from types import FrameType
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from initframe.construction.call import TorchCall
from initframe.construction.calls import IGNORED, IS_META, interpret
from initframe.construction.readout import remember_all
from initframe.construction.recorder import Recorder
from initframe.construction.twins import Twins, can_be_deferred, is_plain
from initframe.construction.whole_calls import WHOLE
from initframe.errors import InitframeError

NOTE = (
    "initframe.deferred(): the parameters of this model had no values while it was built. If its constructor needs "
    "them, build it without deferred(), and fill it by initframe.reinit."
)


class RecordingMode(TorchFunctionMode):
    """A mode that tells a recorder of every call that may write to a tensor.

    Args:
        recorder: notes the writes.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, and note what it writes; inside of vmap and grad, tensors are no memory to note."""
        if func in IGNORED or torch._C._functorch.peek_interpreter_stack() is not None:  # noqa: SLF001
            return func(*args, **kwargs) if kwargs else func(*args)
        if func == IS_META:
            frame = sys._getframe(1)  # noqa: SLF001
            if frame.f_code in WHOLE:
                self.recorder.enter(frame)
            return func(*args)
        return interpret(TorchCall(self.recorder, func, args, kwargs or {}))


@contextmanager
def recorded(twins: Twins | None) -> Iterator[Recorder]:
    """Note what constructors write, and keep it in the modules that they build.

    Args:
        twins: gives parameters without memory; ``None`` leaves them their memory.

    Yields:
        What is noted. Hooks and modes come off again, whatever is raised.
    """
    recorder = Recorder() if twins is None else twins.recorder
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
            return None if twins.is_of_buffer(parameter) else twins.of(parameter)

    def buffer_comes(module: nn.Module, name: str, buffer: Tensor | None) -> Tensor | None:  # noqa: ARG001
        if twins is None or not is_plain(buffer) or get_ident() != here:
            return None
        with torch._C.DisableTorchFunction():  # noqa: SLF001
            return twins.buffer(buffer)

    def module_comes(module: nn.Module, name: str, child: nn.Module | None) -> None:  # noqa: ARG001
        if get_ident() == here:  # a child may come from another thread, where it was not seen
            built.update((id(one), ref(one)) for one in (module, *(child.modules() if child else ())))

    hooks = [
        register_module_parameter_registration_hook(parameter_comes),  # type: ignore[arg-type]  # may return one
        register_module_buffer_registration_hook(buffer_comes),  # type: ignore[arg-type]  # may return one
        register_module_module_registration_hook(module_comes),
    ]
    try:
        with _watching(recorder):
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


@contextmanager
def _watching(recorder: Recorder) -> Iterator[None]:
    """Tell a recorder of the calls of this thread, and of all threads that start meanwhile.

    A mode is seen by one thread only. Python calls a profile function first in every new thread; this one enters the
    mode there, and leaves it when the constructor has ended, if the thread lives longer.

    Args:
        recorder: notes the writes.
    """
    before = threading.getprofile()
    own = threading.local()
    running = True

    def look(frame: FrameType, event: Any, argument: Any) -> None:
        watch = getattr(own, "watch", None)
        if running and watch is None:
            own.watch = RecordingMode(recorder)
            own.watch.__enter__()
        elif not running and (watch is None or _innermost() is watch):
            if watch is not None:
                watch.__exit__(None, None, None)
            sys.setprofile(before)
        if before is not None:
            before(frame, event, argument)

    threading.setprofile(look)
    try:
        with RecordingMode(recorder):
            yield
    finally:
        running = False
        threading.setprofile(before)


def is_watched() -> bool:
    """Tell whether this thread builds a model whose calls are noted."""
    modes: list[Any] = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    return any(isinstance(mode, RecordingMode) and mode.recorder.thread == get_ident() for mode in modes)


def _innermost() -> Any:
    modes: list[Any] = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    return modes[-1] if modes else None
