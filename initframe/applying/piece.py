"""A fill for a piece of memory."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from initframe.applying.regions import Region
from initframe.fills import Fill


class Piece(NamedTuple):
    """A fill for a piece of memory.

    Attributes:
        fill: what the whole tensor will hold.
        out: the memory, of the region's local shape.
        region: the part of the whole tensor that the memory is.
        name: the whole tensor's name, which addresses the stream.
    """

    fill: Fill
    out: Tensor
    region: Region
    name: str
