"""Templates to HTML: everything from outside is shown as text, bounded, and runs nothing."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from initframe.errors import InitframeError, Problem, printable
from initframe.files.atomic import replacing
from initframe.version import __version__

if TYPE_CHECKING:
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        caption: what it shows.
        columns: heads and kinds (``"name"``, ``"number"``, ``"text"``).
        rows: the cells.
    """

    caption: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[Cells, ...]


@dataclass(frozen=True)
class Cells:
    """One row of a table.

    Attributes:
        cells: texts, each with the number that it is sorted by; a text that is no number has ``""``.
        flagged: whether the row stands out.
    """

    cells: tuple[tuple[str, str], ...]
    flagged: bool = False


def row(*values: Any, flagged: bool = False) -> Cells:
    """A row from texts and numbers; ``None`` and numbers that are not finite are shown as a dash.

    >>> row("fc", 0.123456, None).cells
    (('fc', ''), ('0.123', '0.123456'), ('—', ''))
    """
    return Cells(tuple(map(_cell, values)), flagged)


def _cell(value: Any) -> tuple[str, str]:
    if isinstance(value, tuple):  # a text with its number
        return str(value[0]), str(value[1])
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "—", ""
    if isinstance(value, int):
        return f"{value:,}", str(value)
    return (f"{value:.3g}", repr(value)) if isinstance(value, float) else (str(value), "")


def visible(text: object, limit: int = 160) -> str:
    r"""A text as it is shown: what cannot be seen is written as an escape, and a long text loses its middle.

    Args:
        text: any.
        limit: characters to show at most; line breaks count as they are.

    >>> visible("\x1b[31m" + "a" * 30 + "\u202e", limit=20)
    '\\x1b[31maa…aaa\\u202e'
    """
    shown = str(text)
    if len(shown) <= limit and (shown.isprintable() or all(c.isprintable() or c == "\n" for c in shown)):
        return shown
    head, tail = ([printable(c, besides="\n") for c in part] for part in (shown[:limit], shown[-limit:]))
    if len(shown) <= limit and sum(map(len, head)) <= limit:
        return "".join(head)
    while sum(map(len, head)) > limit // 2:
        head.pop()
    while sum(map(len, tail)) > limit - limit // 2 - 1:
        tail.pop(0)
    return "".join([*head, "…", *tail])


def sentence(text: object) -> str:
    """A sentence as it is shown: up to 600 characters on one line."""
    return visible(" ".join(str(text).split(" ")), 600)


def name(text: object) -> Markup:
    """A tensor's name as HTML that may break after its dots and underscores.

    >>> name("a.b<")
    Markup('a.<wbr>b&lt;')
    """
    from markupsafe import Markup, escape  # noqa: PLC0415

    return Markup(re.sub(r"([._])", r"\1<wbr>", str(escape(visible(text)))))  # noqa: S704  # escaped before


def trusted(svg: str) -> Markup:
    """Mark a figure that this package drew as HTML."""
    from markupsafe import Markup  # noqa: PLC0415

    return Markup(svg)  # noqa: S704  # figures hold numbers and this package's own words only


def render(template: str, **values: Any) -> str:
    """Fill a template of this package.

    Args:
        template: the file's name.
        **values: what it shows; texts are escaped.

    Raises:
        InitframeError: a library that pages need is not installed.
    """
    need_libraries()
    import jinja2  # noqa: PLC0415  # only for people who look

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"visible": visible, "sentence": sentence, "name": name}
    script = (TEMPLATES / "table.js").read_text(encoding="utf-8")
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    shared = {"version": __version__, "script_digest": _digest(script)}
    own = {"script": trusted(script), "style": trusted(style)}
    return environment.get_template(template).render(**shared, **own, **values)


def need_libraries() -> None:
    """Refuse to make a page without the libraries that it needs.

    Raises:
        InitframeError: one is not installed.
    """
    missing = []
    try:
        import jinja2  # noqa: F401, PLC0415
    except ImportError:
        missing.append("jinja2")
    try:
        import matplotlib as mpl  # noqa: F401, PLC0415
    except ImportError:
        missing.append("matplotlib")
    if missing:
        fact = f"{' and '.join(missing)} cannot be imported."
        raise InitframeError(Problem("pages", fact, "", "Install what pages need: pip install 'initframe[pages]'."))


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """At most so many items, evenly spaced, the first and the last among them.

    >>> evenly(range(100), 4)
    [0, 33, 66, 99]
    """
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def save(text: str, path: str | PathLike[str]) -> Path:
    """Write a page to a file, whole or not at all.

    Args:
        text: the page.
        path: where to.

    Returns:
        The path.
    """
    target = Path(path)
    with replacing(target) as (draft,):
        draft.write_text(text, encoding="utf-8")
    return target


def _digest(script: str) -> str:
    """The script's hash, by which the page's own policy lets it run, and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
