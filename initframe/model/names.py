"""Names of modules as the bare model has them, without those of wrappers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Set
from functools import lru_cache

from torch import nn

from initframe.errors import Problem, ResolveError

# Recognized by name, so that nothing is imported for models that are not wrapped: class → the child it wraps.
_WRAPPERS = {
    ("torch.nn.parallel.distributed", "DistributedDataParallel"): "module",
    ("torch.nn.parallel.data_parallel", "DataParallel"): "module",
    ("torch._dynamo.eval_frame", "OptimizedModule"): "_orig_mod",
    (
        "torch.distributed.fsdp.fully_sharded_data_parallel",
        "FullyShardedDataParallel",
    ): "_fsdp_wrapped_module",
    (
        "torch.distributed.algorithms._checkpoint.checkpoint_wrapper",
        "ActivationWrapper",
    ): "_checkpoint_wrapped_module",
    ("torch.optim.swa_utils", "AveragedModel"): "module",
    ("timm.utils.model_ema", "ModelEmaV2"): "module",
    ("timm.utils.model_ema", "ModelEmaV3"): "module",
    ("lightning.fabric.wrappers", "_FabricModule"): "_original_module",
    ("lightning_fabric.wrappers", "_FabricModule"): "_original_module",
    ("deepspeed.runtime.engine", "DeepSpeedEngine"): "module",
    ("peft.peft_model", "PeftModel"): "base_model",
    ("peft.mixed_model", "PeftMixedModel"): "base_model",
    ("peft.tuners.tuners_utils", "BaseTuner"): "model",
    ("peft.tuners.tuners_utils", "BaseTunerLayer"): "base_layer",
    ("peft.utils.other", "AuxiliaryTrainingWrapper"): "original_module",
}
_COUNTING = ("AveragedModel", "ModelEmaV2", "ModelEmaV3")
"""The classes of wrappers whose own tensors are bookkeeping."""


def unwrap(module: nn.Module) -> nn.Module:
    """Take every known wrapper off a module.

    A wrapper is known by its class, never by the name of its child: a submodule that is honestly called
    ``module`` stays.

    Args:
        module: a module, wrapped any number of times, or not at all.

    Returns:
        The innermost module that is no wrapper.

    >>> unwrap(nn.DataParallel(nn.Linear(2, 3)))
    Linear(in_features=2, out_features=3, bias=True)
    """
    cls: type = type(module)
    if _wrapped_child(cls) is None:  # as most
        return module
    *_, innermost = _layers(module)
    return innermost


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """Give a module, then what it wraps if it is a wrapper, and so on."""
    yield module
    cls: type = type(module)
    while (child := _wrapped_child(cls)) is not None:
        module = _copy_in_use(module) or module.get_submodule(child)
        yield module
        cls = type(module)


def _copy_in_use(wrapper: nn.Module) -> nn.Module | None:
    """Give the copy that PEFT trains and runs in the place of a module (``modules_to_save``), if there is one."""
    copies, active = wrapper._modules.get("modules_to_save"), getattr(wrapper, "active_adapter", None)  # noqa: SLF001
    if not isinstance(copies, nn.ModuleDict) or getattr(wrapper, "disable_adapters", False):
        return None
    name = active[-1] if isinstance(active, list) and active else active
    return copies[name] if isinstance(name, str) and name in copies else None


def _is_adapter(wrapper: nn.Module) -> bool:
    """Whether a wrapper has modules of its own that belong to the model: PEFT's, next to what they adapt."""
    return any(base.__module__.startswith("peft.") for base in type(wrapper).__mro__)


@lru_cache(maxsize=512)
def _wrapped_child(cls: type) -> str | None:
    """Name the child that a class wraps; ``None`` if it is not a wrapper."""
    for base in cls.__mro__:
        child = _WRAPPERS.get((base.__module__, base.__qualname__))
        if child is not None:
            return child
    return None


