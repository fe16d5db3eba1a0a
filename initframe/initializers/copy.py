"""Copies of other tensors of the model: target networks, averages, layers that start alike."""

from __future__ import annotations

from initframe.fills import Copied, Fill, Keep
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
