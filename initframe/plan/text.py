"""Plans and reports as text: tables, lines that fit, and words for numbers."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from io import StringIO
from typing import Any

from initframe.fills import Fill
from initframe.model.slot import Slot

WIDTH = 100
"""Columns of a printed plan."""


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int = WIDTH) -> str:
    """Rows as aligned text of at most ``width`` columns; long cells fold."""
    from rich import box  # noqa: PLC0415  # rich is for people who look, not for import
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    grid = Table(*columns, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for column in grid.columns:
        column.overflow = "fold"
    for row in rows:
        grid.add_row(*map(Text, row))
    console = Console(file=StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(grid)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def shape(slot: Slot) -> str:
    """A slot's shape, as people write it: ``64×3×11×11``."""
    return "×".join(map(str, slot.shape)) or "scalar"


def moments(fill: Fill) -> str:
    """A fill's mean and std, or a dash where they depend on the current values."""
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
    lines = textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines)
