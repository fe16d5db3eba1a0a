"""Collect every name of every tensor of a model, in the order of its state_dict."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from initframe.model.computed import Parametrization
from initframe.model.elsewhere import HOOK, elsewhere, is_partitioned, places_all_inside
from initframe.model.fans import PLAIN, Fans, layer_fans, weight_of_bias
from initframe.model.flat import FLAT_NAME, FLATTENED, flattened_tensors, is_flat
from initframe.model.layers import Layer, read_layer
from initframe.model.memory import Footprint, elements, is_shapeless, plain_elements
from initframe.model.obstacles import (
    FILLABLE,
    PACKED,
    Obstacle,
    is_integer,
    is_packed,
    is_storable,
    obstacle,
    packed_state,
)
from initframe.model.own_init import set_by
from initframe.model.parametrizations import logical_name, parametrizations
from initframe.model.place import OpenPlace, Place
from initframe.model.remembered import remembered
from initframe.model.slot import Kind, OpenSlot, Slot

_COUNTER = "num_batches_tracked"
_STATISTICS = ("running_mean", "running_var", _COUNTER)
_WITHOUT_FANS = None, None, None, None, PLAIN
"""What stands for the fans of a tensor that has none."""


Named = tuple[Slot, Place, Sequence[Hashable]]
"""One name of one tensor: its facts under this name, as if it had no other, its memory, and which elements that is."""


def collect_module(modules: Sequence[tuple[str, nn.Module]], whole: Mapping[int, tuple[int, ...]]) -> Iterator[Named]:
    """Collect every tensor of a model under each of its names.

    Args:
        modules: a model's modules, each with its prefix, before those inside of it.
        whole: shapes of the parameters that are shown as pieces, by ``id``.

    Yields:
        Per module parameters, then buffers, then parametrized tensors, then its children's.

    >>> [slot.name for slot, *_ in collect_module([("0.", nn.Linear(2, 3))], {})]
    ['0.weight', '0.bias']
    """
    around, logical = "", ""  # the last parametrization met, and the name of what it computes
    placed: tuple[str, ...] = ()  # of the modules whose insides are offloaded as one
    for prefix, module in modules:
        if HOOK in vars(module) and places_all_inside(module):
            placed += (prefix,)
        cls: type = type(module)
        own = {**module._parameters, **module._buffers}  # noqa: SLF001
        held = {name: tensor for name, tensor in own.items() if tensor is not None} if own else {}
        hooked = module._forward_pre_hooks or "parametrizations" in module._modules  # noqa: SLF001
        computed = parametrizations(module) if hooked else {}
        if isinstance(module, ParametrizationList):
            around, logical = prefix, logical_name(prefix[:-1])
        serves = logical if around and prefix.startswith(around) else None
        if FLAT_NAME in held and is_flat(held[FLAT_NAME]):
            yield from _collect_flat(held.pop(FLAT_NAME), modules)
        if held or computed:
            offloaded = any(map(prefix.startswith, placed))
            yield from _collect_own(prefix, module, held, computed, whole, serves=serves, offloaded=offloaded)
        if is_packed(cls):
            yield from _collect_packed(prefix, module)


def _collect_own(
    prefix: str,
    module: nn.Module,
    held: Mapping[str, Tensor],
    computed: Mapping[str, Parametrization],
    whole: Mapping[int, tuple[int, ...]],
    *,
    serves: str | None,
    offloaded: bool,
) -> Iterator[Named]:
    """Collect what one module holds and computes; ``serves`` is what a parametrization around it computes."""
    layer = read_layer(module)
    plain: dict[str, Footprint] = {}
    others: dict[str, _Form] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in held.items():
        piece = whole.get(id(tensor)) if whole else None
        dense = plain_elements(tensor) if piece is None and tensor.dtype in FILLABLE else None
        if dense and not tensor.is_meta:
            plain[name], shapes[name] = dense, tuple(tensor.shape)
        else:
            others[name] = _form(tensor, dense, piece, module, offloaded=offloaded)
            shapes[name] = others[name].shape
    raw: dict[str, str] = {}
    for name, how in computed.items():
        shapes[name] = how.shape or ()
        raw |= dict.fromkeys((*how.originals, *how.state), prefix + name)
    if serves:
        # A step's own parameters are learned, and have rules of their own; its buffers only keep what it computed.
        own = module._buffers if not isinstance(module, ParametrizationList) else held  # noqa: SLF001
        raw |= dict.fromkeys(own, serves)
    constructed = remembered(module)
    for name, tensor in held.items():
        further = others[name].further if name in others else {}
        if name in module._non_persistent_buffers_set:  # noqa: SLF001
            further["persistent"] = False
        if name in raw:
            further["part_of"] = raw[name]
        if name in constructed:
            further["constructed"] = constructed[name]
        kind: Kind = "parameter" if name in module._parameters else "buffer"  # noqa: SLF001
        slot = _slot(
            prefix, name, shapes, layer, tensor.dtype, kind=kind, trained=tensor.requires_grad, further=further
        )
        where = plain.get(name)
        place = OpenPlace((tensor,), None, ((module, name),), where)
        place.__class__ = Place
        yield slot, place, (where or others[name].elements,)
    for name, how in computed.items():
        originals = tuple(how.originals.values())
        kind = "parameter" if any(isinstance(tensor, nn.Parameter) for tensor in originals) else "buffer"
        trained = any(tensor.requires_grad for tensor in originals)
        further = {
            **_hindered(how.blocked or next(filter(None, map(obstacle, originals)), None)),
            "lazy": how.shape is None or any(map(is_shapeless, originals)),
            "exact": how.exact,
            "notes": how.notes,
            "part_of": raw.get(name),
            "constructed": constructed.get(name),
        }
        slot = _slot(prefix, name, shapes, layer, how.dtype, kind=kind, trained=trained, further=further)
        yield slot, Place(originals, how, ((module, name),)), tuple(map(elements, originals))


class _Form(NamedTuple):
    """What a tensor that is not plain says: its global shape, its elements, and what its slot has of the unusual."""

    shape: tuple[int, ...]
    elements: Hashable
    further: dict[str, Any]


def _form(
    tensor: Tensor, dense: Footprint | None, piece: tuple[int, ...] | None, module: nn.Module, *, offloaded: bool
) -> _Form:
    """Read a tensor: ``dense`` if it is plain, on the meta device; of shape ``piece`` if a part of it is here."""
    if piece is not None:
        further = {**_hindered(FLATTENED), "lazy": not piece and is_shapeless(tensor)}
        return _Form(piece, elements(tensor), further)
    if dense:
        return _Form(tuple(tensor.shape), dense, _hindered(elsewhere(module, tensor, placed=offloaded)))
    shape, away = _shape(tensor), elsewhere(module, tensor, placed=offloaded)
    further = _hindered(blocked := away or obstacle(tensor))
    further |= {
        "lazy": not shape and is_shapeless(tensor),
        "storable": blocked is not None and not away and is_storable(tensor),
    }
    return _Form(shape, elements(tensor), further)


def _hindered(blocked: Obstacle | None) -> dict[str, Any]:
    """Give what a slot has of an obstacle."""
    return {"blocked": blocked.fact, "remedy": blocked.fix} if blocked else {}


def _slot(
    prefix: str,
    attribute: str,
    shapes: Mapping[str, tuple[int, ...]],
    layer: Layer,
    dtype: torch.dtype,
    *,
    kind: Kind = "parameter",
    trained: bool = True,
    further: dict[str, Any],
) -> Slot:
    """Put the facts of a tensor together with those that its layer adds.

    ``shapes`` are its own and its neighbours'; ``further`` is what the slot has besides, and has to be new.
    """
    shape, settings = shapes[attribute], layer.settings
    fan_in, fan_out, effective_in, effective_out, how = count_fans(attribute, shapes, layer) or _WITHOUT_FANS
    row = layer.padding_row(attribute, shape) if "padding_idx" in settings else None
    if layer.name and layer.cls and (own := set_by(layer.cls, attribute)):
        further["set_by"] = own
    if not shape and not dtype.is_floating_point and attribute.endswith(_COUNTER):
        further["resettable"] = True
    slot = OpenSlot(  # by position, in its order, which takes a third of the time
        prefix + attribute,
        shape,
        dtype,
        kind,
        (),
        layer.types,
        layer.name,
        settings,
        fan_in,
        fan_out,
        effective_in,
        effective_out,
        how.blocks,
        how,
        row,
        trained,
        **further,
    )
    slot.__class__ = Slot
    return slot


def _collect_flat(flat: Tensor, modules: Sequence[tuple[str, nn.Module]]) -> Iterator[Named]:
    """Collect the tensors that FSDP1 made one flat parameter of; an empty one stands for each of them."""
    prefixes = {id(module): prefix for prefix, module in reversed(modules)}
    for owner, shapes in flattened_tensors(flat):
        layer = read_layer(owner)
        for name in shapes:
            slot = _slot(prefixes[id(owner)], name, shapes, layer, flat.dtype, further=_hindered(FLATTENED))
            piece = flat.detach()[:0]
            yield slot, Place((piece,)), (elements(piece),)


def _collect_packed(prefix: str, module: nn.Module) -> Iterator[Named]:
    """Collect the tensors that a quantized module shows only as copies."""
    held = {name: tensor for name, tensor in packed_state(module).items() if isinstance(tensor, Tensor)}
    shapes, layer = {name: tuple(tensor.shape) for name, tensor in held.items()}, read_layer(module)
    for name, tensor in held.items():
        slot = _slot(prefix, name, shapes, layer, tensor.dtype, further=_hindered(PACKED))
        yield slot, Place((tensor,)), (elements(tensor),)


def collect_mapping(tensors: Mapping[str, Any]) -> Iterator[Named]:
    """Collect the tensors of a state_dict, of which nothing but name, shape and dtype is known.

    Args:
        tensors: a state_dict; what is no tensor is passed over.

    Yields:
        Each tensor as a parameter; BatchNorm's statistics (by their names) and integers as buffers.

    >>> [(slot.name, slot.fan_in) for slot, *_ in collect_mapping({"a.weight": torch.zeros(3, 2), "version": 1})]
    [('a.weight', 2)]
    """
    held = {name: value for name, value in tensors.items() if is_tensor_entry(name, value)}
    shapes = {name: _shape(tensor) for name, tensor in held.items()}
    for name, tensor in held.items():
        is_buffer = name.rpartition(".")[2] in _STATISTICS or is_integer(tensor.dtype)
        kind: Kind = "buffer" if is_buffer else "parameter"
        trained = tensor.requires_grad if isinstance(tensor, nn.Parameter) else kind == "parameter"
        further = {**_hindered(obstacle(tensor)), "lazy": is_shapeless(tensor), "storable": is_storable(tensor)}
        slot = _slot("", name, shapes, Layer(), tensor.dtype, kind=kind, trained=trained, further=further)
        yield slot, Place((tensor,), owners=((tensors, name),)), (elements(tensor),)


def is_tensor_entry(name: str, value: object) -> bool:
    """Tell a state_dict's tensors from its other entries: numbers, tuples, and a module's extra state.

    >>> is_tensor_entry("scaler._extra_state", torch.zeros(2))
    False
    """
    return isinstance(value, Tensor) and name.rpartition(".")[2] != "_extra_state"


def count_fans(name: str, shapes: Mapping[str, tuple[int, ...]], layer: Layer) -> Fans | None:
    """Count a tensor's fans; a bias has its weight's.

    Args:
        name: the tensor's name among its neighbours.
        shapes: theirs and its own.
        layer: the module that owns them.

    Returns:
        Both counts; ``None`` for a tensor without fans.

    >>> count_fans("bias_ih_l0", {"weight_ih_l0": (12, 5), "bias_ih_l0": (12,)}, Layer(read_as="GRU")).effective_out
    4
    """
    counted = weight_of_bias(name) if len(shapes[name]) < 2 else name
    shape, attribute = shapes.get(counted, ()), counted.rpartition(".")[2]
    return layer_fans(layer.read_as, attribute, shape, layer.groups, layer.stride)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    """Give the global shape; an empty one for a tensor without one shape."""
    if is_partitioned(tensor):
        return tuple(vars(tensor)["ds_shape"])
    return () if is_shapeless(tensor) else tuple(tensor.shape)
