"""What goes into a model: calling it with a batch, describing the batch, and what a failed call says."""

from __future__ import annotations

import random
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from initframe.errors import InitframeError, Problem
from initframe.model.elsewhere import HOOK
from initframe.model.memory import is_distributed, is_transformed
from initframe.model.parts import Parts
from initframe.signal.shapes import Shadow
from initframe.signal.wrapped import placeless


def call(model: nn.Module, batch: Any) -> Any:
    """Call a model with a batch.

    Args:
        model: any module.
        batch: a tensor, or a tuple or list of positional arguments, or a mapping of keyword arguments.

    Returns:
        Whatever the model returns.

    >>> call(nn.Identity(), (torch.ones(2),)).tolist()
    [1.0, 1.0]
    """
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple | list) else model(batch)


def tensors(value: Any) -> Iterator[Tensor]:
    """Give the tensors inside tuples, lists, mappings and output objects, in order.

    >>> [t.shape[0] for t in tensors({"a": torch.ones(2), "b": [torch.ones(3), None]})]
    [2, 3]
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from (tensor for item in value.values() for tensor in tensors(item))
    elif isinstance(value, tuple | list):
        yield from (tensor for item in value for tensor in tensors(item))


def main_output(value: Any) -> Tensor | None:
    """The first floating-point tensor of a module's output, if it has one.

    >>> main_output({"ids": torch.tensor([1]), "logits": torch.ones(2)}).tolist()
    [1.0, 1.0]
    """
    if type(value) is Shadow:
        return value if value.form.dtype.is_floating_point else None
    if isinstance(value, Tensor):  # what most calls return
        return _unwrapped(value) if value.is_floating_point() and not value.is_quantized else None
    return next((_unwrapped(t) for t in tensors(value) if t.is_floating_point() and not t.is_quantized), None)


def _unwrapped(tensor: Tensor) -> Tensor:
    """Give the tensor inside the wrappers of torch.func's transforms; what vmap maps over is its first dimension."""
    while is_transformed(tensor):
        mapped = torch._C._functorch.maybe_get_bdim(tensor)  # noqa: SLF001  # -1 if it is not vmap's
        tensor = torch._C._functorch.get_unwrapped(tensor)  # noqa: SLF001
        if mapped > 0:
            tensor = tensor.movedim(mapped, 0)
    return tensor


def size(batch: Any) -> int | None:
    """The number of inputs in a batch: the first dimension of its first tensor that has one."""
    return next((t.shape[0] for t in tensors(batch) if t.ndim), None)


def describe(batch: Any) -> str:
    """A batch in words.

    >>> describe({"x": torch.ones(2, 3)})
    'x: 2×3 float32'
    """
    named = batch.items() if isinstance(batch, Mapping) else [("", item) for item in tensors(batch)]
    shown = []
    for name, item in named:
        for tensor in tensors(item):
            shape = "×".join(map(str, tensor.shape)) or "scalar"
            prefix = f"{name}: " if name else ""
            shown.append(f"{prefix}{shape} {str(tensor.dtype).removeprefix('torch.')}")
    return ", ".join(shown)


def no_module(model: Any) -> Problem:
    """What is said of something that has no forward pass."""
    return Problem("model", f"it is {type(model).__name__}, which has no forward pass.", "", "Give an nn.Module.")


def refusal(parts: Parts, batch: Any) -> list[Problem]:
    """What speaks against running a model at all, before it is run."""
    problems = []
    for name, module in parts.modules.items():
        if isinstance(module, torch.jit.ScriptModule):
            fact = "it is scripted, so the calls inside it cannot be followed."
            problems.append(Problem(f"module {name!r}", fact, "", "Give the Python module that was scripted."))
            break
    quantized = [name for name, module in parts.modules.items() if ".ao.nn.quantized" in type(module).__module__]
    if quantized:
        fact = "it is quantized, so what passes through it is no floating-point signal."
        problems.append(Problem(f"module {quantized[0]!r}", fact, "", "Give the model from before it was quantized."))
    lazy = [name for name, tensor in [*parts.parameters.items(), *parts.buffers.items()] if is_lazy(tensor)]
    if lazy:
        fact = "it has no shape before the first forward pass, which would change the model."
        problems.append(Problem(f"tensor {lazy[0]!r}", fact, "", "Run the model once, then initialize it."))
    if not any(True for _ in tensors(batch)):
        fact = f"it holds no tensor: {type(batch).__name__}."
        fix = "Give a tensor, a tuple of positional arguments, or a mapping of keyword arguments."
        problems.append(Problem("batch", fact, "", fix))
    elif any(not t.is_meta and t.is_floating_point() and bool(t.isnan().any()) for t in tensors(batch)):
        problems.append(Problem("batch", "it holds NaN.", "", "Give numbers: every output would be NaN."))
    elif size(batch) == 0:
        problems.append(Problem("batch", "it has no inputs.", "", "Give at least one; two for a correlation."))
    return problems


def place(where: str) -> str:
    """Say where in a model something happened.

    >>> place("layers.0"), place("")
    ("module 'layers.0'", 'the model')
    """
    return f"module {where!r}" if where else "the model"


