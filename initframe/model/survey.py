"""Read a model as slots: model → survey."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from initframe.model.fans import Fans, fans
from initframe.model.layers import Layer, read_config, read_layer, title
from initframe.model.names import unwrap, walk
from initframe.model.place import Place
from initframe.model.slot import Kind, Slot

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Survey:
    """A model, read as slots.

    Attributes:
        title: class name of the bare model, for messages; ``"state_dict"`` for a mapping.
        slots: every tensor once, in state_dict order.
        places: where each slot's tensor lives, by canonical name.
        config: the numbers of ``model.config``, where there is one.
        extra: state_dict keys that hold no tensor.
        raw: the tensors from which a parametrization computes a slot's value (``part_of``), for rules that name one
            of them literally; their places are in ``places``.
    """

    title: str
    slots: tuple[Slot, ...]
    places: Mapping[str, Place] = field(repr=False)
    config: Mapping[str, float] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    raw: tuple[Slot, ...] = ()


class _Site(NamedTuple):
    """One name of one tensor, as it was met on the way."""

    name: str
    tensor: Tensor
    kind: Kind
    layer: Layer
    fans: Fans | None
    persistent: bool = True

    @property
    def attribute(self) -> str:
        return self.name.rpartition(".")[2]


def survey(model: nn.Module | Mapping[str, Tensor]) -> Survey:
    """Read a model, or a state_dict, as slots.

    Args:
        model: a module, wrapped or not, on any device (meta included), sharded or not; or a state_dict, of which
            names and shapes are all that is known.

    Returns:
        The survey; the model is left as it is.

    >>> [(slot.name, slot.fan_in) for slot in survey(nn.Linear(5, 3)).slots]
    [('weight', 5), ('bias', 5)]
    """
    if not isinstance(model, nn.Module):
        return _survey_mapping(model)
    bare = unwrap(model)
    sites: list[_Site] = []
    extra: list[str] = []
    for prefix, module in walk(bare):
        sites += _module_sites(prefix, module)
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            extra.append(f"{prefix}_extra_state")
    slots, places = _merge(sites)
    return Survey(title(bare), slots, places, read_config(bare), tuple(extra))


def _survey_mapping(tensors: Mapping[str, Any]) -> Survey:
    """Read a state_dict: names and shapes, no modules."""
    extra = tuple(
        name for name, value in tensors.items() if not isinstance(value, Tensor) or name.endswith("_extra_state")
    )
    shapes = {name: value.shape for name, value in tensors.items() if name not in extra}
    layer = Layer()
    sites = [
        _Site(
            name,
            tensors[name],
            "buffer" if name.rpartition(".")[2] in _STATISTICS else "parameter",
            layer,
            _fans(name, shapes, layer),
        )
        for name in shapes
    ]
    slots, places = _merge(sites)
    return Survey("state_dict", slots, places, extra=extra)


def _module_sites(prefix: str, module: nn.Module) -> Iterator[_Site]:
    """Meet a module's own tensors, parameters first."""
    own: dict[str, Tensor | None] = {**module._parameters, **module._buffers}  # noqa: SLF001
    held = {name: tensor for name, tensor in own.items() if tensor is not None}
    if not held:
        return
    layer = read_layer(module)
    shapes = {name: tensor.shape for name, tensor in held.items()}
    for name, tensor in held.items():
        kind: Kind = "parameter" if name in module._parameters else "buffer"  # noqa: SLF001
        persistent = name not in module._non_persistent_buffers_set  # noqa: SLF001
        yield _Site(prefix + name, tensor, kind, layer, _fans(name, shapes, layer), persistent)


def _fans(name: str, shapes: Mapping[str, torch.Size], layer: Layer) -> Fans | None:
    """Count a tensor's fans; a bias has those of the weight beside it."""
    prefix, dot, attribute = name.rpartition(".")
    if len(shapes[name]) < 2 and "bias" in attribute:
        attribute = "weight".join(attribute.rsplit("bias", 1))
    shape = shapes.get(prefix + dot + attribute, ())
    return fans(shape, layer.meaning(attribute))


def _merge(sites: Iterable[_Site]) -> tuple[tuple[Slot, ...], dict[str, Place]]:
    """Make one slot of all names of the same tensor."""
    tied: dict[int, list[_Site]] = {}
    for site in sites:
        tied.setdefault(id(site.tensor), []).append(site)
    slots = tuple(_slot(names) for names in tied.values())
    places = {slot.name: Place((names[0].tensor,)) for slot, names in zip(slots, tied.values(), strict=True)}
    return slots, places


def _slot(sites: list[_Site]) -> Slot:
    """Put the facts of a tensor's sites together; those of its canonical name speak for it."""
    first = sites[0]
    tensor, layer, count = first.tensor, first.layer, first.fans
    shape = tuple(tensor.shape)
    padding = (site.layer.padding_row(site.attribute, shape[0]) for site in sites if shape)
    return Slot(
        name=first.name,
        shape=shape,
        dtype=tensor.dtype,
        kind=first.kind,
        aliases=tuple(site.name for site in sites[1:]),
        alias_types=tuple(site.layer.types for site in sites[1:]),
        module_types=layer.types,
        layer=layer.name,
        settings=layer.settings,
        fan_in=count and count.fan_in,
        fan_out=count and count.fan_out,
        effective_fan_in=count and count.effective_in,
        effective_fan_out=count and count.effective_out,
        output_dim=1 if layer.shape_law == "Conv1D" and len(shape) == 2 else 0,
        padding_row=next((row for row in padding if row is not None), None),
        requires_grad=tensor.requires_grad,
        persistent=first.persistent,
    )
