"""A model over all processes of torch.distributed: steps taken together, its parameters sharded, one file of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from initframe.errors import InitframeError, Problem
from initframe.files.safetensors import begin, held_by, pour
from initframe.model.memory import footprint
from initframe.model.obstacles import FILLABLE

Result = TypeVar("Result")


def together(step: Callable[[], Result]) -> Result:
    """Take a step in all processes, and go on only if it succeeded in all: others would wait for one that failed.

    Args:
        step: what to do in this process; it may raise anything.

    Returns:
        What the step returned here.

    Raises:
        InitframeError: the step failed in another process, with one problem for each; where it failed itself, rank 0
            raises its own error instead.
    """
    import torch.distributed as dist  # noqa: PLC0415  # as light as torch where it is not used

    done: Any = None
    failure: Exception | None = None
    try:
        done = step()
    except Exception as error:  # noqa: BLE001  # whatever it is, all processes learn of it
        failure = error
    facts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(facts, failure and f"{type(failure).__name__}: {failure}")
    if failure is not None and dist.get_rank() == 0:
        raise failure
    if any(facts):
        raise InitframeError(*(Problem(f"rank {rank}", fact) for rank, fact in enumerate(facts) if fact))
    result: Result = done
    return result


def shard(model: nn.Module, device: str) -> None:
    """Shard a model over all processes by ``fully_shard``; what that does not cut stays whole in each.

    Args:
        model: the same in every process; it may be on the meta device.
        device: the kind of device that the shards will be on, ``"cpu"`` or ``"cuda"``.

    Raises:
        InitframeError: ``fully_shard`` refuses the model.
    """
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

    mesh = init_device_mesh(device, (torch.distributed.get_world_size(),))
    _tie(model)
    uncut = {p for p in model.parameters() if not p.ndim or not p.is_contiguous() or p.dtype not in FILLABLE}
    root = nn.Sequential(model)  # it changes the class of its root, and refuses containers as one
    try:
        fully_shard(root, mesh=mesh, ignored_params=uncut)
    except Exception as error:
        raise InitframeError(Problem(type(model).__name__, f"fully_shard refuses it: {error}")) from error


def save_sharded(model: nn.Module, path: Path | None, metadata: Mapping[str, str] | None = None) -> None:
    """Save a sharded model's whole state_dict in one safetensors file; all processes call it.

    Tensors are put together one by one, so that no process holds the whole model.

    Args:
        model: with DTensors, plain tensors or both.
        path: the file, in the one process that writes; ``None`` in all others.
        metadata: texts for the header.

    Raises:
        InitframeError: a tensor cannot be saved.
        OSError: the file cannot be written; in the process that writes.
    """
    held = together(lambda: held_by(model))
    start = together(lambda: begin(path, held, metadata) if path else 0)
    pour(held, path, start)


def _tie(model: nn.Module) -> None:
    """Make one parameter of those that share their memory, which fully_shard would cut one by one."""
    known: dict[Any, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():  # noqa: SLF001
            if parameter is not None:
                module._parameters[name] = known.setdefault(footprint(parameter), parameter)  # noqa: SLF001
