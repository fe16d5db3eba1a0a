"""Which tensors of a layer a class sets by its own code, and not torch by that of torch.nn."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import NamedTuple

_RESETS = ("reset_parameters", "_reset_parameters")
"""The methods by which the layers of torch.nn set their own tensors."""
_ALL = frozenset({"parameters", "named_parameters", "_parameters", "state_dict"})
"""Names by which code reaches all tensors of a module."""


class _Names(NamedTuple):
    """The names in a function's code.

    Attributes:
        read: every name that is read.
        written: the attributes that are assigned.
        writes_elements: whether something is assigned by index.
    """

    read: frozenset[str]
    written: frozenset[str]
    writes_elements: bool


@lru_cache(maxsize=1024)
def set_by(cls: type, attribute: str) -> str | None:
    """Name the class whose own code sets a tensor that a layer of torch.nn would set.

    Code is read, never run. A class sets a tensor if its ``reset_parameters`` replaces that of torch.nn, unless it only
    adds to it; or if its ``__init__``, or a method called there, assigns the tensor or writes to it in place. A module
    that writes to its children's tensors goes unnoticed.

    Args:
        cls: a layer's class.
        attribute: the tensor's name in the layer.

    Returns:
        The first such class, most derived first; ``None`` if there is none.

    >>> from torch import nn
    >>> class Small(nn.Linear):
    ...     def reset_parameters(self):
    ...         nn.init.normal_(self.weight, std=0.01)
    >>> set_by(Small, "weight"), set_by(nn.Linear, "weight")
    ('Small', None)
    """
    for own in cls.__mro__:
        if own.__module__.partition(".")[0] in ("torch", "builtins"):
            continue
        if any(_replaces(own, reset, attribute) for reset in _RESETS):
            return own.__name__
        if any(_sets(names, attribute) for names in _construction(own)):
            return own.__name__
    return None


def _replaces(own: type, reset: str, attribute: str) -> bool:
    """Whether a class replaces a method that sets tensors, for one of them."""
    if (names := _names(vars(own).get(reset))) is None:
        return False
    adds = "super" in names.read and reset in names.read
    return not adds or _sets(names, attribute)


def _construction(own: type) -> Iterator[_Names]:
    """Give the names in a class's constructor, and in its own methods that are called there."""
    waiting, seen = ["__init__"], {"__init__", *_RESETS}
    while waiting:
        names = _names(vars(own).get(waiting.pop()))
        if names is not None:
            yield names
            called = [name for name in names.read if name in vars(own) and name not in seen]
            seen.update(called)
            waiting += called


def _sets(names: _Names, attribute: str) -> bool:
    """Whether code assigns an attribute, or reads it and writes to something in place."""
    if attribute in names.written:
        return True
    in_place = names.writes_elements or "data" in names.written or any(map(_is_in_place, names.read))
    return in_place and not names.read.isdisjoint({attribute, *_ALL})


def _is_in_place(name: str) -> bool:
    """Tell the name of a function that writes to a tensor, by torch's convention."""
    return name.endswith("_") and not name.endswith("__") and name != "requires_grad_"


def _names(function: object) -> _Names | None:
    """Read the names in a function's code; ``None`` if it has none."""
    code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", None)
    if not isinstance(code, CodeType):
        return None
    steps = list(dis.get_instructions(code))
    return _Names(
        read=frozenset(str(step.argval) for step in steps if step.opname.startswith("LOAD_")),
        written=frozenset(str(step.argval) for step in steps if step.opname == "STORE_ATTR"),
        writes_elements=any(step.opname == "STORE_SUBSCR" for step in steps),
    )
