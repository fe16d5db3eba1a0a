"""FSDP1's flat parameters: what FullyShardedDataParallel leaves of a model's tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

FLATTENED = (
    "lies in a flat parameter of FullyShardedDataParallel, of which this process holds a piece without shape. "
    "Fill the model before wrapping it, or shard it with fully_shard."
)


def flattened_shapes(model: nn.Module) -> dict[int, tuple[int, ...]]:
    """Find the parameters that FSDP1 (``use_orig_params=True``) shows as pieces, and their whole shapes.

    Args:
        model: a model, wrappers included.

    Returns:
        Whole shapes by ``id`` of the parameter; none for parameters that have their shape.

    >>> flattened_shapes(nn.Linear(2, 3))
    {}
    """
    return {
        id(piece): tuple(shape)
        for flat in _flat_parameters(model)
        for piece, shape in zip(flat._params or (), flat._shapes, strict=False)  # noqa: SLF001
        if piece.shape != shape
    }


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


def flattened_tensors(flat: Any) -> Iterator[tuple[str, tuple[int, ...], Tensor]]:
    """List what a flat parameter (``use_orig_params=False``) was made of.

    Args:
        flat: the ``_flat_param`` of a module.

    Yields:
        Each tensor's name from that module on, its whole shape, and an empty tensor that stands for it.
    """
    for name, shape in zip(flat._fqns, flat._shapes, strict=True):  # noqa: SLF001
        yield name, tuple(shape), flat.detach()[:0]
