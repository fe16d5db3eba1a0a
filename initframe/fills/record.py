"""Fills as complete plain data, and back: what a manifest needs to make the same numbers without the model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from initframe import stream
from initframe.errors import InitframeError, Problem, shown
from initframe.fills.chain import OPERATIONS, Chain
from initframe.fills.composed import Blocks, Copied, Masked, Partial
from initframe.fills.current import OnCurrent
from initframe.fills.derived import Chrono, LogUniform, Mimetic, Repeated, StepBias
from initframe.fills.elementwise import Constant, Mapped, Normal, TruncatedNormal, Uniform
from initframe.fills.fill import Fill, Shape
from initframe.fills.pretrained import Stored
from initframe.fills.scaled import MultipliedMap, MultipliedWhole
from initframe.fills.stacked import Stacked
from initframe.fills.structured import DeltaOrthogonal, Dirac, Identity, Orthogonal, PartialHadamard, Sparse
from initframe.fills.table import BilinearKernel, Rows, SineCosine, Sinusoids, Table
from initframe.model.axes import ORDER, member_shape

KINDS: dict[str, type[Fill]] = {
    kind.__new__(kind).kind: kind
    for kind in (
        *(BilinearKernel, Blocks, Chain, Chrono, Constant, Copied, DeltaOrthogonal, Dirac, Identity, LogUniform),
        *(Masked, Mimetic, MultipliedMap, MultipliedWhole, Normal, Orthogonal, PartialHadamard, Repeated, Rows),
        *(SineCosine, Sinusoids, Sparse, Stacked, StepBias, TruncatedNormal, Uniform),
    )
}
"""The fills that their data makes again, by name."""
NEEDS = {
    **dict.fromkeys(("keep", "shift", "scale", "shrink_perturb", "partial"), "current values"),
    **dict.fromkeys(("stored", "inflated", "resampled", "selected", "rechanneled"), "a file"),
    "table": "constructor",
}
"""What else initframe's other fills need, by name."""
MOST_STEPS, DEEPEST = 1_000, 16
"""How many steps a chain may have, and how deep fills may be inside each other."""

_FLOATS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def needs(fill: Fill) -> str:
    """Say what a fill's values need beyond its data, the seed and the name; empty if nothing.

    >>> from initframe.fills import Normal, Shift
    >>> needs(Normal(0.0, 0.02)), needs(Shift(1.0))
    ('', 'current values')
    """
    return ", ".join(dict.fromkeys(filter(None, map(_own_needs, fill.parts()))))


def _own_needs(fill: Fill) -> str:
    match fill:
        case Copied(source, from_memory=True):
            return f"the values of {source}"
        case Stored(path):
            return f"the file {path}"
    if type(fill).__module__.partition(".")[0] == __name__.partition(".")[0]:
        if isinstance(fill, OnCurrent | Partial):
            return "current values"
        if isinstance(fill, Table):
            return "constructor"
    return "" if type(fill) in KINDS.values() else f"the code of {type(fill).__module__}.{type(fill).__qualname__}"


def constants(fill: Fill) -> list[dict[str, str]]:
    """List the constants of every distribution in a fill, as hex bits of what the stream draws with."""
    if isinstance(fill, Mapped):  # a fill inside says what is drawn, and is not drawn itself
        return [stream.constants(*fill.draws)]
    if fill.distribution:
        return [stream.constants(fill.distribution, fill.args)]
    return [found for part in fill.inner for found in constants(part)]


def to_record(fill: Fill) -> dict[str, Any]:
    """Return a fill as plain data from which :func:`from_record` makes it again; shapes are the tensor's.

    Args:
        fill: one that :func:`needs` nothing else.

    >>> from initframe.fills import Blocks, Constant
    >>> to_record(Blocks((Constant(1.0), Constant(0.0)), (2, 1)))["sizes"]
    [2, 1]
    """
    names = [field.name for field in dataclasses.fields(fill) if field.name != "shape"]
    return {"kind": fill.kind, **{name: _plain(getattr(fill, name)) for name in names}}


def _plain(value: Any) -> Any:
    if isinstance(value, Fill):
        return to_record(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):  # JSON has no such numbers
        return str(value)
    return value


def from_record(data: object, shape: Shape, depth: int = 0) -> Fill:
    """Make a fill from plain data, which may come from anywhere.

    What older records leave out (sizes of blocks, groups) is taken to be as it usually is.

    Args:
        data: as :func:`to_record` gives it, or an older manifest.
        shape: of the tensor.
        depth: of the fill inside others.

    Returns:
        The fill; :meth:`Fill.problem` says whether it can be drawn.

    Raises:
        InitframeError: it is no fill that its data makes.

    >>> from_record({"kind": "normal", "mean": 0.0, "std": 0.5}, (2, 3))
    Normal(mean=0.0, std=0.5)
    """
    if not isinstance(data, Mapping) or not isinstance(name := data.get("kind"), str):
        raise _wrong("fill", data, "It is a mapping with a kind.")
    if name not in KINDS or depth > DEEPEST:
        raise InitframeError(Problem(f"fill {name!r:.80}", "its data does not make it again."))
    kind = KINDS[name]
    given = {}
    for key, (hint, missing) in _hints(name).items():
        if key == "shape":
            given[key] = shape
        elif key in data:
            inner = _inner_shapes(kind, given, data, shape) if hint is Fill or get_args(hint)[:1] == (Fill,) else []
            given[key] = _read(hint, data[key], f"{name}.{key}", inner or [shape], depth)
        elif kind is Blocks and key == "sizes":
            given[key] = tuple(size[0] for size in _equal_blocks(data, shape))
        elif missing:
            raise InitframeError(Problem(f"fill {name}", f"it has no {key}."))
    found = kind(**given)
    if problem := _insane(found, shape):
        raise InitframeError(Problem(f"fill {name}", problem))
    return found


