"""Where a slot's tensor lives in the live model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from initframe.model.parametrizations import Parametrization, Writes


@dataclass(frozen=True, slots=True)
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
        return ((self.held[0], value),) if self.computed is None else self.computed.invert(value)

    def check(self, value: Tensor | None = None) -> str | None:
        """Try the way in on a throw-away value, before anything is written.

        Args:
            value: the value to try; without one, normal random numbers.

        Returns:
            Why the place takes no such value, to be read after the tensor's name; ``None`` if it does, or if nothing
            can be tried because the model is on the meta device.
        """
        if self.computed is None or any(tensor.is_meta for tensor in self.held):
            return None
        try:
            self.computed.invert(_throw_away(self.computed, self.held[0].device) if value is None else value)
        except Exception as error:  # noqa: BLE001 - a custom right_inverse may raise anything
            return (
                f"does not take the value through its parametrization: {error}. "
                f"Fill what it is computed from by a rule that names it: {', '.join(self.computed.originals)}."
            )
        return None


def _throw_away(how: Parametrization, device: torch.device) -> Tensor:
    """Make a value to try with, without torch's own generators."""
    numbers = torch.randn(how.shape, generator=torch.Generator().manual_seed(0))
    return numbers.to(device=device, dtype=how.dtype)
