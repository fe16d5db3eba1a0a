"""Read a model as slots: model → survey."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePath
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from initframe.collector import collector_paused
from initframe.errors import Problem, ResolveError, shown
from initframe.frozen import opened
from initframe.model.collect import Named, collect_mapping, collect_module, is_tensor_entry
from initframe.model.flat import flattened_shapes
from initframe.model.layers import class_names, lost_modules, read_configs, read_layer, title
from initframe.model.memory import Footprint, is_shapeless, local
from initframe.model.names import unwrap, walk
from initframe.model.obstacles import is_packed, packed_state
from initframe.model.place import Place
from initframe.model.sharing import sharing
from initframe.model.slot import Slot

Held = tuple[Slot, Place]
"""A tensor's facts, and its memory."""


@dataclass(frozen=True)
class Survey:
    """A model, read as slots.

    Attributes:
        title: class name of the bare model, for messages; ``"state_dict"`` for a mapping.
        slots: every tensor once, in state_dict order; a parametrized one under its logical name.
        places: where each slot's tensor lives at this moment, by canonical name.
        walked: the model's modules, each with what its tensors' names begin with; none of a mapping. What a recipe
            may ask of them is read when it asks.
        extra: state_dict keys that hold no tensor.
        raw: the tensors from which a parametrization computes a slot's value (``part_of``), for rules that name one
            of them literally; their places are in ``places``.
        names: every name of every tensor, a tied one's under each of its owners, in state_dict order.
        memo: what others have derived from the survey, tensors excepted; as long as it holds, so does that.
    """

    title: str
    slots: tuple[Slot, ...]
    places: Mapping[str, Place] = field(repr=False, compare=False)
    walked: tuple[tuple[str, nn.Module], ...] = field(default=(), repr=False, compare=False)
    extra: tuple[str, ...] = ()
    raw: tuple[Slot, ...] = ()
    names: tuple[str, ...] = field(default=(), repr=False)
    memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def settings(self) -> Mapping[str, float]:
        """The plain numbers among the model's own attributes."""
        return read_layer(unwrap(self.walked[0][1])).settings if self.walked else {}

    @cached_property
    def configs(self) -> Mapping[str, Mapping[str, float]]:
        """The numbers of ``model.config``, or of those of the outermost modules that have one, by their prefixes."""
        return read_configs(self.walked)

    @cached_property
    def modules(self) -> Mapping[str, tuple[str, ...]]:
        """The class names of every module and its bases, most derived first, by its prefix."""
        return {prefix: class_names(module) for prefix, module in self.walked}

    @cached_property
    def unregistered(self) -> tuple[str, ...]:
        """Plain lists, tuples and dicts that hold modules, which torch does not see."""
        return tuple(prefix + name for prefix, module in self.walked for name in lost_modules(module))

    @property
    def config(self) -> Mapping[str, float]:
        """The numbers of the only config; none if there are several."""
        return next(iter(self.configs.values())) if len(self.configs) == 1 else {}

    def config_of(self, name: str) -> Mapping[str, float]:
        """Give the numbers of the config that counts for a tensor: that of a module around it, or the only one."""
        for prefix, config in self.configs.items():
            if name.startswith(prefix):
                return config
        return self.config

    @property
    def every(self) -> tuple[Slot, ...]:
        """The slots, and those that a parametrization computes one of them from."""
        return self.slots + self.raw if self.raw else self.slots

    @cached_property
    def by_name(self) -> Mapping[str, Slot]:
        """Every slot by each of its names."""
        return {name: slot for slot in self.every for name in (slot.name, *slot.aliases)}

    def relocated(self) -> Survey:
        """The same slots, with the places where the model's tensors are now; of the tensors, only memory may be new."""
        return replace(self, places={name: place.again() for name, place in self.places.items()}, memo={})

    def __repr__(self) -> str:
        return f"<Survey of {self.title}: {len(self.slots)} tensor{'' if len(self.slots) == 1 else 's'}>"

    def around(self, name: str) -> Iterator[tuple[str, ...]]:
        """Give the class names of the modules around a tensor, its owner first.

        >>> [types[0] for types in survey(nn.Sequential(nn.Linear(2, 3))).around("0.weight")]
        ['Linear', 'Sequential']
        """
        while name:
            name = name[: name.rstrip(".").rfind(".") + 1]
            yield self.modules.get(name, ())


