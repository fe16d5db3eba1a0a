"""Running a module with other tensors in the place of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def run_with(
    module: nn.Module, tensors: Mapping[str, Tensor], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> Any:
    """Run a module with other tensors: each is in every place of the one that it stands for.

    torch takes a module that has several names for several ones. It puts the second name's tensor back last, and that
    is the other tensor, so that the module would have lost its own.

    Args:
        module: what runs; it is as before afterwards.
        tensors: by any of their names.
        args: of the forward function.
        kwargs: likewise.

    Returns:
        What the module returns.

    >>> import torch
    >>> one = nn.Linear(2, 2, bias=False)
    >>> own, other = one.weight, torch.zeros(2, 2)
    >>> run_with(nn.Sequential(one, one), {"0.weight": other}, [torch.ones(1, 2)]).tolist(), one.weight is own
    ([[0.0, 0.0]], True)
    """
    places: dict[str, Tensor] = {}
    given: dict[int, Tensor] = {}
    reached: set[nn.Module] = set()
    for prefix, one in module.named_modules(remove_duplicate=False):
        own = {**one._parameters, **one._buffers}  # noqa: SLF001  # torch's iterators leave out what has another name
        names = {f"{prefix}.{key}" if prefix else key: tensor for key, tensor in own.items() if tensor is not None}
        given |= {id(tensor): tensors[name] for name, tensor in names.items() if name in tensors}
        if one not in reached:
            reached.add(one)
            places |= names
    state = {name: given[id(tensor)] for name, tensor in places.items() if id(tensor) in given}
    return functional_call(module, state, tuple(args), dict(kwargs or {}), tie_weights=False)
