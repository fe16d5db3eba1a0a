"""Every name of every tensor, in the order of state_dict, as met on the way through a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from initframe.model.computed import Parametrization
from initframe.model.fans import PLAIN, Fans
from initframe.model.flat import FLATTENED, flattened_tensors
from initframe.model.layers import Layer, read_layer
from initframe.model.memory import is_shapeless
from initframe.model.obstacles import obstacle
from initframe.model.packed import PACKED, is_packed, packed_state
from initframe.model.parametrizations import parametrizations
from initframe.model.slot import Kind, Slot

_COUNTER = "num_batches_tracked"
_STATISTICS = ("running_mean", "running_var", _COUNTER)


class Site(NamedTuple):
    """One name of one tensor.

    Attributes:
        slot: the facts under this name, as if the tensor had no other.
        held: the tensors that a write touches: the tensor, or the originals of a parametrization.
        computed: how the logical tensor comes from those, where it is parametrized.
    """

    slot: Slot
    held: tuple[Tensor, ...]
    computed: Parametrization | None = None


def module_sites(modules: Iterable[tuple[str, nn.Module]], whole: Mapping[int, tuple[int, ...]]) -> Iterator[Site]:
    """Meet every tensor of a model under each of its names.

    Args:
        modules: a model's modules, each with its prefix.
        whole: shapes of the parameters that are shown as pieces, by ``id``.

    Yields:
        Per module parameters, then buffers, then parametrized tensors, then its children's.

    >>> [site.slot.name for site in module_sites([("0.", nn.Linear(2, 3))], {})]
    ['0.weight', '0.bias']
    """
    for prefix, module in modules:
        own = (*module._parameters.items(), *module._buffers.items())  # noqa: SLF001
        held = {name: tensor for name, tensor in own if tensor is not None}
        computed = parametrizations(module)
        if held or computed:
            yield from _own_sites(prefix, module, held, computed, whole)
        if is_packed(module):
            yield from _packed_sites(prefix, module)


def _own_sites(
    prefix: str,
    module: nn.Module,
    held: Mapping[str, Tensor],
    computed: Mapping[str, Parametrization],
    whole: Mapping[int, tuple[int, ...]],
) -> Iterator[Site]:
    """Meet what one module holds and computes."""
    layer = read_layer(module)
    shapes = {name: whole[id(t)] if id(t) in whole else _shape(t) for name, t in held.items()}
    shapes |= {name: how.shape for name, how in computed.items()}
    raw = _raw_names(prefix, module, computed)
    for name, tensor in held.items():
        if name == "_flat_param":
            yield from _flat_sites(prefix, tensor)
            continue
        slot = _slot(
            prefix,
            name,
            shapes,
            layer,
            dtype=tensor.dtype,
            kind="parameter" if name in module._parameters else "buffer",  # noqa: SLF001
            trained=tensor.requires_grad,
            persistent=name not in module._non_persistent_buffers_set,  # noqa: SLF001
            lazy=is_shapeless(tensor),
            blocked=FLATTENED if id(tensor) in whole else obstacle(tensor),
            part_of=raw.get(name),
        )
        yield Site(slot, (tensor,))
    for name, how in computed.items():
        originals = tuple(how.originals.values())
        slot = _slot(
            prefix,
            name,
            shapes,
            layer,
            dtype=how.dtype,
            kind="parameter" if any(isinstance(tensor, nn.Parameter) for tensor in originals) else "buffer",
            trained=any(tensor.requires_grad for tensor in originals),
            lazy=any(map(is_shapeless, originals)),
            blocked=how.blocked or next(filter(None, map(obstacle, originals)), None),
            notes=how.notes,
        )
        yield Site(slot, originals, how)


def _slot(
    prefix: str,
    attribute: str,
    shapes: Mapping[str, tuple[int, ...]],
    layer: Layer,
    *,
    dtype: torch.dtype,
    kind: Kind = "parameter",
    trained: bool = True,
    persistent: bool = True,
    lazy: bool = False,
    blocked: str | None = None,
    notes: tuple[str, ...] = (),
    part_of: str | None = None,
) -> Slot:
    """Put the facts of a tensor together with those that its layer adds; ``shapes`` are its own and its neighbours'."""
    shape, count = shapes[attribute], count_fans(attribute, shapes, layer)
    return Slot(
        name=prefix + attribute,
        shape=shape,
        dtype=dtype,
        kind=kind,
        module_types=layer.types,
        layer=layer.name,
        settings=layer.settings,
        fan_in=count and count.fan_in,
        fan_out=count and count.fan_out,
        effective_fan_in=count and count.effective_in,
        effective_fan_out=count and count.effective_out,
        fused=count.how.blocks if count else 1,
        meaning=count.how if count else PLAIN,
        output_dim=1 if layer.shape_law == "Conv1D" and len(shape) == 2 else 0,
        padding_row=layer.padding_row(attribute, shape),
        requires_grad=trained,
        blocked=blocked,
        notes=notes,
        persistent=persistent,
        lazy=lazy,
        resettable=not shape and not dtype.is_floating_point and attribute.endswith(_COUNTER),
        part_of=part_of,
    )


