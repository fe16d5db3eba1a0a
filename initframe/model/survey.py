"""Read a model as slots: model → survey."""

from __future__ import annotations

import gc
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from initframe.errors import Problem, ResolveError
from initframe.model.collect import Named, collect_mapping, collect_module, is_tensor_entry
from initframe.model.flat import flattened_shapes
from initframe.model.layers import class_names, read_config, read_layer, title
from initframe.model.memory import Footprint, footprint, overlaps
from initframe.model.names import unwrap, walk
from initframe.model.obstacles import is_packed, packed_state
from initframe.model.place import Place
from initframe.model.slot import Slot
from initframe.model.snapshot import snapshot


@dataclass(frozen=True)
class Survey:
    """A model, read as slots.

    Attributes:
        title: class name of the bare model, for messages; ``"state_dict"`` for a mapping.
        slots: every tensor once, in state_dict order; a parametrized one under its logical name.
        places: where each slot's tensor lives at this moment, by canonical name.
        config: the numbers of ``model.config``, if there is one.
        extra: state_dict keys that hold no tensor.
        raw: the tensors from which a parametrization computes a slot's value (``part_of``), for rules that name one
            of them literally; their places are in ``places``.
        settings: the plain numbers among the model's own attributes.
        modules: class names of every module and its bases, most derived first, by what its tensors' names begin with.
        names: every name of every tensor, a tied one's under each of its owners, in state_dict order.
        snapshot: what the slots and places depend on; ``None`` if a change of it could go unseen.
        memo: what others have derived from the survey, tensors excepted; as long as it holds, so does that.
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
    snapshot: tuple[object, ...] | None = field(default=None, repr=False, compare=False)
    memo: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def every(self) -> tuple[Slot, ...]:
        """The slots, and those that a parametrization computes one of them from."""
        return self.slots + self.raw

    def is_current(self, model: nn.Module | Mapping[str, Tensor]) -> bool:
        """Whether a new survey of the model would give the same slots and places; ``False`` if that is not known.

        >>> model = nn.Linear(2, 3)
        >>> seen = survey(model)
        >>> seen.is_current(model), seen.is_current(model.half())
        (True, False)
        """
        return self.snapshot is not None and self.snapshot == snapshot(model)

    def relocated(self, model: nn.Module | Mapping[str, Tensor]) -> Survey:
        """The same slots, with the places where the model's tensors are now; of the tensors, only memory may be new."""
        places = {name: place.again() for name, place in self.places.items()}
        return replace(self, places=places, snapshot=self.snapshot and snapshot(model), memo={})

    def around(self, name: str) -> Iterator[tuple[str, ...]]:
        """Give the class names of the modules around a tensor, its owner first.

        >>> [types[0] for types in survey(nn.Sequential(nn.Linear(2, 3))).around("0.weight")]
        ['Linear', 'Sequential']
        """
        while name:
            name = name[: name.rstrip(".").rfind(".") + 1]
            yield self.modules.get(name, ())


class LatestSurvey:
    """A model's latest survey, made anew only if the model has changed since; it keeps no tensor alive.

    Args:
        seen: the survey to begin with.

    >>> model = nn.Linear(2, 3)
    >>> latest = LatestSurvey(survey(model))
    >>> latest.of(model).places["bias"].direct is model.bias
    True
    """

    def __init__(self, seen: Survey | None = None) -> None:
        self._seen = seen and _without_tensors(seen)

    def of(self, model: nn.Module | Mapping[str, Tensor]) -> Survey:
        """Give the survey of the model as it is now."""
        with collector_paused():
            if self._seen is not None and self._seen.is_current(model):
                places = {name: place.again() for name, place in self._seen.places.items()}
                return replace(self._seen, places=places)
        seen = survey(model)
        self._seen = _without_tensors(seen)
        return seen

    def __reduce__(self) -> tuple[type[LatestSurvey], tuple[()]]:
        """Copies and pickles begin without one: it is of the very model."""
        return LatestSurvey, ()


def _without_tensors(seen: Survey) -> Survey | None:
    """Release the tensors of a survey; ``None`` if it could not be told whether it still holds."""
    if seen.snapshot is None:
        return None
    return replace(seen, places={name: replace(place, held=()) for name, place in seen.places.items()})


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
        seen = _survey_module(model) if isinstance(model, nn.Module) else _survey_mapping(model)
        computed = any(place.computed for place in seen.places.values())
        return seen if computed else replace(seen, snapshot=snapshot(model))


