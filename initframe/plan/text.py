"""Plans and reports as text: lines that fit, words for numbers, and many names in few words."""

from __future__ import annotations

import math
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from initframe.errors import printable
from initframe.fills import Fill
from initframe.model.slot import Slot

WIDTH = 100
"""Columns of a printed plan."""

Template = tuple[str, ...]
Point = tuple[int, ...]
Box = tuple[tuple[int, ...], ...]

_NUMBER = re.compile(r"(?<![^.])(0|[1-9][0-9]{0,14})(?![^.])")


def shape(slot: Slot) -> str:
    """A slot's shape, as people write it: ``64×3×11×11``."""
    return "×".join(map(str, slot.shape)) or "scalar"


def moments(fill: Fill) -> str:
    """A fill's mean and std, or a dash if they depend on the current values."""
    return "—" if math.isnan(fill.std) else f"{fill.mean:.3g} ± {fill.std:.3g}"


def counted(n: int, noun: str) -> str:
    """A count with its noun: ``1 tensor``, ``2 tensors``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def number(value: Any) -> str:
    """An argument's value, as a reader wants it.

    >>> number((2**0.5, "fan_in"))
    '[1.414, fan_in]'
    """
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(number, value)) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def wrapped(line: str, width: int = WIDTH) -> str:
    """A line as several that fit, the later ones indented.

    >>> print(wrapped("Untouched (3): a, b, c", width=18))
    Untouched (3): a,
      b, c
    """
    lines = textwrap.wrap(printable(line), width, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines)


def fold(names: Iterable[str]) -> list[str]:
    """Write names that differ in whole integer segments as one.

    Args:
        names: tensor names.

    Returns:
        Fewer names, that stand for exactly the given ones.

    >>> fold(["h.0.w", "h.1.w", "h.2.w", "head.w"])
    ['h.0…2.w', 'head.w']
    >>> fold(["a.0.x.0", "a.0.x.1", "a.1.x.0", "a.1.x.1", "a.5.x.7"])
    ['a.0…1.x.0…1', 'a.5.x.7']
    """
    points: dict[Template, set[Point]] = defaultdict(set)
    for name in names:
        found, point = template(name)
        points[found].add(point)
    return [_written(found, box) for found, some in points.items() for box in _boxes(sorted(some))]


def template(name: str) -> tuple[Template, Point]:
    """Take a name apart: the text around its integer segments, and these.

    >>> template("h.3.mlp.0.w")
    (('h.', '.mlp.', '.w'), (3, 0))
    """
    parts = _NUMBER.split(name)
    return tuple(parts[::2]), tuple(map(int, parts[1::2]))


def _boxes(points: Sequence[Point]) -> list[Box]:
    """Cover points by products of sets: first numbers with the same rests go together."""
    if not points[0]:
        return [()]
    rests: dict[int, list[Point]] = defaultdict(list)
    for first, *rest in points:
        rests[first].append(tuple(rest))
    heads: dict[tuple[Box, ...], list[int]] = defaultdict(list)
    for first, several in rests.items():
        heads[tuple(_boxes(several))].append(first)
    return [(tuple(firsts), *box) for boxes, firsts in heads.items() for box in boxes]


def _written(found: Template, box: Box) -> str:
    numbers = [_runs(axis) for axis in box]
    return found[0] + "".join(number + text for number, text in zip(numbers, found[1:], strict=True))


def _runs(numbers: Sequence[int]) -> str:
    """Write sorted numbers as runs: ``0…3,7``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}…{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
