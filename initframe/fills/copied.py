"""Fills that follow from another tensor: the same numbers, or the norms of its rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

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


@dataclass(frozen=True)
class Norms(Copied):
    """The Euclidean norms of what ``source`` holds after the write, one for every index along a dimension.

    Attributes:
        dim: the dimension of the source that the norms' elements count.

    >>> from initframe.fills import Keep
    >>> fill = Norms("layer.weight", Keep(), from_memory=True, dim=0)
    >>> str(fill), fill.of(torch.tensor([[3.0, 4.0], [0.0, 2.0]])).tolist()
    ('norms of layer.weight along 0', [5.0, 2.0])
    """

    dim: int = 0

    @property
    def mean(self) -> float:
        """NaN: it depends on the source's values."""
        return math.nan

    @property
    def std(self) -> float:
        """NaN, likewise."""
        return math.nan

    @property
    def reach(self) -> float:
        """0: what the source holds, its norms are not checked against."""
        return 0.0

    def suits(self, slot: Slot) -> bool:  # noqa: ARG002
        """Never: norms are no counters."""
        return False

    def of(self, values: Tensor) -> Tensor:
        """Compute the norms, in float64.

        Args:
            values: the source's.
        """
        others = tuple(dim for dim in range(values.ndim) if dim != self.dim)
        return torch.linalg.vector_norm(values.double(), dim=others) if others else values.double().abs()

    def __str__(self) -> str:
        return f"norms of {self.source} along {self.dim}"
