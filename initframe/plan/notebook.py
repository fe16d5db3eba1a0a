"""What a notebook shows: tables as HTML of bounded size, and rows as a pandas DataFrame."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from initframe.errors import InitframeError, Problem, printable

LIMIT = 100_000
"""Characters of a table's rows; rows beyond are counted instead. The caption and the lines have room on top."""
CELL, LINE = 100, 400
"""Characters of a cell and of a line; longer ones lose their end."""


def html_table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], lines: Sequence[str] = ()) -> str:
    """A table for a notebook, at most 120,000 characters: every text is escaped, and cut if it is long.

    Args:
        caption: of the table.
        columns: heads.
        rows: cells as text.
        lines: what is said below the table; of more than 20, the rest is counted.

    >>> html_table("a<b", ["x"], [["1"]])
    '<table><caption>a&lt;b</caption><thead><tr><th>x</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>'
    """
    head = f"<table><caption>{_cut(caption, LINE)}</caption><thead>{_row('th', columns)}</thead><tbody>"
    body, size = [], 0
    for row in rows:
        written = _row("td", row)
        size += len(written)
        if size > LIMIT:
            break
        body.append(written)
    left = [f"… {len(rows) - len(body)} further rows."] if len(body) < len(rows) else []
    more = [f"… {len(lines) - 20} further lines."] if len(lines) > 20 else []
    below = [f"<p>{_cut(line, LINE)}</p>" for line in [*left, *lines[:20], *more]]
    while sum(map(len, below)) > 120_000 - LIMIT - 10_000:
        below.pop()
    return f"{head}{''.join(body)}</tbody></table>{''.join(below)}"


def frame(rows: Iterable[Mapping[str, Any]]) -> Any:
    """Rows as a pandas DataFrame.

    Args:
        rows: one mapping per row.

    Raises:
        InitframeError: pandas is not installed.
    """
    try:
        import pandas as pd  # type: ignore[import-untyped]  # noqa: PLC0415  # the user's own
    except ImportError:
        problem = Problem("to_frame", "pandas cannot be imported.", "", "Install it: pip install pandas.")
        raise InitframeError(problem) from None
    return pd.DataFrame(list(rows))


def _row(tag: str, texts: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{_cut(text, CELL)}</{tag}>" for text in texts) + "</tr>"


def _cut(text: str, limit: int) -> str:
    """A text as HTML; what cannot be seen is written as an escape."""
    return html.escape(printable(text if len(text) <= limit else text[: limit - 1] + "…"))
