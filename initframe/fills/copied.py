"""A fill that is another tensor's: the same numbers, drawn under the other's name, or read from its memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from initframe.errors import Problem
from initframe.fills.fill import Fill, Shape
from initframe.model.slot import Slot


@dataclass(frozen=True)
class Copied(Fill):
    """What ``source`` holds after the write.

    Attributes:
        source: the other tensor's name, which addresses the stream.
        fill: what it gets; ``Keep`` if it keeps its values.
        from_memory: whether its values are read when everything else is written: they start from what is there, or
            its layer computes them. Otherwise they are drawn here, too.

    >>> from initframe.fills import Normal
    >>> str(Copied("online.weight", Normal(0.0, 0.02)))
    'copy of online.weight: normal(0, 0.02)'
    """

    source: str
    fill: Fill
    from_memory: bool = field(default=False, repr=False)

    @property
    def inner(self) -> tuple[Fill, ...]:
        """The source's fill, if it is drawn here."""
        return () if self.from_memory else (self.fill,)

    @property
    def needs_current(self) -> bool:
        """Never: the values that were here before do not matter."""
        return False

    @property
    def mean(self) -> float:
        """The source's."""
        return self.fill.mean

    @property
    def std(self) -> float:
        """The source's."""
        return self.fill.std

    @property
    def reach(self) -> float:
        """The source's."""
        return self.fill.reach

    def suits(self, slot: Slot) -> bool:
        """A counter can be copied from another one."""
        return slot.resettable

    def problem(self, shape: Shape, dtype: torch.dtype) -> Problem | None:
        """Say why the source's fill cannot be held; what is read from memory is converted."""
        return None if self.from_memory else super().problem(shape, dtype)

    def undrawable(self) -> None:
        """The source's fill answers for itself."""

    def __str__(self) -> str:
        return f"copy of {self.source}" if self.from_memory else f"copy of {self.source}: {self.fill}"
