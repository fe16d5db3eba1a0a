"""FSDP1's flat parameters: what FullyShardedDataParallel leaves of a model's tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

FLATTENED = (
    "lies in a flat parameter of FullyShardedDataParallel, of which this process holds a piece without shape. "
    "Fill the model before wrapping it, or shard it with fully_shard."
)


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
    waiting: list[nn.Module | None] = [model]
    while waiting:
        module = waiting.pop()
        if module is not None:
            handle: Any = vars(module).get("_handle")
            if hasattr(handle, "flat_param"):
                yield handle.flat_param
            waiting += module._modules.values()  # noqa: SLF001


def flattened_tensors(flat: Any) -> Iterator[tuple[str, tuple[int, ...], nn.Module]]:
    """List what a flat parameter (``use_orig_params=False``) was made of.

    Args:
        flat: the ``_flat_param`` of a module.

    Yields:
        Each tensor's name from that module on, its whole shape, and the module that owned it.
    """
    for name, shape, owner in zip(flat._fqns, flat._shapes, flat._param_infos, strict=True):  # noqa: SLF001
        yield name, tuple(shape), owner.module
