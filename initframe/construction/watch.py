"""Watch the calls of torch while a constructor runs; none of torch's functions is replaced."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from initframe.construction.call import TorchCall
from initframe.construction.calls import IGNORED, IS_META, interpret
from initframe.construction.recorder import Recorder
from initframe.construction.whole_calls import WHOLE


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
        """Call a function of torch, and note what it writes."""
        if func in IGNORED:
            return func(*args, **kwargs) if kwargs else func(*args)
        if func == IS_META:
            frame = sys._getframe(1)  # noqa: SLF001
            if frame.f_code in WHOLE:
                self.recorder.enter(frame)
            return func(*args)
        return interpret(TorchCall(self.recorder, func, args, kwargs or {}))


@contextmanager
def watching(recorder: Recorder) -> Iterator[None]:
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
    return any(isinstance(mode, RecordingMode) and mode.recorder.thread == threading.get_ident() for mode in modes)


def _innermost() -> Any:
    modes: list[Any] = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    return modes[-1] if modes else None
