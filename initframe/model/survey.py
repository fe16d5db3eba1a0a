"""Read a model as slots: model → survey."""

from __future__ import annotations

import gc
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from initframe.errors import ResolveError
from initframe.model.flat import flattened_shapes
from initframe.model.layers import class_names, read_config, read_layer, title
from initframe.model.memory import Footprint, footprint, overlaps
from initframe.model.names import unwrap, walk
from initframe.model.packed import is_packed, packed_state
from initframe.model.place import Place
from initframe.model.sites import Site, is_tensor_entry, mapping_sites, module_sites
from initframe.model.slot import Slot


@dataclass(frozen=True)
class Survey:
    """A model, read as slots.

    Attributes:
        title: class name of the bare model, for messages; ``"state_dict"`` for a mapping.
        slots: every tensor once, in state_dict order; a parametrized one under its logical name.
        places: where each slot's tensor lives at this moment, by canonical name.
        config: the numbers of ``model.config``, where there is one.
        extra: state_dict keys that hold no tensor.
        raw: the tensors from which a parametrization computes a slot's value (``part_of``), for rules that name one
            of them literally; their places are in ``places``.
        settings: the plain numbers among the model's own attributes.
        modules: class names of every module and its bases, most derived first, by what its tensors' names begin with.
        names: every name of every tensor, a tied one's under each of its owners, in state_dict order.
    """

    title: str
    slots: tuple[Slot, ...]
    places: Mapping[str, Place] = field(repr=False, compare=False)
    config: Mapping[str, float] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    raw: tuple[Slot, ...] = ()
    settings: Mapping[str, float] = field(default_factory=dict)
    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    names: tuple[str, ...] = field(default=(), repr=False)

    def around(self, name: str) -> Iterator[tuple[str, ...]]:
        """Give the class names of the modules that a tensor lies in, its owner first.

        >>> [types[0] for types in survey(nn.Sequential(nn.Linear(2, 3))).around("0.weight")]
        ['Linear', 'Sequential']
        """
        while name:
            name = name[: name.rstrip(".").rfind(".") + 1]
            yield self.modules.get(name, ())


def survey(model: nn.Module | Mapping[str, Tensor]) -> Survey:
    """Read a model, or a state_dict, as slots.

    Args:
        model: a module, wrapped or not, on any device (meta included), sharded or not; or a state_dict, of which
            names and shapes are all that is known.

    Returns:
        The survey; the model is left as it is.

    Raises:
        ResolveError: it is no model, or a module contains itself.

    >>> [(slot.name, slot.fan_in) for slot in survey(nn.Linear(5, 3)).slots]
    [('weight', 5), ('bias', 5)]
    """
    if fact := _no_model(model):
        raise ResolveError(fact)
    if not isinstance(model, nn.Module):
        extra = (name for name, value in model.items() if not is_tensor_entry(name, value))
        return _merge("state_dict", mapping_sites(model), {}, extra)
    bare = unwrap(model)
    with collector_paused():
        modules = list(walk(model))
        sites = module_sites(modules, flattened_shapes(model))
        seen = _merge(title(bare), sites, read_config(bare), _extra_keys(modules))
        names = {prefix: class_names(module) for prefix, module in modules}
        return replace(seen, settings=read_layer(bare).settings, modules=names)


def _no_model(model: object) -> str:
    """Why something is neither a model nor a state_dict; empty where it is one."""
    options = "A model is an nn.Module, or a state_dict (tensors by name)"
    if isinstance(model, nn.Module):
        return ""
    if isinstance(model, type) and issubclass(model, nn.Module):
        return f"got the class {model.__name__}. {options}. Build one: {model.__name__}(…)."
    if not isinstance(model, Mapping):
        return f"got {model!r:.60} for a model. {options}; a recipe stands before it."
    if strangers := [name for name in model if not isinstance(name, str)]:
        return f"got a mapping whose key {strangers[0]!r:.60} is no name. {options}."
    return ""


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the garbage collector: nothing becomes garbage here, but it would walk a large model several times."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _extra_keys(modules: Iterable[tuple[str, nn.Module]]) -> Iterable[str]:
    """Name what a model's state_dict holds besides tensors, without calling for it where that may cost."""
    for prefix, module in modules:
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            yield f"{prefix}_extra_state"
        if is_packed(module):
            yield from (prefix + name for name, value in packed_state(module).items() if not isinstance(value, Tensor))


def _merge(title: str, sites: Iterable[Site], config: Mapping[str, float], extra: Iterable[str]) -> Survey:
    """Make one slot of all names of the same tensor."""
    tied: dict[tuple[Hashable, ...], list[Site]] = {}
    names: list[str] = []
    for site in sites:
        names.append(site.slot.name)
        owner = site.computed and id(site.computed.owner)
        key = (owner, site.slot.part_of is None, *map(footprint, site.held))
        tied.setdefault(key, []).append(site)
    groups = list(map(_parameters_first, tied.values()))
    places = {group[0].slot.name: Place(_held(group), group[0].computed) for group in groups}
    slots = [group[0].slot if len(group) == 1 else _tied(*(site.slot for site in group)) for group in groups]
    slots = _without_sharing(slots, list(tied))
    return Survey(
        title=title,
        slots=tuple(slot for slot in slots if slot.part_of is None),
        places=places,
        config=config,
        extra=tuple(extra),
        raw=tuple(slot for slot in slots if slot.part_of is not None),
        names=tuple(names),
    )


def _parameters_first(group: list[Site]) -> list[Site]:
    """Let a parameter speak for a tensor that is a buffer, too."""
    return group if len(group) == 1 else sorted(group, key=lambda site: site.slot.kind == "buffer")


def _without_sharing(slots: Sequence[Slot], keys: Sequence[tuple[Hashable, ...]]) -> list[Slot]:
    """Block the slots that share part of their memory with another one, and the originals they are computed from."""
    whole = [() if slot.part_of else _footprints(key) for slot, key in zip(slots, keys, strict=True)]
    sharing = {slots[one].name: slots[other].name for one, other in overlaps(whole).items()}
    if not sharing:
        return list(slots)
    others = [sharing.get(slot.part_of or slot.name) for slot in slots]
    return [
        replace(slot, blocked=slot.blocked or _sharing(other)) if other else slot
        for slot, other in zip(slots, others, strict=True)
    ]


def _footprints(key: tuple[Hashable, ...]) -> list[Footprint]:
    return [part for part in key if isinstance(part, Footprint)]


def _held(group: Sequence[Site]) -> tuple[Tensor, ...]:
    """Collect the distinct tensor objects of a slot's sites."""
    if len(group) == 1:
        return group[0].held
    return tuple({id(tensor): tensor for site in group for tensor in site.held}.values())


def _sharing(other: str) -> str:
    return (
        f"shares part of its memory with {other!r}: filling one changes the other. "
        "Give one of them memory of its own (clone it), or tie them whole."
    )


def _tied(first: Slot, *others: Slot) -> Slot:
    """Put the facts of a tensor's names together; those of its canonical name speak for it."""
    every = (first, *others)
    return replace(
        first,
        aliases=tuple(slot.name for slot in others),
        alias_types=tuple(slot.module_types for slot in others),
        padding_row=next((slot.padding_row for slot in every if slot.padding_row is not None), None),
        requires_grad=any(slot.requires_grad for slot in every),
        persistent=any(slot.persistent for slot in every),
        blocked=next((slot.blocked for slot in every if slot.blocked), None),
    )
