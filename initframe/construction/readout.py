"""After the constructor: from what was recorded of every storage to what each module keeps of its parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from initframe.construction.boxes import Box, Geometry, apart, assemble, box_of, geometry
from initframe.construction.chains import fill_of
from initframe.construction.numbers import shortest
from initframe.construction.recorder import History, PartialWrite, Recorder, held
from initframe.construction.values import Drawn, Number, Structured, Tabulated, Unreadable, Value, draws
from initframe.fills import Constant, Fill, Identity, Orthogonal
from initframe.fills.constructed import Constructed
from initframe.fills.table import table
from initframe.model.computed import Parametrization
from initframe.model.memory import is_distributed
from initframe.model.parametrizations import parametrizations
from initframe.model.remembered import remember

NOTHING = "nothing is written to it: it would hold what its memory held before"
UNSEEN = "nothing was recorded of it: it was made by a thread that had started before, or not by calls of torch"

SHARDED = "it was sharded inside of deferred(): leave that first, then call fully_shard or parallelize_module"


def remember_all(modules: Iterable[nn.Module], recorder: Recorder) -> None:
    """Keep what a recorder noted in every module, those inside of the given ones included.

    Args:
        modules: whatever was built.
        recorder: what was noted meanwhile.
    """
    known: dict[tuple[int, Geometry], Constructed] = {}

    def look_up(tensor: Tensor) -> Constructed:
        history = recorder.history(tensor)
        key = id(history), geometry(tensor)
        if history is None or key not in known:
            known[key] = _constructed(tensor, history)
        return known[key]

    seen: set[nn.Module] = set()
    for module in (inner for outer in modules for _, inner in outer.named_modules(seen)):
        own = module._parameters.items()  # noqa: SLF001
        found = {name: look_up(p) for name, p in own if p is not None and not is_lazy(p)}
        if _may_compute(module):
            found |= dict(_computed(parametrizations(module), look_up))
        if found:
            remember(module, found)


def _may_compute(module: nn.Module) -> bool:
    """Whether a module may have tensors that are computed from others."""
    return "parametrizations" in module._modules or bool(module._forward_pre_hooks)  # noqa: SLF001


def _computed(
    found: Mapping[str, Parametrization], look_up: Callable[[Tensor], Constructed]
) -> Iterator[tuple[str, Constructed]]:
    """What the constructor gave to tensors that are computed from parameters.

    A norm that was split off is known from what it is the norm of: filling the whole sets it again.
    """
    for name, how in found.items():
        originals = [look_up(tensor) for tensor in how.originals.values()]
        fault = next((one for one in originals if one.fill is None), None)
        if len(originals) == 1:
            yield name, originals[0]
        elif len(originals) == 2 and how.exact and "norm" in originals[0].reason and originals[1].fill is not None:
            yield name, originals[1]
        elif fault:
            reason = f"it is computed from others, of which one is not read: {fault.reason}"
            yield name, Constructed(how.shape or (), None, reason, fault.origin)


def _constructed(tensor: Tensor, history: History | None) -> Constructed:
    """What a constructor did to a parameter, from the history of its storage."""
    shape = tuple(tensor.shape)
    if history is None:
        return Constructed(shape, reason=SHARDED if is_distributed(tensor) else UNSEEN)
    origin = history.line and history.line.origin(history.overwritten)
    fill = _fill(tensor, history.value, history.parts) if tensor.is_meta else _fill(tensor, *_kept(tensor, history))
    if isinstance(fill, str):
        return Constructed(shape, reason=fill, origin=origin)
    drawn = frozenset().union(*(draws(value) for value in (history.value, *(p.value for p in history.parts))))
    return Constructed(shape, fill, "", origin, drawn)


def _kept(tensor: Tensor, history: History) -> tuple[Value, Sequence[PartialWrite]]:
    """What was written to real memory, with the values that are in it where they were computed."""
    parts = [part._replace(value=held(part.value, tensor, part.where)) for part in history.parts]
    return held(history.value, tensor), parts


def _fill(tensor: Tensor, value: Value, written: Sequence[PartialWrite]) -> Fill | str:
    where = geometry(tensor)
    if not written:
        return _of_value(value, where, tensor.dtype)
    parts: list[tuple[Box, Fill]] = []
    for part in written:
        box = box_of(part.where, where)
        if box is None and apart(part.where, where):
            continue
        if box is None:
            return "a part of it is written that is no block of it"
        fill = _of_value(part.value, _of_box(box, where), tensor.dtype)
        if isinstance(fill, str):
            return fill
        parts.append((box, fill))
    several = [n for one in (value, *(p.value for p in written)) for n in draws(one)]
    if len(several) > len(set(several)):
        return "one draw stands in several parts of it"
    base = None if value is None else _of_value(value, where, tensor.dtype)
    if isinstance(base, str):
        if _covered(parts, where.shape):
            base = None
        else:
            return base
    return assemble(where.shape, base, parts)


def _covered(parts: Sequence[tuple[Box, Fill]], shape: tuple[int, ...]) -> bool:
    """Whether parts reach every element, if none of them overlap."""
    return sum(math.prod(b - a for a, b in box) for box, _ in parts) >= math.prod(shape)


def _of_box(box: Box, where: Geometry) -> Geometry:
    ahead = sum(a * stride for (a, _), stride in zip(box, where.strides, strict=True))
    return Geometry(tuple(b - a for a, b in box), where.strides, where.offset + ahead)


def _of_value(value: Value, where: Geometry, dtype: torch.dtype) -> Fill | str:
    match value:
        case Unreadable(reason):
            return reason
        case Number(number):
            return Constant(number)
        case Drawn():
            return fill_of(value)
        case Structured(fill=fill):
            return _shaped(fill, where.shape)
        case Tabulated(values=values):
            return _of_table(_picked(values, where), dtype)
    return NOTHING


def _picked(values: Tensor, where: Geometry) -> Tensor:
    """The part of a table that a parameter holds."""
    if tuple(values.shape) == where.shape:
        return values
    if values.numel() == math.prod(where.shape):
        return values.reshape(where.shape)
    return values.as_strided(where.shape, where.strides, where.offset)


def _shaped(fill: Fill, shape: tuple[int, ...]) -> Fill | str:
    """A matrix, written through a view of the same rows."""
    own: tuple[int, ...] = fill.shape  # type: ignore[attr-defined]
    if own == shape:
        return fill
    if isinstance(fill, Orthogonal) and own[:1] == shape[:1] and math.prod(own) == math.prod(shape):
        return replace(fill, shape=shape)
    return f"{fill.kind} of shape {list(own)} is written to another shape, {list(shape)}"


def _of_table(values: Tensor, dtype: torch.dtype) -> Fill | str:
    """A constant, an identity, or a table."""
    if values.is_complex() or not values.is_floating_point():
        return f"its values are of {values.dtype}"
    if values.numel() and bool((values == values.flatten()[0]).all()):
        return Constant(shortest(values.flatten()[0].item(), dtype if dtype.is_floating_point else values.dtype))
    if values.ndim == 2 and torch.equal(values, torch.eye(*values.shape, dtype=values.dtype, device=values.device)):
        return Identity(tuple(values.shape))
    return table(values)
