"""Fills that put other fills into parts of a tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from initframe.fills.fill import Fill, short


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
    def needs_current(self) -> bool:
        """Whether any block does."""
        return any(fill.needs_current for fill in self.fills)

    @property
    def mean(self) -> float:
        """The blocks' means, weighted by size."""
        return math.fsum(n * f.mean for n, f in zip(self.sizes, self.fills, strict=True)) / max(sum(self.sizes), 1)

    @property
    def std(self) -> float:
        """Of the mixture: the blocks' variances, and how far their means are apart."""
        mean, pairs = self.mean, zip(self.sizes, self.fills, strict=True)
        return math.sqrt(math.fsum(n * (f.std**2 + (f.mean - mean) ** 2) for n, f in pairs) / max(sum(self.sizes), 1))

    def parts(self) -> Iterator[Fill]:
        """This fill and all fills inside it."""
        yield self
        for fill in self.fills:
            yield from fill.parts()

    def __str__(self) -> str:
        if len(set(self.fills)) == 1:
            return f"{len(self.fills)} × {self.fills[0]}"
        return " | ".join(map(str, self.fills))


@dataclass(frozen=True)
class Masked(Fill):
    """``fill``, but ``value`` at ``index``: one element, or a whole row where the index is shorter than the shape.

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
    def needs_current(self) -> bool:
        """Whether the fill below does."""
        return self.fill.needs_current

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

    def parts(self) -> Iterator[Fill]:
        """This fill and all fills inside it."""
        yield self
        yield from self.fill.parts()

    def __str__(self) -> str:
        return f"{self.fill}, {short(self.value)} at {short(self.index)}"
