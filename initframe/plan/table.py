"""Rows of text as an aligned table that fits a width."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

from initframe.errors import printable
from initframe.plan.text import WIDTH

_GAP = "  "
"""Between two columns."""
_WORD = re.compile(r"\s*\S+\s*")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int = WIDTH) -> str:
    """Rows as aligned text of at most ``width`` columns of a terminal; cells that do not fit are folded.

    The widest columns give way first. A line ends between words if it can, and inside of a word that is longer than
    its column.

    Args:
        columns: heads; a line break in one starts a new line.
        rows: cells, as many as there are columns.
        width: what the table must fit in; with less room than three characters for each column, it is wider.

    >>> print(table(("tensor", "shape"), [("fc.weight", "10×4"), ("fc.bias", "10")]))
    tensor     shape
    ────────────────
    fc.weight  10×4
    fc.bias    10
    """
    heads = [[printable(line) for line in column.split("\n")] for column in columns]
    cells = [[printable(cell) for cell in column] for column in zip(*rows, strict=True)] or [[] for _ in heads]
    texts = [(*head, *dict.fromkeys(column)) for head, column in zip(heads, cells, strict=True)]
    widths = _fitted([max(map(_width, some)) or 1 for some in texts], width)
    lines = [{text: _folded(text, size) for text in some} for some, size in zip(texts, widths, strict=True)]
    head = [[part for line in some for part in known[line]] for some, known in zip(heads, lines, strict=True)]
    height = max(map(len, head), default=0)
    top = [[""] * (height - len(some)) + some for some in head]
    folded = (map(dict.__getitem__, lines, row) for row in zip(*cells, strict=True))
    rule = "─" * (sum(widths) + len(_GAP) * (len(widths) - 1))
    return "\n".join([*_lines(top, widths), rule, *(line for row in folded for line in _lines(list(row), widths))])


def _fitted(widths: Sequence[int], width: int) -> list[int]:
    """Narrow the widest columns until all fit, gaps included."""
    gaps = [1] * (len(widths) - 1) + [0] * min(len(widths), 1)
    room = max(width - sum(gaps), 2)
    # One space of a gap counts as its left column's; no column needs more than there is.
    sizes = [min(size + gap, room) for size, gap in zip(widths, gaps, strict=True)]
    while (excess := sum(sizes) - room) > 0 and (widest := max(sizes)) > 2:
        limit = widest - max((size for size in sizes if size < widest), default=0)
        those = [i for i, size in enumerate(sizes) if size == widest]
        for left, i in zip(range(len(those), 0, -1), those, strict=True):
            cut = min(limit, round(excess / left))
            sizes[i] -= cut
            excess -= cut
    return [max(size - gap, 1) for size, gap in zip(sizes, gaps, strict=True)]


def _lines(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    """Yield the lines of one row from those of its cells."""
    for i in range(max(map(len, cells), default=0)):
        parts = (_padded(lines[i] if i < len(lines) else "", size) for lines, size in zip(cells, widths, strict=True))
        yield _GAP.join(parts).rstrip()


def _padded(text: str, size: int) -> str:
    return text.ljust(size) if text.isascii() else text + " " * (size - _width(text))


def _folded(text: str, size: int) -> list[str]:
    """Break a text into lines of at most ``size`` columns."""
    if _width(text) <= size:
        return [text]
    lines, line = [], ""
    for word in _WORD.findall(text):
        bare = word.rstrip()
        if line and _width(line) + _width(bare) > size:
            lines.append(line.rstrip())
            line = ""
        *full, last = _chopped(bare, size)
        lines += full
        line += last + word[len(bare) :]
    return [*lines, line.rstrip()]


def _chopped(word: str, size: int) -> list[str]:
    """Cut a word into parts of at most ``size`` columns."""
    if word.isascii():
        return [word[i : i + size] for i in range(0, len(word), size)]
    parts, used = [""], 0
    for char in word:
        used += _columns(char)
        if parts[-1] and used > size:
            parts.append("")
            used = _columns(char)
        parts[-1] += char
    return parts


def _width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


@lru_cache(maxsize=4096)
def _columns(char: str) -> int:
    """How many columns a character takes: two for East Asian ones and most pictures, none for combining marks."""
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
