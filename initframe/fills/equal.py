"""When two fills are the same: of one kind, with the same float32 constants, so with the same bits."""

from __future__ import annotations

import struct
from dataclasses import fields
from typing import Any

from initframe.fills import Blocks, Constant, Fill


def same(one: Fill, other: Fill) -> bool:
    """Whether two fills write the same bits.

    Args:
        one: any fill.
        other: any other.

    >>> from initframe.fills import Normal
    >>> same(Normal(0, 0.02), Normal(0.0, 0.02 + 1e-12)), same(Normal(0, 0.02), Normal(0, 0.021))
    (True, False)
    """
    return one == other or key(one) == key(other)


def key(fill: Fill) -> Any:
    """Give what two fills share that are the same, hashable."""
    if (
        isinstance(fill, Blocks)
        and len({key(part) for part in fill.fills}) == 1
        and isinstance(fill.fills[0], Constant)
    ):
        return key(fill.fills[0])
    own = tuple(_plain(getattr(fill, field.name)) for field in fields(fill) if field.compare)
    return type(fill).__name__, own


def _plain(value: Any) -> Any:
    if isinstance(value, Fill):
        return key(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return tuple(map(_plain, value)) if isinstance(value, tuple) else _hashable(value)
    try:
        return struct.pack("<f", float(value) + 0.0)  # -0.0 is another constant than 0.0 in no distribution
    except OverflowError:
        return float(value)


def _hashable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value