def unmeasurable(parts: Parts) -> list[Problem]:
    """What speaks against measuring a model: parameters without values, or activations that processes divide.

    Under fully_shard alone, every process has whole activations of its own inputs.
    """
    if problems := placeless(parts, predicted=False):
        return problems
    hollow = next((name for name, tensor in parts.parameters.items() if tensor.is_meta and not is_lazy(tensor)), None)
    if hollow is not None and not any(hasattr(module, HOOK) for module in parts.modules.values()):
        fix = "Fill the model by initframe.materialize, or use initframe.predict, which needs no values."
        return [Problem(f"tensor {hollow!r}", "it is on the meta device and has no values.", "", fix)]
    sharded = [(name, tensor) for name, tensor in parts.parameters.items() if is_distributed(tensor)]
    is_gathered = any(base.__name__ == "FSDPModule" for m in parts.modules.values() for base in type(m).__mro__)
    for name, tensor in sharded:
        placements: Any = tensor.placements  # type: ignore[attr-defined]
        data_only = len(placements) == 1 or (len(placements) == 2 and placements[0].is_replicate())  # FSDP, HSDP
        if not (is_gathered and data_only):
            fact = "it is divided among processes, and so are the outputs of its layer (tensor parallelism)."
            return [Problem(f"tensor {name!r}", fact, "", "Measure the model before it is parallelized, or predict.")]
    return []


def failed(error: Exception, where: str, batch: Any, what: str) -> InitframeError:
    """The error of a call that failed: in which module, with which batch, and what to do.

    Args:
        error: what the model raised.
        where: the module that was running.
        batch: what went in.
        what: the call, ``"propagate"`` say.
    """
    if isinstance(error, InitframeError):
        return error
    fact = f"{place(where)} raised {type(error).__name__}: {str(error).strip()[:400]}"
    fix = f"The batch was {describe(batch)}. Give what the model's forward takes, in its shapes, on its device."
    if isinstance(error, torch.OutOfMemoryError) or "memory" in str(error).lower():
        fix = "Use a smaller batch, or initframe.predict, which needs no memory for activations."
    return InitframeError(Problem(what, fact, "", fix))


def not_reached(parts: Parts, called: Collection[str], used: Collection[str]) -> tuple[str, ...]:
    """What a pass left out, as a sentence: modules with weights that were not called and whose weights nobody used.

    Args:
        parts: of what ran.
        called: names of the modules that have a row.
        used: names of the weights that a row has.
    """
    left = [
        name
        for name, module in parts.modules.items()
        if name not in called
        and type(module).forward is not nn.Module.forward  # a ParameterList, say, cannot be called
        and any(one.ndim > 1 for one in module.parameters(recurse=False))
        and not any(parts.planned(f"{name}.{own}") in used for own, _ in module.named_parameters(recurse=False))
    ]
    if not left:
        return ()
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    return (f"Never called: {', '.join(left[:3])}{more}. If the batch should reach them, give the inputs they need.",)


@contextmanager
def as_before(parts: Parts) -> Iterator[dict[str, Tensor]]:
    """Give clones of a model's buffers to run with, and put the rest back, as :func:`modes_as_before`.

    Args:
        parts: of the module that will run.

    Yields:
        Buffers for ``torch.func.functional_call``: what a forward pass updates are the clones.
    """
    with modes_as_before(parts):
        clones = {id(buffer): buffer.detach().clone() for buffer in parts.buffers.values()}
        yield {name: clones[id(buffer)] for name, buffer in parts.buffers.items()}


@contextmanager
def modes_as_before(parts: Parts) -> Iterator[None]:
    """Put back RNG states, a model's modes, and what its modules hold as attributes, whatever happens.

    Args:
        parts: of the module that will run.
    """
    modes = [(module, module.training) for module in parts.modules.values()]
    held = [_Held(vars(module)) for module, _ in modes]
    python = random.getstate()
    devices = sorted({t.device.index or 0 for t in parts.parameters.values() if t.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        for module, training in modes:
            if module.training is not training:
                module.training = training
        for one in held:
            one.put_back()


class _Held:
    """What a module holds besides its tensors and modules: weights that hooks compute in each pass, caches, counters.

    Args:
        attributes: all that the module has.
    """

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.attributes = attributes
        self.own = {name: value for name, value in attributes.items() if name not in EVERY}
        self.contents = [(one, one.copy()) for one in self.own.values() if type(one) in CONTAINERS]

    def put_back(self) -> None:
        """Put back the attributes, and what was in dictionaries, lists and sets."""
        for name in self.attributes.keys() - self.own.keys() - EVERY:
            del self.attributes[name]
        self.attributes.update(self.own)
        for container, content in self.contents:
            container.clear()
            (container.extend if isinstance(container, list) else container.update)(content)


CONTAINERS = (dict, list, set, OrderedDict, defaultdict)
"""What can be emptied and filled again; classes of their own may refuse it."""

EVERY = frozenset(vars(nn.Module()))
"""The attributes that every module has; none of them is a tensor."""
