"""Where a slot's tensor lives in the live model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn

from initframe.frozen import opened
from initframe.model.computed import Copies, Parametrization, own_tensor
from initframe.model.memory import Footprint, is_distributed, memoryless
from initframe.model.obstacles import Obstacle
from initframe.model.parametrizations import parametrizations

Owner: TypeAlias = nn.Module | Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A slot's memory: it reads, and says what a write changes; it never writes.

    Attributes:
        held: the tensors that a write touches, as an optimizer knows them: the tensor itself, further objects on the
            same memory, or the originals of a parametrization.
        computed: how the logical tensor comes from those, if it is parametrized.
        owners: the modules (or the state_dict) that hold the tensor, each with the tensor's name in it; none if only
            a copy can be seen.
        plain: the elements of a single tensor of which it is known that nothing keeps it from being written; ``None``
            of all others.
    """

    held: tuple[Tensor, ...]
    computed: Parametrization | None = None
    owners: tuple[tuple[Owner, str], ...] = ()
    plain: Footprint | None = None

    @property
    def direct(self) -> Tensor | None:
        """The tensor to fill in place; ``None`` if the whole logical value has to go through ``copies``."""
        return self.held[0] if self.computed is None else None

    def tensor(self) -> Tensor:
        """Give the logical tensor as it is now: the live one, or a whole copy if it is computed."""
        return self.held[0] if self.computed is None else self.computed.read()

    def again(self) -> Place:
        """Find the memory anew, after the model's tensors were replaced under the same names.

        >>> layer = nn.Linear(2, 3)
        >>> place = Place((layer.weight,), owners=((layer, "weight"),))
        >>> layer.weight = nn.Parameter(layer.weight.detach() + 1)
        >>> place.again().direct is layer.weight
        True
        """
        if self.computed is not None:
            (module, name), *_ = self.owners
            how = parametrizations(module)[name]  # type: ignore[arg-type]  # a state_dict computes nothing
            return Place(tuple(how.originals.values()), how, self.owners)
        found = {id(tensor): tensor for owner, name in self.owners if (tensor := owned(owner, name)) is not None}
        return Place(tuple(found.values()) or self.held, owners=self.owners)

    def copies(self, value: Tensor) -> Copies:
        """Say what to copy where, in order, so that the logical tensor becomes ``value``; nothing is written.

        Besides the originals these may be a layer's own buffers (orthogonal's base, spectral_norm's singular vectors),
        and the plain attribute in which the older hooks show the value.

        Args:
            value: the whole logical value, a plain tensor of the slot's shape and dtype.

        Returns:
            Pairs of an existing tensor and its new value; of a computed DTensor, both are.

        Raises:
            Exception: what a custom right_inverse raises; ``check`` tells beforehand.
        """
        if self.computed is None:
            return ((self.held[0], value),)
        return tuple(_as_held(*pair) for pair in self.computed.invert(value))

    def check(self, value: Tensor) -> Obstacle | None:
        """Try to invert a parametrization, before anything is written.

        Args:
            value: the value that is to be filled; some values can be inverted, and others not.

        Returns:
            Why the place takes no such value; ``None`` if it does, or if nothing can be tried because the model has
            no memory.
        """
        if self.computed is None or any(map(memoryless, self.held)):
            return None
        try:
            self.computed.invert(value)
        except Exception as error:  # noqa: BLE001 - a custom right_inverse may raise anything
            return Obstacle(
                f"does not take the value through its parametrization: {error}.",
                f"Fill what it is computed from by a rule that names it: {', '.join(self.computed.originals)}.",
            )
        return None


OpenPlace = opened(Place)
"""What becomes a place when it is given the class."""


def owned(owner: Owner, name: str) -> Tensor | None:
    """Give the tensor that a module or a state_dict holds under a name, if it holds one."""
    return own_tensor(owner, name) if isinstance(owner, nn.Module) else owner.get(name)


def _as_held(original: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Give a new value the placements of its original if that is a DTensor; every process has the whole value."""
    if not is_distributed(original):
        return original, new
    from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415 - loaded already, or there were no DTensor

    mesh, placements = original.device_mesh, original.placements  # type: ignore[attr-defined]
    return original, distribute_tensor(new, mesh, placements, src_data_rank=None)
