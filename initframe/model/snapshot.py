"""Whether a model is still what it was when it was surveyed: identities and addresses, compared in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from initframe.model.memory import is_composite, is_distributed
from initframe.model.obstacles import is_packed


class Snapshot(NamedTuple):
    """What a survey of a model depends on, but for how tensors are computed from others.

    Attributes:
        facts: to be compared with ``==``. They keep no tensor alive: a new one of the same ``id``, memory and form
            under the same name makes no difference to a survey. They keep modules.
        tensors: the model's tensors, those of shared modules once, in an order that follows from the facts.
    """

    facts: list[object]
    tensors: list[Tensor]


def snapshot(model: nn.Module | Mapping[str, Tensor]) -> Snapshot | None:
    """Take a snapshot of a model.

    Args:
        model: a module or a state_dict.

    Returns:
        The snapshot; ``None`` if the model holds tensors of which a change could go unseen: packed, in a flat
        parameter, lazy, or made of other tensors.

    >>> layer = nn.Linear(2, 3)
    >>> before = snapshot(layer).facts
    >>> snapshot(layer).facts == before
    True
    >>> layer.weight = nn.Parameter(torch.zeros(3, 2))
    >>> snapshot(layer).facts == before
    False
    """
    # In inference mode, tensors take writes that they refuse outside of it.
    taken = Snapshot([torch.is_inference_mode_enabled(), id(model)], [])
    try:
        if isinstance(model, nn.Module):
            _add_modules(model, taken)
        else:
            _add_tensors(model, taken)
    except _Unseen:
        return None
    return taken


class _Unseen(Exception):  # noqa: N818  # no error: a survey is made instead
    """A model of which a change could go unseen."""


def _add_modules(model: nn.Module, taken: Snapshot) -> None:
    """Record every module under each of its parents, and its tensors once."""
    facts = taken.facts
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
            _add_tensors(parameters, taken)
        if buffers:
            facts += sorted(module._non_persistent_buffers_set)  # noqa: SLF001
            _add_tensors(buffers, taken)
        waiting += children.values()


def _add_tensors(tensors: Mapping[str, Any], taken: Snapshot) -> None:
    """Record what a survey sees of each tensor, values excepted."""
    facts = taken.facts
    for name, tensor in tensors.items():
        cls: type = type(tensor)
        if cls is not nn.Parameter and cls is not Tensor:
            if not isinstance(tensor, Tensor):
                facts += (name, tensor is None)
                continue
            taken.tensors.append(tensor)
            tensor = _seen(tensor, facts)  # noqa: PLW2901
        else:
            taken.tensors.append(tensor)
        try:
            facts += (
                name,
                id(tensor),
                cls,
                tensor.data_ptr() or _meta_memory(tensor),
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


def _meta_memory(tensor: Tensor) -> int:
    """Tell the memory of a tensor without an address: its storage if it is on the meta device."""
    return tensor.untyped_storage()._cdata if tensor.is_meta else 0  # noqa: SLF001


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
