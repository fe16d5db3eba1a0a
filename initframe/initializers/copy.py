"""What follows from other tensors of the model: copies of them, norms of their rows."""

from __future__ import annotations

from initframe.fills import Copied, Fill, Keep, Norms
from initframe.initializers.table import initializer
from initframe.model.slot import Slot


@initializer("copy")
def copy(slot: Slot, *, source: str) -> Fill:
    """What another tensor of the model holds after the write (target networks: Mnih et al. 2015).

    Use it for target networks and averages inside of the model: ``match: "target.*"``, ``source: "online.*"``.

    Args:
        slot: a tensor of the source's shape.
        source: the other tensor's name; its k-th ``*`` is what the k-th ``*`` of ``match`` matched.

    Returns:
        A fill whose source's own fill the resolver adds.

    >>> str(copy(Slot("target.w", (2,)), source="online.w"))
    'copy of online.w: keep()'
    """
    return Copied(source, Keep())


@initializer("row_norms")
def row_norms(slot: Slot, *, source: str, dim: int | None = None) -> Fill:
    """The Euclidean norm of each output's weights in another tensor, after the write (DoRA: Liu et al. 2024).

    Use it for the magnitudes of DoRA while its B is zero: ``match: "*.lora_magnitude_vector.*.weight"``, ``source:
    "*.weight"``.

    Args:
        slot: a tensor with one element for each output of the source.
        source: the other tensor's name; its k-th ``*`` is what the k-th ``*`` of ``match`` matched.
        dim: the dimension of the source that the elements count, by default that of its outputs.

    Returns:
        A fill whose source the resolver looks up.

    >>> str(row_norms(Slot("m", (2,)), source="layer.weight"))
    'norms of layer.weight along 0'
    """
    return Norms(source, Keep(), from_memory=True, dim=dim or 0)
