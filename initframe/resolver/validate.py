"""Whether a tensor can hold a fill: all that can be known before the first write."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from typing import Any

import torch
from torch import Tensor

from initframe import stream
from initframe.fills import (
    Blocks,
    Constant,
    Elementwise,
    Fill,
    Masked,
    Normal,
    OnCurrent,
    Orthogonal,
    Shift,
    ShrinkPerturb,
    Sparse,
    TruncatedNormal,
    Uniform,
    Whole,
)
from initframe.fills.pretrained import Stored

Shape = tuple[int, ...]

FARTHEST = 6.67
"""The stream's largest normal, in standard deviations: √(2·32·ln 2)."""


def misfit(fill: Fill, shape: Shape, dtype: torch.dtype) -> str | None:
    """Say why no tensor of a shape and dtype can hold a fill.

    Args:
        fill: any fill.
        shape: the tensor's.
        dtype: the tensor's.

    Returns:
        A sentence with the fact, or ``None`` where all is well.

    >>> misfit(Normal(0.0, 1e6), (2, 2), torch.float16)
    'normal(0, 1e+06) reaches to 6.67e+06, and torch.float16 only to 6.55e+04.'
    >>> misfit(Normal(0.0, 0.02), (2, 2), torch.float16) is None
    True
    """
    if fill.law:
        return _no_number(fill) or _undrawable(fill) or _overflow(fill, dtype)
    # One part after the other: what lies inside of a part is looked at when the part itself is sound.
    return next(filter(None, (_fact(part, here, dtype) for part, here in _parts(fill, shape))), None)


def failure(fill: Fill, device: torch.device) -> str | None:
    """Try the functions of a fill's custom laws on three uniforms, where they will run; look at files again.

    Returns:
        What goes wrong, or ``None``.

    >>> failure(Elementwise(lambda u: u.mean(), 0.5, 0.0), torch.device("cpu"))
    'elementwise(<lambda>, 0.5, 0) makes a value of shape [] from 3 uniforms. One value per uniform is needed.'
    """
    return next(filter(None, (_fails(part, device) for part in fill.parts())), None)


def _fails(part: Fill, device: torch.device) -> str | None:
    match part:
        case Elementwise():
            return _trial(part, torch.tensor([0.25, 0.5, 0.75], device=device))
        case Stored():
            return part.archive.fault()
    return None


def _parts(fill: Fill, shape: Shape) -> Iterator[tuple[Fill, Shape]]:
    """A fill and all fills inside it, each with the shape of what it fills."""
    yield fill, shape
    match fill:
        case Blocks(fills, sizes, dim):
            for part, size in zip(fills, sizes, strict=True):
                yield from _parts(part, (*shape[:dim], size, *shape[dim + 1 :]))
        case Masked(inner):
            yield from _parts(inner, shape)


def _fact(part: Fill, shape: Shape, dtype: torch.dtype) -> str | None:
    return _no_number(part) or _other_shape(part, shape) or _undrawable(part) or _overflow(part, dtype)


def _no_number(part: Fill) -> str | None:
    """What stands for a number and is none: an initializer of one's own may return anything."""
    kind: type = type(part)
    for name in _numbers(kind):
        value = getattr(part, name)
        if type(value) is not float and not _is_number(value):
            return f"{part.kind}: {name} is {value!r}. Give a real number."
    return None


@cache
def _numbers(kind: type) -> tuple[str, ...]:
    """The names of a kind of fill's numbers."""
    return tuple(field.name for field in fields(kind) if field.type in ("float", float))


def _is_number(value: object) -> bool:
    """Whether float() takes it: an int may be too large, and whatever else is no number."""
    try:
        return isinstance(value, int | float) and isinstance(float(value), float)
    except OverflowError:
        return False


def _other_shape(part: Fill, shape: Shape) -> str | None:
    """What was made for a tensor of another shape."""
    match part:
        case Whole(own) | Masked(shape=own) if own != shape:
            return f"{part} is made for the shape {list(own)}, and the tensor has {list(shape)}."
        case Masked(index=index) if not 0 < len(index) <= len(shape) or not _inside(index, shape):
            return f"{part}: the index lies outside of the shape {list(shape)}."
        case Blocks(fills, sizes, dim) if len(fills) != len(sizes) or sum(sizes) != dict(enumerate(shape)).get(dim):
            return f"{part}: blocks of {list(sizes)} are not dimension {dim} of {list(shape)}."
    return None


def _inside(index: tuple[int, ...], shape: Shape) -> bool:
    return all(0 <= i < size for i, size in zip(index, shape, strict=False))


def _undrawable(part: Fill) -> str | None:
    """What apply does not know, or the stream cannot draw."""
    law, args = ("normal", (0.0, part.scale)) if isinstance(part, Sparse) else (part.law, part.args)
    if law:
        problem = stream.check(law, args)
        return problem and f"{part} cannot be drawn: {problem}"
    if not isinstance(part, Constant | Elementwise | OnCurrent | Whole | Blocks | Masked):
        return f"{type(part).__name__} is no fill that apply knows. Build it from initframe's fills."
    return None


def _overflow(part: Fill, dtype: torch.dtype) -> str | None:
    """What a dtype cannot hold; an infinite constant is on purpose."""
    largest, reach = _largest(dtype), _reach(part)
    if largest < reach < math.inf:
        return f"{part} reaches to {reach:.3g}, and {dtype} only to {largest:.3g}."
    return None


@cache
def _largest(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).max if dtype.is_floating_point else math.inf


def _reach(part: Fill) -> float:
    """The largest absolute value that a fill can write by itself."""
    match part:
        case Constant(value) | Masked(value=value) | Shift(value):
            return abs(value)
        case Uniform(low, high) | TruncatedNormal(low=low, high=high):
            return max(abs(low), abs(high))
        case Normal(mean, std):
            return abs(mean) + FARTHEST * std
        case Orthogonal(gain=gain):
            return abs(gain)
        case Sparse(scale=std) | ShrinkPerturb(noise=std):
            return FARTHEST * std
    return 0.0


def _trial(law: Elementwise, uniforms: Tensor) -> str | None:
    try:
        values: Any = law.fn(uniforms)
    except Exception as error:  # noqa: BLE001  # a function of the user's own may raise anything
        return f"{law} fails with {type(error).__name__}: {error}."
    if not isinstance(values, Tensor):
        return f"{law} makes a {type(values).__name__} from uniforms. A tensor of their shape is needed."
    if values.shape != uniforms.shape:
        shown = list(values.shape)
        return f"{law} makes a value of shape {shown} from 3 uniforms. One value per uniform is needed."
    return None