@cache
def _hints(name: str) -> dict[str, tuple[Any, bool]]:
    """A fill's fields: their types, and whether they have no default; fills inside come last."""
    kind = KINDS[name]
    hints = get_type_hints(kind)
    own = {field.name: (hints[field.name], field.default is dataclasses.MISSING) for field in dataclasses.fields(kind)}
    return dict(sorted(own.items(), key=lambda item: item[1][0] is Fill or get_args(item[1][0])[:1] == (Fill,)))


def _inner_shapes(kind: type[Fill], given: Mapping[str, Any], data: Mapping[str, Any], shape: Shape) -> list[Shape]:
    """The shapes that the fills inside cover, from the fields that were read already."""
    if kind is Blocks:
        dim, sizes = given.get("dim", 0), given.get("sizes")
        if not 0 <= dim < len(shape):
            raise InitframeError(Problem("fill blocks", f"dimension {dim} is not one of {list(shape)}."))
        if sizes is None:
            return _equal_blocks(data, shape)
        return [(*shape[:dim], size, *shape[dim + 1 :]) for size in sizes]
    if kind is Stacked:
        axes = given["axes"]
        words = {"batch", *ORDER}
        if len(axes) != len(shape) or not words.issuperset(axes):
            raise InitframeError(Problem("fill stacked", f"axes are {shown(axes)}, for {list(shape)}."))
        return [member_shape(shape, axes)]
    if kind is Repeated:
        times = given["times"]
        return [(shape[0] // times, *shape[1:])] if shape and times > 0 else [shape]
    return [shape]


def _equal_blocks(data: Mapping[str, Any], shape: Shape) -> list[Shape]:
    """The shapes of blocks of which a record of format 1 does not say more than their number."""
    fills = data.get("fills")
    count = len(fills) if isinstance(fills, Sequence) else 0
    if not count or not shape or shape[0] % count:
        raise InitframeError(Problem("fill blocks", "its record does not say how large the blocks are."))
    return [(shape[0] // count, *shape[1:])] * count


def _read(hint: Any, value: object, at: str, shapes: Sequence[Shape], depth: int) -> Any:
    """Read one field by its type."""
    if hint is float and (type(value) in (int, float) or (isinstance(value, str) and value in _FLOATS)):
        return _FLOATS[value] if isinstance(value, str) else value
    if hint is int and type(value) is int and abs(value) < 2**63:
        return value
    if hint in (bool, str) and type(value) is hint:
        return value
    if get_origin(hint) is Literal and value in get_args(hint):
        return value
    if isinstance(hint, type) and issubclass(hint, Fill):
        found = from_record(value, shapes[0], depth + 1)
        if isinstance(found, hint):
            return found
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        inside = get_args(hint)
        if at == "chain.steps":
            return _steps(value)
        kinds = [inside[0]] * len(value) if inside[-1] is Ellipsis else inside
        if len(kinds) == len(value):
            own = [[one] for one in shapes] if len(shapes) == len(value) else [list(shapes)] * len(value)
            return tuple(_read(k, v, at, s, depth) for k, v, s in zip(kinds, value, own, strict=True))
    raise _wrong(at, value)


def _steps(given: Sequence[object]) -> tuple[Any, ...]:
    """Read the steps of a chain: known operations on numbers, the draw and results of earlier steps."""
    if len(given) > MOST_STEPS:
        raise InitframeError(Problem("chain.steps", f"it has {len(given)} steps; {MOST_STEPS} is the limit."))
    for i, step in enumerate(given):
        if not isinstance(step, list | tuple) or not step or step[0] not in OPERATIONS or len(step) > 4:
            raise _wrong("chain.steps", step, f"A step begins with one of {', '.join(OPERATIONS)}.")
        known = {"x", *(f"#{earlier}" for earlier in range(i))}
        for operand in step[1:]:
            if type(operand) not in (int, float) and not (isinstance(operand, str) and operand in known | {*_FLOATS}):
                raise _wrong("chain.steps", operand, "An operand is a number, x, or the result of an earlier step.")
    return tuple(
        (step[0], *(_FLOATS.get(operand, operand) if isinstance(operand, str) else operand for operand in step[1:]))
        for step in given
        if isinstance(step, list | tuple)
    )


def _insane(fill: Fill, shape: Shape) -> str | None:
    """Say what a recipe would not have let pass, and what would take forever."""
    match fill:
        case Blocks(sizes=sizes) if min(sizes, default=0) < 0:
            return f"its sizes are {shown(sizes)}."
        case SineCosine(prefix=prefix, grid=grid):
            if len(shape) < 2 or not 0 <= prefix <= shape[-2] or len(grid) > 2 or min(grid, default=1) < 1:
                return f"it is made for other shapes than {list(shape)}."
            if grid and math.prod(grid) + prefix != shape[-2]:
                return f"its grid has {math.prod(grid)} positions; the tensor has {shape[-2]}."
        case Mimetic(heads=heads):
            if len(shape) != 2 or not 1 <= heads <= max(shape[-1], 1):
                return f"it has {heads} heads for {list(shape)}."
        case Chain(source) if not source.distribution:
            return f"it starts from {source.kind}, which is no distribution."
    return None


def _wrong(at: str, value: object, options: str = "") -> InitframeError:
    return InitframeError(Problem(at, f"it is {shown(value)}.", options))
