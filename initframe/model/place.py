"""Where a slot's tensor lives in the live model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from initframe.model.computed import Parametrization, Writes
from initframe.model.memory import is_distributed, memoryless


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """The live end of a slot: it reads, and says where a write goes; it never writes.

    Attributes:
        held: the tensors that a write touches, as an optimizer knows them: the tensor itself, further objects on the
            same memory, or the originals of a parametrization.
        computed: how the logical tensor comes from those, where it is parametrized.
    """

    held: tuple[Tensor, ...]
    computed: Parametrization | None = None

    @property
    def parameter(self) -> tuple[Tensor, ...]:
        """The objects that a write touches, for whoever keeps state by object (optimizers)."""
        return self.held

    @property
    def direct(self) -> Tensor | None:
        """The tensor to fill in place; ``None`` where a whole logical value goes through ``targets``."""
        return self.held[0] if self.computed is None else None

    def tensor(self) -> Tensor:
        """Give the logical tensor as it is now: the live one, or, where it is computed, a whole copy."""
        return self.held[0] if self.computed is None else self.computed.read()

    def targets(self, value: Tensor) -> Writes:
        """Say what to copy where, in order, so that the logical tensor becomes ``value``; nothing is written.

        Besides the originals these may be a layer's own buffers (orthogonal's base, spectral_norm's singular vectors),
        and the plain attribute in which the older hooks show the value.

        Args:
            value: the whole logical value, a plain tensor of the slot's shape and dtype.

        Returns:
            Pairs of an existing tensor and its new value; of a computed DTensor, both are.

        Raises:
            Exception: whatever a custom right_inverse raises; ``check`` tells beforehand.
        """
        if self.computed is None:
            return ((self.held[0], value),)
        return tuple(_as_held(*pair) for pair in self.computed.invert(value))

    def check(self, value: Tensor) -> str | None:
        """Try the way in, before anything is written.

        Args:
            value: the value to try; it is the one to be filled, as a way in may be open to some values only.

        Returns:
            Why the place takes no such value, to be read after the tensor's name; ``None`` if it does, or if nothing
            can be tried because the model has no memory.
        """
        if self.computed is None or any(map(memoryless, self.held)):
            return None
        try:
            self.computed.invert(value)
        except Exception as error:  # noqa: BLE001 - a custom right_inverse may raise anything
            return (
                f"does not take the value through its parametrization: {error}. "
                f"Fill what it is computed from by a rule that names it: {', '.join(self.computed.originals)}."
            )
        return None


def _as_held(original: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Give a new value the placements of its original, where that is a DTensor; every process has the whole value."""
    if not is_distributed(original):
        return original, new
    from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415 - loaded already, or there were no DTensor

    mesh, placements = original.device_mesh, original.placements  # type: ignore[attr-defined]
    return original, distribute_tensor(new, mesh, placements, src_data_rank=None)
