"""A call of one of torch's functions while a constructor runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from initframe.construction.recorder import Recorder

Function = Callable[..., Any]


class TorchCall(NamedTuple):
    """A call that is about to be made.

    Attributes:
        recorder: notes what it writes.
        function: of torch.
        args: its arguments by position.
        named: its arguments by name.
    """

    recorder: Recorder
    function: Function
    args: tuple[Any, ...]
    named: dict[str, Any]

    @property
    def name(self) -> str:
        """The function's name."""
        name: str = self.function.__name__
        return name

    @property
    def is_in_place(self) -> bool:
        """Whether the function writes to its first argument, by torch's convention."""
        return (self.name.endswith("_") and not self.name.endswith("__")) or self.name.startswith("__i")

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return tensors_in([*self.args, *self.named.values()])

    def arguments(self, *names: str) -> list[Any]:
        """Give arguments by their names, in order; ``None`` for one that is not given."""
        return [self.args[i] if i < len(self.args) else self.named.get(name) for i, name in enumerate(names)]

    def run(self) -> Any:
        """Make the call."""
        return self.function(*self.args, **self.named)

    def run_on(self, tensor: Any) -> Any:
        """Make a call that writes to a tensor and gives it back; to one without memory it would write nothing."""
        return tensor if isinstance(tensor, Tensor) and tensor.is_meta else self.run()


Interpreter = Callable[[TorchCall], Any]
"""Makes a call, notes what it writes, and gives what it returns."""


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """All dense tensors among values, in lists, tuples and mappings, too."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            if value.layout == torch.strided:
                found.append(value)
        elif isinstance(value, list | tuple):
            found += tensors_in(value)
        elif isinstance(value, dict):
            found += tensors_in(value.values())
    return found


def same_memory(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors have one storage."""
    try:
        return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)  # noqa: SLF001
    except (NotImplementedError, RuntimeError):  # a layout without a storage
        return one is other