def walk(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Visit a model's modules in state_dict order, wrappers taken off.

    Args:
        model: where to begin.

    Yields:
        Each module with what its tensors' names begin with, dot included; a shared module once under each name. What
        PEFT adds to a module follows that module. A wrapper comes before what it wraps if it holds tensors of its own
        (a parameter of a subclass, FSDP's flat one) that are not its bookkeeping (``AveragedModel.n_averaged``).

    Raises:
        ResolveError: a module contains itself.

    >>> [prefix for prefix, _ in walk(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))]
    ['', '0.', '1.']
    """
    none: frozenset[int] = frozenset()
    waiting: list[tuple[str, nn.Module | None, frozenset[int], frozenset[int]]] = [("", model, none, none)]
    while waiting:
        prefix, module, above, visited = waiting.pop()
        if module is None or id(module) in visited:
            continue
        cls: type = type(module)
        if _wrapped_child(cls) is not None:
            *wrappers, module = layers = list(_layers(module))
            yield from ((prefix, wrapper) for wrapper in wrappers if _holds_tensors(wrapper))
            inside = visited.union(map(id, layers))
            for wrapper in filter(_is_adapter, wrappers):
                added = wrapper._modules.items()  # noqa: SLF001
                waiting += [(f"{prefix}{name}.", child, above, inside) for name, child in reversed(added)]
        if id(module) in above:
            fact = "it contains itself, so its tensors have no names."
            raise ResolveError(Problem(f"module {prefix[:-1]!r}", fact, fix="Break the cycle."))
        yield prefix, module
        children = module._modules  # noqa: SLF001 - named_children() hides shared children
        if children:
            above |= {id(module)}
            waiting += [(f"{prefix}{name}.", child, above, visited) for name, child in reversed(children.items())]


def bare_names(model: nn.Module, modules: Iterable[nn.Module] | None = None) -> dict[str, str]:
    """Give the names of a model's tensors as :func:`walk` has them, by their names in the model as it is wrapped.

    Args:
        model: wrapped in any way, or not at all.
        modules: all of its modules, if they were walked already.

    Returns:
        Those that differ.

    >>> bare_names(nn.Sequential(nn.DataParallel(nn.Linear(2, 3))))
    {'0.module.weight': '0.weight', '0.module.bias': '0.bias'}
    """
    classes: set[type] = set(map(type, model.modules() if modules is None else modules))
    if not any(map(_wrapped_child, classes)):
        return {}
    prefixes: dict[int, list[str]] = {}
    for prefix, module in walk(model):
        prefixes.setdefault(id(module), []).append(prefix)
    names: dict[str, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        waiting = prefixes.get(id(module), [])
        if not waiting:  # a wrapper, whose own tensors are bookkeeping
            continue
        prefix = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        for own in (*module._parameters, *module._buffers):  # noqa: SLF001
            names[f"{name}.{own}" if name else own] = prefix + own
    return {wrapped: bare for wrapped, bare in names.items() if wrapped != bare}


def without_wrappers(names: Iterable[str], known: Set[str]) -> dict[str, str]:
    """Find what the tensors of a state_dict are called in a bare model, by what wrappers put into their names.

    Args:
        names: the state_dict's keys.
        known: the bare model's names.

    Returns:
        Each key's bare name; the key itself if no wrapper explains it.

    >>> without_wrappers(["module.0.weight", "module.1._orig_mod.weight"], {"0.weight", "1.weight"})
    {'module.0.weight': '0.weight', 'module.1._orig_mod.weight': '1.weight'}
    """
    found = {name: name for name in names}
    while known.isdisjoint(found.values()):
        prefix = next((one for one in _BEFORE if all(name.startswith(one) for name in found.values())), None)
        if prefix is None or not found:
            break
        found = {name: short.removeprefix(prefix) for name, short in found.items()}
    taken = set(found.values())
    shorter = {name: _WITHIN.sub("", short) for name, short in found.items() if short not in known}
    return found | {name: short for name, short in shorter.items() if short in known and short not in taken}


_BEFORE = ("module.", "_orig_mod.")
"""What wrappers put before every name."""
_WITHIN = re.compile(
    r"^base_model\.model\.|(?<![^.])(_orig_mod|_checkpoint_wrapped_module|base_layer|modules_to_save\.[^.]+)\."
)
"""What PEFT, torch.compile and checkpointing put into names."""


def _holds_tensors(wrapper: nn.Module) -> bool:
    """Whether a wrapper holds tensors of the model itself."""
    own = any(tensor is not None for tensor in (*wrapper._parameters.values(), *wrapper._buffers.values()))  # noqa: SLF001
    return own and not any(base.__name__ in _COUNTING for base in type(wrapper).__mro__)