OpenSurvey = opened(Survey)
"""What becomes a survey when it is given the class."""


def survey(model: nn.Module | Mapping[str, Tensor]) -> Survey:
    """Read a model, or a state_dict, as slots.

    Args:
        model: a module, wrapped or not, on any device (meta included), sharded or not; or a state_dict, of which
            only names, shapes and dtypes are known.

    Returns:
        The survey; the model is left as it is.

    Raises:
        ResolveError: it is no model, or a module contains itself.

    >>> [(slot.name, slot.fan_in) for slot in survey(nn.Linear(5, 3)).slots]
    [('weight', 5), ('bias', 5)]
    """
    if problem := _no_model(model):
        raise ResolveError(problem)
    with collector_paused():
        return _survey_module(model) if isinstance(model, nn.Module) else _survey_mapping(model)


def _survey_mapping(tensors: Mapping[str, Tensor]) -> Survey:
    extra = tuple(name for name, value in tensors.items() if not is_tensor_entry(name, value))
    slots, places, raw, names = _merged(collect_mapping(tensors))
    return Survey("state_dict", slots, places, (), extra, raw, names)


def _survey_module(model: nn.Module) -> Survey:
    walked = tuple(walk(model))
    slots, places, raw, names = _merged(collect_module(walked, flattened_shapes(model)))
    seen = OpenSurvey(title(unwrap(model)), slots, places, walked, tuple(_extra_keys(walked)), raw, names)
    seen.__class__ = Survey
    return seen


