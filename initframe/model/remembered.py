"""What a constructor did to a module's parameters, kept in the module itself.

It is kept by attribute and not by tensor, so it survives what replaces tensors (``fully_shard``, ``to_empty``) and
what copies or cuts modules (deepcopy, pickle, pipeline stages).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

_ATTRIBUTE = "_initframe_constructed"


def remember(module: nn.Module, found: Mapping[str, Any]) -> None:
    """Keep what is known of a module's own parameters.

    Args:
        module: their owner.
        found: by attribute, as data that can be copied and pickled.

    >>> layer = nn.Linear(2, 2)
    >>> remember(layer, {"weight": "kept"})
    >>> remembered(layer)["weight"]
    'kept'
    """
    vars(module)[_ATTRIBUTE] = dict(found)


def remembered(module: nn.Module) -> Mapping[str, Any]:
    """Give what is known of a module's own parameters; nothing if its constructor was not recorded.

    >>> remembered(nn.Linear(2, 2))
    {}
    """
    found: Mapping[str, Any] = vars(module).get(_ATTRIBUTE, {})
    return found
