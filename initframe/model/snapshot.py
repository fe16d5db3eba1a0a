"""Whether a model is still what it was when it was surveyed: identities and addresses, compared in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from initframe.model.memory import is_composite, is_distributed
from initframe.model.obstacles import is_packed


def snapshot(model: nn.Module | Mapping[str, Tensor]) -> tuple[object, ...] | None:
    """Record what a survey of a model depends on, but for how tensors are computed from others.

    No tensor is kept alive: a new one of the same ``id``, memory and form under the same name makes no difference to a
    survey. Modules are.

    Args:
        model: a module or a state_dict.

    Returns:
        Facts to be compared with ``==``; ``None`` if the model holds tensors of which a change could go unseen:
        packed, in a flat parameter, lazy, or made of other tensors.

    >>> layer = nn.Linear(2, 3)
    >>> before = snapshot(layer)
    >>> snapshot(layer) == before
    True
    >>> layer.weight = nn.Parameter(torch.zeros(3, 2))
    >>> snapshot(layer) == before
    False
    """
    # In inference mode, tensors take writes that they refuse outside of it.
    facts: list[object] = [torch.is_inference_mode_enabled(), id(model)]
    try:
        if isinstance(model, nn.Module):
            _add_modules(model, facts)
        else:
            _add_tensors(model, facts)
    except _Unseen:
        return None
    return tuple(facts)


class _Unseen(Exception):  # noqa: N818  # no error: a survey is made instead
    """A model of which a change could go unseen."""


def _add_modules(model: nn.Module, facts: list[object]) -> None:
    """Record every module under each of its parents, and its tensors once."""
    waiting: list[nn.Module | None] = [model]
    met: set[int] = set()
    while waiting:
        module = waiting.pop()
        if module is None or id(module) in met:
            facts.append(module)
            continue
        met.add(id(module))
        cls: type = type(module)
        if "_handle" in vars(module) or is_packed(cls):
            raise _Unseen
        children, parameters, buffers = module._modules, module._parameters, module._buffers  # noqa: SLF001
        facts += (module, cls, *children.keys())
        if parameters:
            _add_tensors(parameters, facts)
        if buffers:
            facts += sorted(module._non_persistent_buffers_set)  # noqa: SLF001
            _add_tensors(buffers, facts)
        waiting += children.values()


def _add_tensors(tensors: Mapping[str, Any], facts: list[object]) -> None:
    """Record what a survey sees of each tensor, values excepted."""
    for name, tensor in tensors.items():
        cls: type = type(tensor)
        if not isinstance(tensor, Tensor):
            facts += (name, tensor is None)
            continue
        if cls is not nn.Parameter and cls is not Tensor:
            tensor = _seen(tensor, facts)  # noqa: PLW2901
        try:
            facts += (
                name,
                id(tensor),
                cls,
                tensor.untyped_storage()._cdata if tensor.is_meta else tensor.data_ptr(),  # noqa: SLF001
                tensor.shape,
                tensor.stride(),
                tensor.storage_offset(),
                tensor.dtype,
                tensor.device,
                tensor.requires_grad,
                tensor.is_inference(),
                tensor.is_neg(),
                tensor.is_conj(),
            )
        except (RuntimeError, ValueError, NotImplementedError) as unreadable:  # lazy, nested, sparse
            raise _Unseen from unreadable


def _seen(tensor: Tensor, facts: list[object]) -> Tensor:
    """Give the tensor to look at in place of one of a class of its own: a DTensor's shard, whose place is noted."""
    if is_distributed(tensor):
        sharded: Any = tensor
        facts += (id(tensor), sharded.placements, sharded.device_mesh, tensor.shape)
        shard: Tensor = sharded._local_tensor  # noqa: SLF001
        return _seen(shard, facts)
    if is_composite(tensor) or isinstance(tensor, FakeTensor):
        raise _Unseen
    return tensor
