"""What the constructor of the model did, as an initializer."""

from __future__ import annotations

from initframe.errors import Problem, ResolveError
from initframe.fills import Fill
from initframe.fills.constructed import Constructed
from initframe.initializers.table import initializer
from initframe.model.slot import Slot

UNRECORDED = Problem(
    "",
    "its constructor was not recorded.",
    fix="Build the model under initframe.deferred(), or give initframe.trace what builds it.",
)


@initializer("constructor")
def constructor(slot: Slot) -> Fill:
    """What the constructor that built the model under ``initframe.deferred()`` does to the tensor.

    Use it to keep a model's own initialization for some tensors, and to have it on any sharding.

    Args:
        slot: a parameter of a model that was built under ``deferred()``.

    Returns:
        The fill that was read from the constructor.

    Raises:
        ResolveError: the model was not built under ``deferred()``, or what it does cannot be read.

    >>> import initframe
    >>> from torch import nn
    >>> with initframe.deferred():
    ...     model = nn.LayerNorm(3)
    >>> print(initframe.resolve({"rules": {"*": "constructor"}}, model)["weight"].fill)
    constant(1)
    """
    found = slot.constructed
    if not isinstance(found, Constructed):
        raise ResolveError(UNRECORDED)
    if found.fill is None:
        where = f" ({found.origin})" if found.origin else ""
        raise ResolveError(
            Problem("", f"what its constructor does cannot be read: {found.reason}{where}.", fix="Give it a rule.")
        )
    if found.shape != slot.shape:
        fact = f"its constructor made it with shape {list(found.shape)}; this has shape {list(slot.shape)}."
        raise ResolveError(Problem("", fact, fix="Remove split, or give it a rule of its own."))
    return found.fill