def _no_model(model: object) -> Problem | None:
    """Say why something is neither a model nor a state_dict."""
    options = "A model is an nn.Module, or a state_dict (tensors by name)."
    if isinstance(model, nn.Module):
        if "_modules" in vars(model):
            return None
        fact = f"{type(model).__name__} was not set up as a module."
        return Problem("model", fact, fix="Call super().__init__() first in its __init__.")
    if isinstance(model, type) and issubclass(model, nn.Module):
        return Problem("model", f"got the class {model.__name__}.", options, f"Build one: {model.__name__}(…).")
    if isinstance(model, Tensor):
        return Problem("model", f"got {type(model).__name__}.", options, "For one tensor: initframe.fill_.")
    if isinstance(model, FunctionType | MethodType):
        return Problem("model", f"got the function {model.__name__}.", options, "If it builds the model, call it.")
    if not isinstance(model, Mapping):
        if isinstance(model, str):
            is_file = PurePath(model).suffix in (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
            fix = "Load the file first." if is_file else "The order is resolve(recipe, model), reinit(model, recipe)."
            return Problem("model", f"got {shown(model)}.", options, fix)
        got = "None" if model is None else type(model).__name__
        fix = "Give the model itself." if isinstance(model, Iterable) else ""
        return Problem("model", f"got {got}.", options, fix)
    if strangers := [name for name in model if not isinstance(name, str)]:
        return Problem("model", f"got a mapping whose key {strangers[0]!r:.60} is not a text.", options)
    return None


def _extra_keys(modules: Iterable[tuple[str, nn.Module]]) -> Iterable[str]:
    """Name the entries of a model's state_dict that are not tensors, without building it."""
    usual = nn.Module.get_extra_state
    for prefix, module in modules:
        cls: type = type(module)
        if cls.get_extra_state is not usual:  # type: ignore[attr-defined]
            yield f"{prefix}_extra_state"
        if is_packed(cls):
            yield from (prefix + name for name, value in packed_state(module).items() if not isinstance(value, Tensor))


def _merged(
    found: Iterable[Named],
) -> tuple[tuple[Slot, ...], dict[str, Place], tuple[Slot, ...], tuple[str, ...]]:
    """Make one slot of all names of the same tensor; give a survey's slots, places, raw slots and names."""
    tied: dict[tuple[Hashable, ...], list[Held]] = {}
    names: list[str] = []
    for slot, place, which in found:
        names.append(slot.name)
        owner = place.computed and id(place.computed.owner)
        tied.setdefault((owner, slot.part_of is None, *which), []).append((slot, place))
    ones = [group[0] if len(group) == 1 else _tied(_speaker_first(group)) for group in tied.values()]
    slots = _without_sharing([slot for slot, _ in ones], list(tied))
    own = tuple([slot for slot in slots if slot.part_of is None])
    raw = tuple([slot for slot in slots if slot.part_of is not None]) if len(own) < len(slots) else ()
    return own, {slot.name: place for slot, place in ones}, raw, tuple(names)


def _speaker_first(group: list[Held]) -> list[Held]:
    """Let a parameter speak for a tensor that is a buffer, too; of several forms, the one that has a row of padding."""
    padded = len({_form(place) for _, place in group}) > 1
    return sorted(group, key=lambda named: (named[0].kind == "buffer", padded and named[0].padding_row is None))


def _form(place: Place) -> tuple[tuple[int, ...], ...]:
    """Give the shape and strides of what a place holds; there are none where a layer computes the tensor."""
    (tensor, *others) = place.held
    held = local(tensor)
    if place.computed or others or is_shapeless(held) or held.layout != torch.strided:
        return ()
    return tuple(held.shape), held.stride()


def _joined(places: Sequence[Place]) -> Place:
    """Make one place of those of all names: the distinct tensor objects, and all their owners."""
    held = tuple({id(tensor): tensor for place in places for tensor in place.held}.values())
    return Place(held, places[0].computed, tuple(owner for place in places for owner in place.owners))


def _without_sharing(slots: list[Slot], keys: Sequence[tuple[Hashable, ...]]) -> list[Slot]:
    """Block the slots that share part of their memory with another one, and the originals they are computed from."""
    # A key says who computes the tensor, whether it is no original, and which elements it has.
    parts = [(part, i) for i, key in enumerate(keys) if key[1] for part in key[2:]]
    claims = [(part, i) for part, i in parts if isinstance(part, Footprint)]
    together: dict[str, list[str]] = {}
    for one, other in sharing(claims):
        mine, others = (together.get(slots[i].name, [slots[i].name]) for i in (one, other))
        joined = mine if mine is others else mine + others
        together |= dict.fromkeys(joined, joined)
    if not together:
        return slots
    return [_sharing(slot, together) if slot.storable or not slot.blocked else slot for slot in slots]


def _sharing(slot: Slot, together: Mapping[str, Sequence[str]]) -> Slot:
    """Block a slot that shares part of its memory with others."""
    whole = slot.part_of or slot.name
    others = tuple(name for name in together.get(whole, ()) if name != whole)
    if not others:
        return slot
    fact = f"shares part of its memory with {', '.join(map(repr, others))}: filling one changes the other."
    return replace(slot, blocked=fact, remedy=_KEEP, shares=others)


_KEEP = "Keep all but one of them (init: keep), clone one, or tie them whole."


def _tied(group: Sequence[Held]) -> Held:
    """Put the facts of a tensor's names together; those of its canonical name speak for it."""
    every = [slot for slot, _ in group]
    (first, place), *rest = group
    others = every[1:]
    views = tuple(slot.name for slot, own in rest if _form(own) != _form(place))
    shown = "it shows the same elements in another form, and its values follow"
    joined = replace(
        first,
        views=views,
        notes=(*first.notes, *(f"{name} is a view of it: {shown}" for name in views)),
        aliases=tuple(slot.name for slot in others),
        alias_types=tuple(slot.module_types for slot in others),
        padding_row=next((s.padding_row for s in every if s.padding_row is not None and s.name not in views), None),
        requires_grad=any(slot.requires_grad for slot in every),
        persistent=any(slot.persistent for slot in every),
        storable=all(slot.storable for slot in every),
        blocked=next((slot.blocked for slot in every if slot.blocked), None),
        remedy=next((slot.remedy for slot in every if slot.remedy), ""),
    )
    return joined, _joined([own for _, own in group])