def _survey_mapping(tensors: Mapping[str, Tensor]) -> Survey:
    extra = (name for name, value in tensors.items() if not is_tensor_entry(name, value))
    return _merge("state_dict", collect_mapping(tensors), {}, extra)


def _survey_module(model: nn.Module) -> Survey:
    bare = unwrap(model)
    modules = list(walk(model))
    found = collect_module(modules, flattened_shapes(model))
    seen = _merge(title(bare), found, read_config(bare), _extra_keys(modules))
    names = {prefix: class_names(module) for prefix, module in modules}
    return replace(seen, settings=read_layer(bare).settings, modules=names)


def _no_model(model: object) -> Problem | None:
    """Say why something is neither a model nor a state_dict."""
    options = "A model is an nn.Module, or a state_dict (tensors by name)."
    if isinstance(model, nn.Module):
        return None
    if isinstance(model, type) and issubclass(model, nn.Module):
        return Problem("model", f"got the class {model.__name__}.", options, f"Build one: {model.__name__}(…).")
    if not isinstance(model, Mapping):
        return Problem("model", f"got {model!r:.60}.", options, "In resolve, the recipe comes first.")
    if strangers := [name for name in model if not isinstance(name, str)]:
        return Problem("model", f"got a mapping whose key {strangers[0]!r:.60} is not a text.", options)
    return None


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
    """Name the entries of a model's state_dict that are not tensors, without building it."""
    for prefix, module in modules:
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            yield f"{prefix}_extra_state"
        if is_packed(module):
            yield from (prefix + name for name, value in packed_state(module).items() if not isinstance(value, Tensor))


def _merge(title: str, found: Iterable[Named], config: Mapping[str, float], extra: Iterable[str]) -> Survey:
    """Make one slot of all names of the same tensor."""
    tied: dict[tuple[Hashable, ...], list[Named]] = {}
    names: list[str] = []
    for slot, place in found:
        names.append(slot.name)
        owner = place.computed and id(place.computed.owner)
        key = (owner, slot.part_of is None, *map(footprint, place.held))
        tied.setdefault(key, []).append((slot, place))
    groups = list(map(_parameters_first, tied.values()))
    places = {group[0][0].name: _joined([place for _, place in group]) for group in groups}
    slots = [group[0][0] if len(group) == 1 else _tied(*(slot for slot, _ in group)) for group in groups]
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


def _parameters_first(group: list[Named]) -> list[Named]:
    """Let a parameter speak for a tensor that is a buffer, too."""
    return group if len(group) == 1 else sorted(group, key=lambda named: named[0].kind == "buffer")


def _joined(places: Sequence[Place]) -> Place:
    """Make one place of those of all names: the distinct tensor objects, and all their owners."""
    if len(places) == 1:
        return places[0]
    held = tuple({id(tensor): tensor for place in places for tensor in place.held}.values())
    return Place(held, places[0].computed, tuple(owner for place in places for owner in place.owners))


def _without_sharing(slots: Sequence[Slot], keys: Sequence[tuple[Hashable, ...]]) -> list[Slot]:
    """Block the slots that share part of their memory with another one, and the originals they are computed from."""
    whole = [() if slot.part_of else _footprints(key) for slot, key in zip(slots, keys, strict=True)]
    sharing = {slots[one].name: slots[other].name for one, other in overlaps(whole).items()}
    if not sharing:
        return list(slots)
    others = [sharing.get(slot.part_of or slot.name) for slot in slots]
    return [
        replace(slot, blocked=_sharing(other), remedy=_CLONE, storable=False)
        if other and (slot.storable or not slot.blocked)
        else slot
        for slot, other in zip(slots, others, strict=True)
    ]


def _footprints(key: tuple[Hashable, ...]) -> list[Footprint]:
    return [part for part in key if isinstance(part, Footprint)]


def _sharing(other: str) -> str:
    return f"shares part of its memory with {other!r}: filling one changes the other."


_CLONE = "Give one of them memory of its own (clone it), or tie them whole."


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
        storable=all(slot.storable for slot in every),
        blocked=next((slot.blocked for slot in every if slot.blocked), None),
        remedy=next((slot.remedy for slot in every if slot.remedy), ""),
    )
