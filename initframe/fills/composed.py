"""Fills around other fills: in parts of a tensor, for some of its units, or taken from another tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from initframe.errors import Problem
from initframe.fills.fill import Fill, Shape, short
from initframe.model.slot import Slot


@dataclass(frozen=True)
class Blocks(Fill):
    """Consecutive blocks of ``sizes`` along ``dim``, each with a fill of its own (fused QKV, LSTM gates).

    >>> from initframe.fills import Constant
    >>> Blocks((Constant(0), Constant(1)), sizes=(3, 1)).mean
    0.25
    """

    fills: tuple[Fill, ...]
    sizes: tuple[int, ...] = field(repr=False)
    dim: int = field(default=0, repr=False)

    @property
    def inner(self) -> tuple[Fill, ...]:
        """One fill per block."""
        return self.fills

    def inner_shapes(self, shape: Shape) -> tuple[Shape, ...]:
        """Return the blocks' shapes."""
        return tuple((*shape[: self.dim], size, *shape[self.dim + 1 :]) for size in self.sizes)

    @property
    def mean(self) -> float:
        """The blocks' means, weighted by size."""
        return math.fsum(n * f.mean for n, f in zip(self.sizes, self.fills, strict=True)) / max(sum(self.sizes), 1)

    @property
    def std(self) -> float:
        """Of the mixture: the blocks' variances, and how far their means are apart."""
        mean, pairs = self.mean, zip(self.sizes, self.fills, strict=True)
        return math.sqrt(math.fsum(n * (f.std**2 + (f.mean - mean) ** 2) for n, f in pairs) / max(sum(self.sizes), 1))

    def misshapen(self, shape: Shape) -> str | None:
        """Say why the blocks do not add up to the dimension that they split; ``None`` if they do."""
        if len(self.fills) == len(self.sizes) and sum(self.sizes) == dict(enumerate(shape)).get(self.dim):
            return None
        return f"blocks of {list(self.sizes)} are not dimension {self.dim} of {list(shape)}."

    def undrawable(self) -> None:
        """The blocks answer for themselves."""

    def __str__(self) -> str:
        first, *others = self.fills
        if all(fill == first for fill in others):
            return f"{len(self.fills)} × {first}"
        return " | ".join(map(str, self.fills))


@dataclass(frozen=True)
class Around(Fill):
    """The face of fills that write what another one gives, their field ``fill``, and have its moments."""

    if TYPE_CHECKING:  # a field of every subclass, whose place among the others is its own

        @property
        def fill(self) -> Fill: ...  # noqa: D102

    @property
    def inner(self) -> tuple[Fill, ...]:
        """The other fill."""
        return (self.fill,)

    @property
    def mean(self) -> float:
        """The other fill's."""
        return self.fill.mean

    @property
    def std(self) -> float:
        """The other fill's."""
        return self.fill.std

    @property
    def reach(self) -> float:
        """The other fill's."""
        return self.fill.reach

    def undrawable(self) -> str | None:
        """The other fill answers for itself."""
        return None


@dataclass(frozen=True)
class Masked(Around):
    """``fill``, but ``value`` at ``index``: one element, or a whole row if the index is shorter than the shape.

    ``padding`` says that it is an embedding's row of padding, which torch.nn.init does not know of.

    >>> from initframe.fills import Constant
    >>> Masked(Constant(1), (4,), index=(0,), value=0).mean
    0.75
    """

    fill: Fill
    shape: tuple[int, ...] = field(repr=False)
    index: tuple[int, ...] = ()
    value: float = 0.0
    padding: bool = field(default=False, repr=False)

    @property
    def reach(self) -> float:
        """The fill's or ``|value|``, whichever is farther."""
        return max(abs(self.value), self.fill.reach)

    @property
    def share(self) -> float:
        """The masked share of the elements."""
        return 1 / max(math.prod(self.shape[: len(self.index)]), 1)

    @property
    def mean(self) -> float:
        """Of the mixture."""
        return (1 - self.share) * self.fill.mean + self.share * self.value

    @property
    def std(self) -> float:
        """Of the mixture: the fill's variance, and how far its mean is from the value."""
        apart = self.share * (self.fill.mean - self.value) ** 2
        return math.sqrt((1 - self.share) * (self.fill.std**2 + apart))

    def misshapen(self, shape: Shape) -> str | None:
        """Say why the shape is another one, or the index is outside of it; ``None`` if all is well."""
        if self.shape != shape:
            return f"it is made for the shape {list(self.shape)}; the tensor has {list(shape)}."
        inside = all(0 <= i < size for i, size in zip(self.index, shape, strict=False))
        if not 0 < len(self.index) <= len(shape) or not inside:
            return f"the index is outside of the shape {list(shape)}."
        return None

    def __str__(self) -> str:
        return f"{self.fill}, {short(self.value)} at {short(self.index)}"


@dataclass(frozen=True)
class Partial(Around):
    """``fill`` at some indices along one dimension, with the numbers that the whole would have there.

    Attributes:
        fill: of the whole tensor.
        units: the indices, ascending.
        dim: the dimension.

    >>> from initframe.fills import Normal
    >>> str(Partial(Normal(0.0, 0.02), (3, 17)))
    'normal(0, 0.02) for 2 units'
    """

    fill: Fill
    units: tuple[int, ...]
    dim: int = 0

    needs_current = True  # of the other units
    mean = std = math.nan  # depends on them

    def misshapen(self, shape: Shape) -> str | None:
        """Say that the units are outside of the shape; ``None`` if they are not."""
        size = dict(enumerate(shape)).get(self.dim, 0)
        if not self.units or not 0 <= min(self.units) <= max(self.units) < size:
            return f"units are counted from 0 to {size - 1} along dimension {self.dim} of {list(shape)}."
        return None

    def __str__(self) -> str:
        return f"{self.fill} for {len(self.units)} unit{'' if len(self.units) == 1 else 's'}"


@dataclass(frozen=True)
class Copied(Around):
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
    needs_current = False  # what was here before does not matter

    @property
    def inner(self) -> tuple[Fill, ...]:
        """The source's fill, if it is drawn here."""
        return () if self.from_memory else (self.fill,)

    def suits(self, slot: Slot) -> bool:
        """A counter can be copied from another one."""
        return slot.resettable

    def problem(self, shape: Shape, dtype: torch.dtype) -> Problem | None:
        """Say why the source's fill cannot be held; what is read from memory is converted."""
        return None if self.from_memory else super().problem(shape, dtype)

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
    mean = std = math.nan  # depends on the source's values
    reach = 0.0  # what the source holds, its norms are not checked against

    def suits(self, slot: Slot) -> bool:  # noqa: ARG002
        """Never: norms are no counters."""
        return False

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """Compute the norms, in float64.

        Args:
            values: the source's.
        """
        others = tuple(dim for dim in range(values.ndim) if dim != self.dim)
        return torch.linalg.vector_norm(values.double(), dim=others) if others else values.double().abs()

    def __str__(self) -> str:
        return f"norms of {self.source} along {self.dim}"


def padded(fill: Fill, row: int | None) -> Fill:
    """Mark a row of zeros as an embedding's padding, if that is what it is.

    Args:
        fill: any.
        row: the embedding's row of padding; ``None`` if there is none.
    """
    if isinstance(fill, Masked) and row is not None and fill.index == (row,) and fill.value == 0:
        return replace(fill, padding=True)
    return fill
