"""Give tensors on the meta device memory, and take it away if it was not filled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from initframe.errors import InitframeError, Problem, ResolveError
from initframe.model.memory import elements, footprint, is_distributed
from initframe.model.scripted import is_scripted

Device = torch.device | str | None


class Allocated(NamedTuple):
    """What was given memory so far.

    Attributes:
        memory: by the footprint on the meta device.
        parameters: those replaced, and what took their place, by the former's ``id``.
    """

    memory: dict[Any, Tensor]
    parameters: dict[int, tuple[nn.Parameter, Any]]


def allocate(
    model: nn.Module,
    device: Device = None,
    *,
    recurse: bool = True,
    so_far: Allocated | None = None,
    left: frozenset[Any] = frozenset(),
) -> None:
    """Give every tensor on the meta device memory, not yet values; one object stays one, and so does shared memory.

    Args:
        model: changed in place.
        device: as for :func:`initframe.materialize`.
        recurse: whether to go into the children.
        so_far: what was allocated before, where calls belong together.
        left: footprints of what stays without memory.
    """
    modules = model.modules() if recurse else [model]
    owners = [
        (module, name, parameter, vars(parameter).copy())
        for module in modules
        if not is_scripted(module)
        for name, parameter in module._parameters.items()  # noqa: SLF001
        if parameter is not None
    ]
    memory, replaced = so_far or Allocated({}, {})

    def with_memory(tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            return tensor if device is None or is_distributed(tensor) else tensor.to(device)
        where = footprint(tensor)
        if where in left:
            return tensor
        where = elements(tensor)
        if where not in memory:
            memory[where] = torch.empty_like(tensor, device=device or _home(tensor))
        if is_distributed(tensor) or tensor.stride() == memory[where].stride():
            return memory[where]
        return memory[where].as_strided(tensor.shape, tensor.stride())  # a view of the same elements

    apply_to: Any = model._apply  # noqa: SLF001 - what to_empty calls, but for tensors that are real
    apply_to(with_memory, recurse=recurse)
    for module, name, old, attributes in owners:
        _, new = replaced.setdefault(id(old), (old, _of_class(type(old), module._parameters[name])))  # noqa: SLF001
        module._parameters[name] = new  # noqa: SLF001
        new.__dict__.update(attributes)


def _home(tensor: Any) -> torch.device | str:
    """The device of a tensor's memory if none was given."""
    return tensor.device_mesh.device_type if is_distributed(tensor) else torch.get_default_device()


def _of_class(kind: type, parameter: Any) -> Any:
    """The same memory as a parameter of its own class, which torch loses when it moves modules."""
    if type(parameter) is kind or nn.Parameter not in kind.__mro__:
        return parameter
    return Tensor._make_subclass(kind, parameter.detach(), parameter.requires_grad)  # noqa: SLF001


@contextmanager
def back_on_failure(model: nn.Module) -> Iterator[None]:
    """Take a model's new memory away if it was not filled: what is left in it would pass for values.

    Args:
        model: before it is given memory.
    """
    modules = [module for module in model.modules() if not is_scripted(module)]
    before = [(module, module._parameters.copy(), module._buffers.copy()) for module in modules]  # noqa: SLF001
    empty = {id(tensor) for tensor in model.parameters() if tensor.is_meta}
    try:
        yield
    except BaseException as error:
        if type(error) is not InitframeError:  # replicas that differ are filled, and there to be looked at
            for module, parameters, buffers in before:
                module._parameters.update(parameters)  # noqa: SLF001
                module._buffers.update(buffers)  # noqa: SLF001
            apply_to: Any = model._apply  # noqa: SLF001 - of a DTensor, torch has put the memory into the same object
            apply_to(lambda t: torch.empty_like(t, device="meta") if id(t) in empty and not t.is_meta else t)
        raise


def demand_device(device: Device) -> None:
    """Refuse a device that torch does not know, that is not here, or that has no memory.

    Args:
        device: as for :func:`initframe.materialize`.

    Raises:
        ResolveError: it cannot be used.
    """
    name = "torch's default device" if device is None else f"device {str(device)!r}"
    try:
        trial = torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        problem = Problem(name, f"torch cannot use it here: {error}", fix="Name one that it can, such as cpu.")
        raise ResolveError(problem) from error
    if trial.is_meta:
        fact = "on the meta device, nothing has values."
        raise ResolveError(Problem(name, fact, fix="Name one that has memory, such as cpu."))