def _raw_names(prefix: str, module: nn.Module, computed: Mapping[str, Parametrization]) -> dict[str, str]:
    """Say which of a module's own tensors only serve to compute another, and the name of that one."""
    if isinstance(module, ParametrizationList):
        parent, _, name = prefix[:-1].rpartition(".")
        logical = parent.removesuffix("parametrizations") + name
        return dict.fromkeys((*module._parameters, *module._buffers), logical)  # noqa: SLF001
    return {key: prefix + name for name, how in computed.items() for key in how.originals}


def _flat_sites(prefix: str, flat: Tensor) -> Iterator[Site]:
    """Meet the tensors that FSDP1 made one flat parameter of; an empty one stands for each of them."""
    owners = {name: (shape, read_layer(module)) for name, shape, module in flattened_tensors(flat)}
    shapes = {name: shape for name, (shape, _) in owners.items()}
    for name, (_, layer) in owners.items():
        slot = _slot(prefix, name, shapes, layer, dtype=flat.dtype, blocked=FLATTENED)
        yield Site(slot, (flat.detach()[:0],))


def _packed_sites(prefix: str, module: nn.Module) -> Iterator[Site]:
    """Meet the tensors that a quantized module shows only as copies."""
    held = {name: tensor for name, tensor in packed_state(module).items() if isinstance(tensor, Tensor)}
    shapes, layer = {name: tuple(tensor.shape) for name, tensor in held.items()}, read_layer(module)
    for name, tensor in held.items():
        yield Site(_slot(prefix, name, shapes, layer, dtype=tensor.dtype, blocked=PACKED), (tensor,))


def mapping_sites(tensors: Mapping[str, Any]) -> Iterator[Site]:
    """Meet the tensors of a state_dict, of which nothing but name, shape and dtype is known.

    Args:
        tensors: a state_dict; what is no tensor is passed over.

    Yields:
        Each tensor as a parameter, BatchNorm's statistics as buffers (by their names).

    >>> [(site.slot.name, site.slot.fan_in) for site in mapping_sites({"a.weight": torch.zeros(3, 2), "version": 1})]
    [('a.weight', 2)]
    """
    held = {name: value for name, value in tensors.items() if is_tensor_entry(name, value)}
    shapes = {name: _shape(tensor) for name, tensor in held.items()}
    for name, tensor in held.items():
        kind: Kind = "buffer" if name.rpartition(".")[2] in _STATISTICS else "parameter"
        slot = _slot(
            "",
            name,
            shapes,
            Layer(),
            dtype=tensor.dtype,
            kind=kind,
            trained=tensor.requires_grad if isinstance(tensor, nn.Parameter) else kind == "parameter",
            lazy=is_shapeless(tensor),
            blocked=obstacle(tensor),
        )
        yield Site(slot, (tensor,))


def is_tensor_entry(name: str, value: object) -> bool:
    """Tell a state_dict's tensors from the rest: numbers, tuples, and a module's extra state of whatever type.

    >>> is_tensor_entry("scaler._extra_state", torch.zeros(2))
    False
    """
    return isinstance(value, Tensor) and name.rpartition(".")[2] != "_extra_state"


def count_fans(name: str, shapes: Mapping[str, tuple[int, ...]], layer: Layer) -> Fans | None:
    """Count a tensor's fans; a bias has those of the weight beside it.

    Args:
        name: the tensor's name among its neighbours.
        shapes: theirs and its own.
        layer: the module that owns them.

    Returns:
        Both counts, or ``None`` where there are none.

    >>> count_fans("bias_ih_l0", {"weight_ih_l0": (12, 5), "bias_ih_l0": (12,)}, Layer(shape_law="GRU")).effective_out
    4
    """
    prefix, dot, attribute = name.rpartition(".")
    if len(shapes[name]) < 2 and "bias" in attribute:
        attribute = "weight".join(attribute.rsplit("bias", 1))
    return layer.fans(attribute, shapes.get(prefix + dot + attribute, ()))


def _shape(tensor: Tensor) -> tuple[int, ...]:
    """Give the global shape; an empty one where there is none."""
    return () if is_shapeless(tensor) else tuple(tensor.shape)
