"""Where a slot's tensor lives in the live model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Place:
    """The live end of a slot: it reads, and says where a write goes; it never writes.

    Attributes:
        held: the tensor objects that share the slot's memory, the canonical one first.
    """

    held: tuple[Tensor, ...]

    @property
    def parameter(self) -> tuple[Tensor, ...]:
        """The objects that a write touches, as an optimizer would know them."""
        return self.held

    @property
    def direct(self) -> Tensor | None:
        """The tensor to fill in place; ``None`` where a whole logical value goes through ``targets``."""
        return self.held[0]

    def tensor(self) -> Tensor:
        """Read the logical tensor as it is now."""
        return self.held[0]

    def targets(self, value: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """Say what to copy where, so that the logical tensor becomes ``value``; nothing is written.

        Args:
            value: the whole logical value, of the slot's shape.

        Returns:
            Pairs of an existing tensor and its new value.
        """
        return ((self.held[0], value),)

    def check(self, value: Tensor | None = None) -> str | None:
        """Try the way in on a throw-away value, before anything is written.

        Args:
            value: the value to try; without one, random numbers.

        Returns:
            Why the place takes no such value, or ``None``.
        """
        del value
        return None
