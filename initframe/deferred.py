"""Models built without their parameters' memory, which is allocated and filled once, where it will be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakIdKeyDictionary

from initframe.apply import apply
from initframe.errors import ResolveError
from initframe.model.memory import footprint, is_distributed
from initframe.model.names import walk
from initframe.plan import Plan
from initframe.recipe.recipe import Recipe
from initframe.report import Report
from initframe.resolver import resolve
from initframe.targets import uncovered

Written = Recipe | Mapping[str, Any] | str | PathLike[str]
Device = torch.device | str | None
Replaced = dict[int, tuple[nn.Parameter, Any]]
"""Parameters and what took their place, by the former's ``id``."""


@contextmanager
def deferred() -> Iterator[None]:
    """Build models whose parameters take no memory; buffers are real, so that the tables in them are right.

    A parameter goes to the meta device when it is registered, and what a constructor writes to it after that costs
    nothing: :func:`materialize` brings the values. The switch is the process's: build in one thread.

    >>> with deferred():
    ...     model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> model[0].weight.device.type, model[1].running_var.tolist()
    ('meta', [1.0, 1.0])
    """
    known: Any = WeakIdKeyDictionary()

    def without_memory(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:  # noqa: ARG001
        if parameter is None or parameter.is_meta or is_lazy(parameter) or nn.Parameter not in type(parameter).__mro__:
            return None
        if parameter not in known:  # who registers one object twice means a tie
            known[parameter] = _on_meta(parameter)
        twin: nn.Parameter = known[parameter]
        return twin

    hook = register_module_parameter_registration_hook(without_memory)  # type: ignore[arg-type]  # may return one
    try:
        yield
    finally:
        hook.remove()


def materialize(
    model: nn.Module, recipe: Written | Plan, seed: int | None = None, device: Device = None, **options: Any
) -> Report:
    """Give a deferred model its memory and fill it by a recipe, once; what was tied is tied again.

    Works before and after ``fully_shard`` and ``parallelize_module``: of a sharded model every process allocates and
    fills its own shards. Tensors that have memory are filled too, where a rule says so, and else kept.

    Args:
        model: built under :func:`deferred`, or on the meta device.
        recipe: whatever :func:`initframe.resolve` takes; or the plan of a whole model, of which this one is a stage.
        seed: 0 ≤ seed < 2⁶⁴; 0 where none is given.
        device: where all of the model goes. By default, new tensors go to torch's default device, shards to their
            mesh's, and what is real stays. Under fully_shard's CPU offload: ``"cpu"``.
        **options: as :func:`initframe.apply` takes them; ``measure`` measures after the write, as nothing was before.

    Returns:
        What happened.

    Raises:
        RecipeError: the recipe is wrong by itself.
        ResolveError: recipe and model do not fit together, or a tensor would be left without values. Nothing was
            allocated.

    >>> with deferred():
    ...     model = nn.Linear(2, 2)
    >>> report = materialize(model, {"rules": {"weight": "eye", "bias": "zeros"}})
    >>> model.weight.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    plan = recipe if isinstance(recipe, Plan) else resolve(recipe, model)
    if problems := uncovered(plan, model):
        raise ResolveError(*problems)
    if options.get("measure") and any(tensor.is_meta for tensor in model.parameters()):
        options["measure"] = "after"
    allocate(model, device)
    return apply(plan, seed, module=model, **options)


def resolve_deferred(recipe: Written, build: Callable[[], nn.Module], *, only_read: bool = False) -> Plan:
    """Lay a recipe over a model that is built without memory; or with it, where the constructor's numbers are needed.

    Args:
        recipe: whatever :func:`initframe.resolve` takes.
        build: builds the model, the same every time it is called.
        only_read: whether the plan is to be read and not applied, and needs nobody's numbers.

    Returns:
        The plan, to be given to :func:`materialize` with its own model.

    Raises:
        RecipeError: the recipe is wrong by itself.
        ResolveError: recipe and model do not fit together.

    >>> plan = resolve_deferred({"rules": {"weight": "zeros"}}, lambda: nn.Linear(2, 2))  # the bias keeps its numbers
    >>> plan.model.bias.device.type
    'cpu'
    """
    try:
        with deferred():
            model = build()
    except Exception:  # noqa: BLE001  # a constructor may read what is not there; the real one says what is wrong, if any
        return resolve(recipe, build())
    plan = resolve(recipe, model)
    return resolve(recipe, build()) if not only_read and uncovered(plan, model) else plan


def param_init_fn(plan: Plan, seed: int = 0, device: Device = None) -> Callable[[nn.Module], None]:
    """Make the function that FullyShardedDataParallel and others call on every module without memory.

    Args:
        plan: of the whole deferred model, resolved before it is wrapped.
        seed: 0 ≤ seed < 2⁶⁴.
        device: where the parameters go; by default torch's default device.

    Returns:
        A function that materializes a module's own parameters, those of its children excepted.

    Raises:
        ResolveError: the plan leaves a tensor without values.

    >>> with deferred():
    ...     model = nn.Sequential(nn.Linear(2, 2))
    >>> init = param_init_fn(resolve({"rules": {"*.weight": "eye", "*.bias": "zeros"}}, model))
    >>> init(model[0])
    >>> model[0].weight.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if not isinstance(plan.model, nn.Module):
        raise ResolveError("param_init_fn needs the plan of a module. Resolve the model, not its state_dict.")
    if problems := uncovered(plan, plan.model):
        raise ResolveError(*problems)
    prefixes = {id(module): prefix for prefix, module in reversed(list(walk(plan.model)))}
    tied: Replaced = {}

    def init(module: nn.Module) -> None:
        new = [name for name, tensor in module.named_parameters(recurse=False) if tensor.is_meta]
        allocate(module, device, recurse=False, tied=tied)
        if new:
            apply(plan, seed, module={prefixes[id(module)] + name: getattr(module, name) for name in new})

    return init


def allocate(model: nn.Module, device: Device = None, *, recurse: bool = True, tied: Replaced | None = None) -> None:
    """Give every tensor on the meta device memory, not yet values; what is one object stays one.

    Args:
        model: changed in place.
        device: as for :func:`materialize`.
        recurse: whether to go into the children.
        tied: what was replaced so far, where calls belong together.
    """
    modules = model.modules() if recurse else [model]
    owners = [(m, name, p, vars(p).copy()) for m in modules for name, p in m._parameters.items() if p is not None]  # noqa: SLF001
    memory: dict[Any, Tensor] = {}

    def with_memory(tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            return tensor if device is None or is_distributed(tensor) else tensor.to(device)
        where = footprint(tensor)
        if where not in memory:
            memory[where] = torch.empty_like(tensor, device=device or _home(tensor))
        return memory[where]

    apply_to: Any = model._apply  # noqa: SLF001 - what to_empty calls, but for tensors that are real
    apply_to(with_memory, recurse=recurse)
    tied = {} if tied is None else tied
    for module, name, old, attributes in owners:
        _, new = tied.setdefault(id(old), (old, module._parameters[name]))  # noqa: SLF001
        module._parameters[name] = new  # noqa: SLF001
        new.__dict__.update(attributes)


def _home(tensor: Any) -> torch.device | str:
    """Where a tensor's memory belongs if nobody says."""
    return tensor.device_mesh.device_type if is_distributed(tensor) else torch.get_default_device()


def _on_meta(parameter: nn.Parameter) -> nn.Parameter:
    """A parameter's twin without memory."""
    empty = torch.empty_like(parameter.detach().as_subclass(Tensor), device="meta")
    twin: nn.Parameter = Tensor._make_subclass(type(parameter), empty, parameter.requires_grad)  # noqa: SLF001
    twin.__dict__.update(vars(parameter))
    return twin
