"""Caches of functions (``functools.cache``, ``lru_cache``) keep no tensor without memory for later calls."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_CACHED: Any = type(functools.cache(int))
_CONTAINERS = (tuple, list, dict, set, frozenset)
_DEEP = 4
"""How many containers inside of each other are looked through."""


@contextmanager
def on_meta() -> Iterator[None]:
    """Build or run a model on the meta device; afterwards, no cache of a function has what it was given there.

    >>> table = functools.cache(torch.zeros)
    >>> with on_meta():
    ...     _ = table(3)
    >>> table(3).device.type
    'cpu'
    """
    try:
        with torch.device("meta"):
            yield
    finally:
        empty_caches(lambda tensor: tensor.is_meta)


def empty_caches(is_unwanted: Callable[[Tensor], bool]) -> None:
    """Empty the caches of functions that hold an unwanted tensor; what they held is computed again when it is wanted.

    All objects of the process are looked through, which takes some 50 ms.

    Args:
        is_unwanted: whether a tensor is.
    """
    for one in gc.get_objects():
        if type(one) is _CACHED and any(map(is_unwanted, _tensors(gc.get_referents(one), _DEEP))):
            one.cache_clear()


def _tensors(held: Any, depth: int) -> Iterator[Tensor]:
    """Give the tensors that a cache holds, in containers too."""
    for one in held:
        if isinstance(one, Tensor):
            yield one
        elif depth and isinstance(one, _CONTAINERS):
            yield from _tensors([*one, *one.values()] if isinstance(one, dict) else one, depth - 1)
