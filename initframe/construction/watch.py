"""Watch the calls of torch while a constructor runs; none of torch's functions is replaced."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode

from initframe.construction.calls import IGNORED, IS_META, interpreter
from initframe.construction.recorder import Recorder
from initframe.construction.whole_calls import WHOLE


class Watch(TorchFunctionMode):
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
        named = kwargs or {}
        return interpreter(func, named)(self.recorder, func, args, named)
