"""Tensors whose values are not in the model: what accelerate offloads, and what DeepSpeed ZeRO-3 partitions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from initframe.model.obstacles import Obstacle

OFFLOADED = Obstacle(
    "is offloaded by accelerate, which brings its values from elsewhere when the module runs: no write would last.",
    "Fill the model before it is dispatched, or call accelerate.hooks.remove_hook_from_module(model, recurse=True), "
    "fill it and dispatch it again.",
)
PARTITIONED = Obstacle(
    "is partitioned by DeepSpeed ZeRO-3: this process holds a placeholder without elements.",
    "Fill the model inside of deepspeed.zero.GatheredParameters(list(model.parameters()), modifier_rank=0), on all "
    "processes, or before it is partitioned.",
)

HOOK = "_hf_hook"
"""The attribute under which accelerate keeps a module's hook."""
WRAPPED = "_old_forward"
"""The attribute under which accelerate keeps the forward function that its hook wraps."""
PREPARED = "_is_accelerate_prepared"
"""The attribute by which accelerate knows what it has prepared."""


def elsewhere(module: nn.Module, tensor: Tensor, *, placed: bool = False) -> Obstacle | None:
    """Say that a tensor's values are not in the model, and what to do about it.

    Args:
        module: the tensor's owner.
        tensor: a parameter or a buffer.
        placed: whether a module around the owner places the tensors of all that is inside of it.

    >>> layer = nn.Linear(2, 3)
    >>> elsewhere(layer, layer.weight) is None
    True
    """
    if is_partitioned(tensor):
        return PARTITIONED
    return OFFLOADED if tensor.is_meta and (placed or any(map(_offloads, _hooks(module)))) else None


def is_prepared(model: nn.Module) -> bool:
    """Tell a model that accelerate has prepared, under FSDP2 always together with an optimizer.

    >>> is_prepared(nn.Linear(2, 3))
    False
    """
    return bool(vars(model).get(PREPARED))


def is_partitioned(tensor: Tensor) -> bool:
    """Tell a placeholder of DeepSpeed ZeRO-3; while it is gathered, it is a tensor like others.

    >>> is_partitioned(nn.Linear(2, 3).weight)
    False
    """
    status = getattr(tensor, "ds_status", None)
    return status is not None and getattr(status, "name", "") != "AVAILABLE"


def gathers(module: nn.Module) -> bool:
    """Tell whether DeepSpeed gathers a module's tensors when it runs.

    >>> gathers(nn.Linear(2, 3))
    False
    """
    return any(is_hook_of("deepspeed", hook) for hook in module._forward_pre_hooks.values())  # noqa: SLF001


def is_hook_of(library: str, hook: object) -> bool:
    """Tell whether a hook is a library's own.

    >>> is_hook_of("deepspeed", [].append)
    False
    """
    return str(getattr(hook, "__module__", None)).startswith(f"{library}.")


def without_hooks(module: nn.Module) -> Any:
    """Give the forward function that accelerate's hook on a module wraps; ``None`` if there is none.

    >>> without_hooks(nn.Linear(2, 3)) is None
    True
    """
    return vars(module).get(WRAPPED) if HOOK in vars(module) and "forward" in vars(module) else None


def places_all_inside(module: nn.Module) -> bool:
    """Tell whether accelerate offloads all tensors inside of a module by one hook.

    >>> places_all_inside(nn.Linear(2, 3))
    False
    """
    return any(_offloads(hook) and getattr(hook, "place_submodules", False) for hook in _hooks(module))


def _hooks(module: nn.Module) -> Iterator[Any]:
    """Give accelerate's hooks of a module."""
    waiting = [vars(module).get(HOOK)]
    while waiting:
        hook = waiting.pop()
        waiting += getattr(hook, "hooks", ())  # of a SequentialHook
        if hook is not None:
            yield hook


def _offloads(hook: Any) -> bool:
    """Whether a hook brings tensors when the module runs."""
    return bool(getattr(hook, "offload", False))
