"""Copies of a model's weights: inside of it, which may go stale, and outside, which are refreshed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from initframe.applying.locate import Write
from initframe.errors import Problem
from initframe.model.memory import is_shapeless, local
from initframe.model.names import unwrap, without_wrappers
from initframe.model.survey import survey

_AVERAGING = ("AveragedModel", "ModelEma", "ModelEmaV2", "ModelEmaV3", "EMA", "EMAModel", "ExponentialMovingAverage")
"""Class names of averaged copies: torch's, timm's, and what others call theirs."""
_INSIDE = ("ema", "module", "ema_model", "shadow", "shadow_params")
"""Under which attributes averages that are no modules keep their tensors."""
FIRST = 16
"""How many of a tensor's values are compared before all are."""


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
    return [*_averages_inside(bare), *_equals(bare)]


def may_have_copies(model: object) -> bool:
    """Whether a model's structure leaves room for copies inside of it, whatever its values are.

    >>> may_have_copies(nn.ModuleDict({"online": nn.Linear(2, 2), "head": nn.Linear(2, 1)}))
    False
    >>> may_have_copies(nn.ModuleDict({"online": nn.Linear(2, 2), "target": nn.Linear(2, 2)}))
    True
    """
    waiting = [(model, False)] if isinstance(model, nn.Module) else []
    met: set[tuple[int, bool]] = set()
    while waiting:
        module, in_stack = waiting.pop()
        if (id(module), in_stack) in met:
            continue
        met.add((id(module), in_stack))
        if type(module).__name__ in _AVERAGING or (not in_stack and any(_twins(module))):
            return True
        for name, child in module._modules.items():  # noqa: SLF001
            if child is not None and child._modules:  # noqa: SLF001
                waiting.append((child, in_stack or name.isdigit()))
    return False


def _twins(parent: nn.Module) -> Iterator[dict[str, nn.Module]]:
    """Yield children that may be copies of each other: of one class, with parameters of the same names and shapes.

    Names that differ in their last number alone are layers of a stack, which may start equal.
    """
    children = dict(_named(parent))
    if len(children) < 2:
        return
    children = {name: child for name, child in children.items() if type(child).__name__ not in _AVERAGING}
    for same_class in _several(children, type):
        for same_form in _several(same_class, _form):
            stems = set(map(_stem, same_form))
            if len(stems) > 1 and any(len(shape) > 1 for _, shape in _form(next(iter(same_form.values())))):
                yield same_form


def _stem(name: str) -> str:
    return name.rstrip("0123456789")


def _named(parent: nn.Module) -> list[tuple[str, nn.Module]]:
    children = parent._modules.items()  # noqa: SLF001
    return [(name, child) for name, child in children if child is not None and not name.isdigit()]


def _several(modules: Mapping[str, nn.Module], fact: Callable[[nn.Module], Hashable]) -> list[dict[str, nn.Module]]:
    """Group modules by a fact; leave out those that have it alone."""
    if len(modules) < 2:
        return []
    groups: dict[Hashable, dict[str, nn.Module]] = {}
    for name, module in modules.items():
        groups.setdefault(fact(module), {})[name] = module
    return [group for group in groups.values() if len(group) > 1]


def _form(module: nn.Module) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(
        (name, () if is_shapeless(tensor) else tuple(tensor.shape)) for name, tensor in module.named_parameters()
    )


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


def _equals(model: nn.Module) -> Iterator[Twin]:
    """Find children of one parent that are of one class and equal in all values."""
    families = list(_families(model, ""))
    first = _first_values(tensor for family in families for module in family.values() for tensor in module.parameters())
    found: list[str] = []
    for family in families:
        known: dict[Hashable, list[tuple[str, nn.Module]]] = {}  # by first values: all pairs would be too many
        dtypes: dict[torch.dtype, None] = {}
        for name, child in family.items():
            telling = next((tensor for tensor in child.parameters() if _is_random(first.get(id(tensor)))), None)
            if telling is None or name.startswith(tuple(found)):
                continue
            keys = {dtype: (dtype, *first[id(telling)].to(dtype).tolist()) for dtype in (*dtypes, telling.dtype)}
            alike = (pair for dtype in dtypes for pair in known.get(keys[dtype], ()))
            others = (other for stem, other in alike if stem != _stem(name) and other is not child)
            source = next((other for other in others if _is_copy(child, other, first)), None)
            if source is not None:
                found.append(f"{name}.")
                yield Twin(name, _pairs(child, source))
                continue
            dtypes[telling.dtype] = None
            known.setdefault(keys[telling.dtype], []).append((_stem(name), child))


def _families(parent: nn.Module, prefix: str) -> Iterator[dict[str, nn.Module]]:
    """Yield twins among the children of a module, then of its children, by their full names; not inside of stacks."""
    yield from ({prefix + name: child for name, child in twins.items()} for twins in _twins(parent))
    for name, child in _named(parent):
        if type(child).__name__ not in _AVERAGING:
            yield from _families(child, f"{prefix}{name}.")


def _first_values(tensors: Iterable[Tensor]) -> dict[int, Tensor]:
    """Read the first values of tensors, by their ``id``; once for each device, because a GPU has to be waited for."""
    groups: dict[tuple[torch.device, torch.dtype], dict[int, Tensor]] = {}
    for tensor in tensors:
        if not is_shapeless(tensor) and not tensor.is_meta and tensor.ndim > 1 and tensor.layout == torch.strided:
            some = local(tensor).detach().flatten()[:FIRST]
            wide = some.dtype if some.is_complex() or some.dtype == torch.float64 else torch.float32
            groups.setdefault((some.device, wide), {})[id(tensor)] = some.to(wide)
    read: dict[int, Tensor] = {}
    for group in groups.values():
        values = torch.cat(list(group.values())).cpu()
        read.update(zip(group, torch.split(values, [len(some) for some in group.values()]), strict=True))
    return read


def _is_copy(module: nn.Module, source: nn.Module, first: Mapping[int, Tensor]) -> bool:
    pairs = _pairs(module, source)
    telling = [pair for pair in pairs if _is_random(first.get(id(pair[1])))]
    own, theirs = (sum(1 for _ in one.parameters()) for one in (module, source))
    return bool(telling) and len(pairs) == own == theirs and all(_is_equal(*pair) for pair in [*telling, *pairs])


def _is_random(values: Tensor | None) -> bool:
    """Whether equal values say something: zeros and ones are equal by themselves."""
    return values is not None and len(values) > 1 and bool((values != values[0]).any())


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
    few = (one.flatten()[:FIRST].to(other), other.flatten()[:FIRST]) if one.layout == torch.strided else (one, other)
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
