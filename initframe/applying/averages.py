"""Copies of a model's weights: inside of it, which may go stale, and outside, which are refreshed."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence, Set
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from initframe.applying.locate import Write
from initframe.errors import Problem
from initframe.model.memory import local
from initframe.model.names import unwrap, without_wrappers
from initframe.model.survey import survey

_AVERAGING = ("AveragedModel", "ModelEma", "ModelEmaV2", "ModelEmaV3", "EMA", "EMAModel", "ExponentialMovingAverage")
"""Class names of averaged copies: torch's, timm's, and what others call theirs."""
_INSIDE = ("ema", "module", "ema_model", "shadow", "shadow_params")
"""Under which attributes averages that are no modules keep their tensors."""


class Twin(NamedTuple):
    """A copy inside a model.

    Attributes:
        name: the copy's name in the bare model.
        pairs: its tensors, each with that of its source.
    """

    name: str
    pairs: tuple[tuple[Tensor, Tensor], ...]


def find_copies(model: object) -> list[Twin]:
    """Find the copies inside a model: averages by their class, other modules by equal values under one parent.

    Args:
        model: as it was given, before it is written; anything but a module has none.

    >>> import copy
    >>> model = nn.ModuleDict({"online": nn.Linear(2, 3)})
    >>> model["target"] = copy.deepcopy(model["online"])
    >>> [twin.name for twin in find_copies(model)]
    ['target']
    """
    if not isinstance(model, nn.Module) or not may_have_copies(model):
        return []
    bare = unwrap(model)
    return [*_averages_inside(bare), *_equals(bare, "")]


def may_have_copies(model: object) -> bool:
    """Whether a model's structure leaves room for copies inside of it, whatever its values are.

    >>> may_have_copies(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    False
    >>> may_have_copies(nn.ModuleDict({"online": nn.Linear(2, 2), "target": nn.Linear(2, 2)}))
    True
    """
    waiting: list[object] = [model]
    met: set[int] = set()
    while waiting:
        module = waiting.pop()
        if isinstance(module, nn.Module) and module._modules and id(module) not in met:  # noqa: SLF001
            met.add(id(module))
            if _has_twins(module):
                return True
            waiting += module._modules.values()  # noqa: SLF001
    return False


def _has_twins(module: nn.Module) -> bool:
    if type(module).__name__ in _AVERAGING:
        return True
    children = [type(child) for name, child in module._modules.items() if child is not None and not name.isdigit()]  # noqa: SLF001
    return len(children) > 1 and len(set(children)) < len(children)


def stale_copies(copies: Sequence[Twin], written: Set[int]) -> tuple[str, ...]:
    """Name the copies whose source was written, and whose values are not the source's.

    Args:
        copies: from :func:`find_copies`, before the write.
        written: the parameter objects that were written, by ``id``.
    """
    stale = (
        twin.name
        for twin in copies
        if any(id(source) in written and not _is_equal(mine, source) for mine, source in twin.pairs)
    )
    return tuple(dict.fromkeys(stale))  # a copy may have several sources


def _averages_inside(model: nn.Module) -> Iterator[Twin]:
    copies = {name: module for name, module in model.named_modules() if name and type(module).__name__ in _AVERAGING}
    inside = {id(module) for copy in copies.values() for module in copy.modules()}
    others = [module for module in model.modules() if id(module) not in inside]
    for name, copy in copies.items():
        inner = unwrap(copy)
        nets = [inner] if inner is not copy else list(copy.children())
        yield from (Twin(name, _pairs(net, other)) for net in nets for other in others if type(other) is type(net))


def _equals(parent: nn.Module, prefix: str) -> Iterator[Twin]:
    """Find children of one class and equal values; numbered ones are layers of a stack, which may start equal."""
    known: dict[Hashable, list[nn.Module]] = {}  # by their first values, since thousands of children are too many pairs
    dtypes: dict[torch.dtype, None] = {}
    for name, child in parent._modules.items():  # noqa: SLF001
        if child is None or name.isdigit() or type(child).__name__ in _AVERAGING:
            continue
        telling = next((pair for pair in child.named_parameters() if _is_random(pair[1])), None)
        alike = (other for dtype in dtypes if telling for other in known.get(_key(child, *telling, dtype), ()))
        source = next((other for other in alike if other is not child and _is_copy(child, other)), None)
        if source is not None:
            yield Twin(prefix + name, _pairs(child, source))
            continue
        if telling is not None:
            dtypes[telling[1].dtype] = None
            known.setdefault(_key(child, *telling, telling[1].dtype), []).append(child)
        yield from _equals(child, f"{prefix}{name}.")


def _key(module: nn.Module, name: str, tensor: Tensor, dtype: torch.dtype) -> Hashable:
    """What a module has in common with its copy of a dtype."""
    return type(module), name, dtype, tuple(local(tensor).detach().flatten()[:16].to(dtype).tolist())


def _is_copy(module: nn.Module, source: nn.Module) -> bool:
    pairs = _pairs(module, source)
    telling = [pair for pair in pairs if _is_random(pair[1])]
    own, theirs = (sum(1 for _ in one.parameters()) for one in (module, source))
    return bool(telling) and len(pairs) == own == theirs and all(_is_equal(*pair) for pair in [*telling, *pairs])


def _is_random(tensor: Tensor) -> bool:
    """Whether equal values say something: zeros and ones are equal by themselves."""
    if tensor.is_meta or tensor.ndim < 2 or tensor.layout != torch.strided:
        return False
    some = local(tensor).detach().flatten()[:16]
    return some.numel() > 1 and bool((some != some[0]).any())


def _pairs(module: nn.Module, source: nn.Module) -> tuple[tuple[Tensor, Tensor], ...]:
    own, theirs = dict(module.named_parameters()), dict(source.named_parameters())
    both = ((own[name], theirs[name]) for name in own if name in theirs)
    return tuple((mine, other) for mine, other in both if mine is not other and mine.shape == other.shape)


def _is_equal(mine: Tensor, source: Tensor) -> bool:
    if mine.is_meta or source.is_meta or mine.is_quantized or source.is_quantized:
        return mine.is_meta and source.is_meta
    one, other = local(mine).detach(), local(source).detach()
    if one.shape != other.shape:
        return False
    few = (one.flatten()[:16].to(other), other.flatten()[:16]) if one.layout == torch.strided else (one, other)
    return torch.equal(*few) and torch.equal(one.to(other), other)


def find_outside(averages: object, writes: Sequence[Write]) -> tuple[list[tuple[Tensor, Tensor]], list[Problem]]:
    """Find the tensors of averages outside of a model that will follow what is written.

    Args:
        averages: a list of modules (wrapped or not), mappings of tensors, or objects that keep either under one of the
            usual names.
        writes: what will be written.

    Returns:
        Pairs of an average's tensor and the model's, and what is wrong.
    """
    if isinstance(averages, nn.Module | dict | str) or not isinstance(averages, list | tuple):
        fact = f"got {type(averages).__name__}."
        return [], [Problem("averages", fact, "It is a list of modules or state_dicts.", "Write averages=[ema].")]
    pairs: list[tuple[Tensor, Tensor]] = []
    problems: list[Problem] = []
    for i, average in enumerate(averages):
        found, wrong = _outside(average, writes, f"averages[{i}]")
        pairs += found
        problems += wrong
    return pairs, problems


def _outside(average: Any, writes: Sequence[Write], label: str) -> tuple[list[tuple[Tensor, Tensor]], list[Problem]]:
    kept = average
    while not isinstance(kept, nn.Module | dict | list):
        inner = next((getattr(kept, name) for name in _INSIDE if getattr(kept, name, None) is not None), None)
        if inner is None:
            fact = f"{type(average).__name__} is no module, and has no tensors under a name that is known."
            return [], [
                Problem(label, fact, f"Known: {', '.join(_INSIDE)}.", "Give its module or its tensors by name.")
            ]
        kept = inner
    written = [write for write in writes if not write.kept]
    if isinstance(kept, list):
        return _in_order(kept, written, label)
    if isinstance(kept, dict) and all(isinstance(name, str) for name in kept):
        bare = without_wrappers(kept, {name for write in written for name in (write.slot.name, *write.slot.aliases)})
        kept = {bare[name]: value for name, value in kept.items()}
    seen = survey(kept)
    pairs: list[tuple[Tensor, Tensor]] = []
    problems: list[Problem] = []
    for write in written:
        slot = next((seen.by_name[n] for n in (write.slot.name, *write.slot.aliases) if n in seen.by_name), None)
        if slot is None:
            continue
        if slot.shape != write.slot.shape:
            fact = f"its {slot.name} is {list(slot.shape)}, the model's {list(write.slot.shape)}."
            problems.append(Problem(label, fact, fix="Make the average anew."))
        else:
            pairs += zip(seen.places[slot.name].held, write.place.held, strict=False)
    if written and not pairs and not problems:
        fact = f"it has none of the tensors that are written, not even {written[0].slot.name}."
        problems.append(Problem(label, fact, fix="Pass the average of this model."))
    return pairs, problems


def _in_order(
    kept: Sequence[Tensor], written: Sequence[Write], label: str
) -> tuple[list[tuple[Tensor, Tensor]], list[Problem]]:
    """Pair tensors without names, which follow the trained parameters: all of them must be written."""
    trained = [write.place.held[0] for write in written if write.slot.requires_grad and write.slot.kind == "parameter"]
    if [tuple(tensor.shape) for tensor in kept] != [tuple(tensor.shape) for tensor in trained]:
        fact = "its tensors have no names, and are not those that are written, one by one."
        return [], [Problem(label, fact, fix="Write all of the model, or make the average anew.")]
    return list(zip(kept, trained, strict=True)), []
