"""FSDP1's flat parameters: what FullyShardedDataParallel leaves of a model's tensors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from initframe.model.obstacles import Obstacle

FLATTENED = Obstacle(
    "is part of a flat parameter of FullyShardedDataParallel, of which this process holds a piece without shape.",
    "Fill the model before wrapping it, or shard it with fully_shard.",
)
_FSDP = "torch.distributed.fsdp"
FLAT_NAME = "_flat_param"
"""Its name in the module whose tensors it took; a parameter of a user's own may be called so, too."""


def flattened_shapes(model: nn.Module) -> dict[int, tuple[int, ...]]:
    """Find the parameters that FSDP1 (``use_orig_params=True``) shows as pieces, and their whole shapes.

    Args:
        model: a model, wrappers included.

    Returns:
        Whole shapes by ``id`` of the parameter; none where all of a flat parameter's tensors have theirs, as while
        they are summoned.

    >>> flattened_shapes(nn.Linear(2, 3))
    {}
    """
    shapes: dict[int, tuple[int, ...]] = {}
    for flat in _flat_parameters(model):
        pairs = list(zip(flat._params or (), flat._shapes, strict=False))  # noqa: SLF001
        if any(piece.shape != shape for piece, shape in pairs):  # a process may hold one of several tensors whole
            shapes |= {id(piece): tuple(shape) for piece, shape in pairs}
    return shapes


def _flat_parameters(model: nn.Module) -> Iterator[Any]:
    """Find what the wrappers of FSDP1 keep, wherever they are in a model."""
    if _FSDP not in sys.modules:
        return
    waiting: list[nn.Module | None] = [model]
    while waiting:
        module = waiting.pop()
        if module is not None:
            handle: Any = vars(module).get("_handle")
            if handle is not None and hasattr(handle, "flat_param"):
                yield handle.flat_param
            waiting += module._modules.values()  # noqa: SLF001


def is_flat(tensor: Tensor | None) -> bool:
    """Tell the flat parameter that FSDP1 (``use_orig_params=False``) puts in the place of a module's tensors.

    >>> is_flat(nn.Linear(2, 3).weight)
    False
    """
    return tensor is not None and hasattr(tensor, "_param_infos")


def flattened_tensors(flat: Any) -> Iterator[tuple[nn.Module, dict[str, tuple[int, ...]]]]:
    """List what a flat parameter was made of.

    Args:
        flat: a tensor of which ``is_flat`` holds.

    Yields:
        Each module that owned some, and their whole shapes by the names that they had in it.
    """
    owned: dict[int, tuple[nn.Module, dict[str, tuple[int, ...]]]] = {}
    for shape, owner in zip(flat._shapes, flat._param_infos, strict=True):  # noqa: SLF001
        owned.setdefault(id(owner.module), (owner.module, {}))[1][owner.param_name] = tuple(shape)
    yield from owned.values()
