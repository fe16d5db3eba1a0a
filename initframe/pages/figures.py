"""Figures as SVG inside a page: drawn by matplotlib, coloured by the page's own style sheet."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from initframe.pages.measured import Histogram

_REFERENCE = re.compile(r"(?:url\(#|href=\"#)([^\")]+)")
COLOURS = 6
"""Colours of series in the style sheet, ``--s0`` to ``--s5``; further series differ in their dashes."""
LIGHT = ("#0b6bab", "#c24d00", "#197a57", "#9a3f86", "#7d6200", "#54575c")
"""What they are on a light page, for figures outside of a page."""
DASHES = ("", "7 3", "2 2", "8 3 2 3")
"""Dashes of series, as SVG writes them: the second sign by which to tell lines apart."""
# matplotlib writes the colours, the page gives them their values, light or dark.
_INK, _FAINT, _GRID = "#010101", "#020202", "#030303"
_SERIES = {f"#0{i + 4}0{i + 4}0{i + 4}": f"s{i}" for i in range(COLOURS)}
_VARIABLES = {_INK: "ink", _FAINT: "faint", _GRID: "grid", **_SERIES}


@dataclass(frozen=True)
class Line:
    """One line of a panel.

    Attributes:
        series: which series it belongs to, for colour and dashes.
        x: abscissas.
        y: middle values.
        low: of several seeds, the lowest values,
        high: and the highest.
    """

    series: int
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def colour(series: int) -> str:
    """The name of a series' colour in the style sheet.

    >>> colour(7)
    's1'
    """
    return f"s{series % COLOURS}"


def dashes(series: int) -> str:
    """The dashes of a series, as SVG's ``stroke-dasharray``.

    >>> dashes(1)
    '7 3'
    """
    return DASHES[series % len(DASHES)]


def panel(lines: Sequence[Line], *, label: str, logarithmic: bool, x_label: str = "weighted layer") -> str:
    """A panel of lines over depth, as an ``<svg>`` element.

    Args:
        lines: what to draw.
        label: of the ordinate; plain text of this package, never a name from outside.
        logarithmic: the ordinate's scale.
        x_label: of the abscissa.
    """
    figure, axis = _blank(4.0, 2.7)
    draw(axis, lines, list(_SERIES), logarithmic=logarithmic)
    axis.set_xlabel(x_label)
    axis.set_title(label, loc="left", fontsize=10, color=_INK)
    return _svg(figure)


def draw(axis: Any, lines: Sequence[Line], colours: Sequence[str], *, logarithmic: bool) -> list[Any]:
    """Draw lines over depth into an axis of matplotlib, each with the band of its seeds.

    Args:
        axis: the axis.
        lines: what to draw.
        colours: of the series, as matplotlib takes them.
        logarithmic: the ordinate's scale.

    Returns:
        What matplotlib drew for each line.
    """
    drawn = []
    for line in lines:
        tint = colours[line.series % COLOURS]
        if line.low != line.high:
            axis.fill_between(line.x, line.low, line.high, color=tint, alpha=0.18, linewidth=0)
        marker = "o" if len(line.x) == 1 else ""
        one = axis.plot(line.x, line.y, color=tint, linewidth=1.8, marker=marker, markersize=4)[0]
        if dash := [float(part) / 1.8 for part in dashes(line.series).split()]:
            one.set_dashes(dash)
        drawn.append(one)
    if logarithmic:
        _logarithmic(axis, [y for line in lines for y in (*line.low, *line.high)])
    axis.xaxis.get_major_locator().set_params(integer=True)
    return drawn


def sizes(planned: Sequence[float | None], found: Sequence[float | None], *, width: float) -> str:
    """Planned and measured std of every tensor, in the model's order.

    Args:
        planned: the planned ones.
        found: the measured ones.
        width: of the figure, in inches of 10-point text.
    """
    figure, axis = _blank(width, 2.6)
    points = [(i, y) for i, y in enumerate(planned) if y]
    axis.plot(*zip(*points, strict=True), linestyle="", marker="_", markersize=9, color=_tint(1), markeredgewidth=1.6)
    if points := [(i, y) for i, y in enumerate(found) if y]:
        axis.plot(*zip(*points, strict=True), linestyle="", marker="o", markersize=3.2, color=_tint(0), alpha=0.85)
    _logarithmic(axis, [y for y in (*planned, *found) if y])
    axis.set_title("std", loc="left", fontsize=10, color=_INK)
    axis.set_xlabel("tensor, in the model's order")
    axis.xaxis.get_major_locator().set_params(integer=True)
    return _svg(figure)


def bars(histogram: Histogram) -> str:
    """A histogram: measured shares filled, planned ones as an outline."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    figure, axis = _blank(2.0, 1.15)
    axis.stairs(histogram.found, histogram.edges, fill=True, color=_tint(0), alpha=0.45)
    if histogram.planned is not None:
        axis.stairs(histogram.planned, histogram.edges, color=_tint(1), linewidth=1.4, baseline=None)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.grid(visible=False)
    low, high = histogram.edges[0], histogram.edges[-1]
    ticks = [
        tick for tick in MaxNLocator(nbins=3, steps=[1, 2, 4, 5, 10]).tick_values(low, high) if low <= tick <= high
    ]
    axis.set_xticks(ticks, [_short(tick, high - low) for tick in ticks])
    axis.set_xlim(low, high)
    axis.set_ylim(bottom=0)
    return _svg(figure)


def _tint(series: int) -> str:
    return list(_SERIES)[series % COLOURS]


def _short(value: float, span: float) -> str:
    """A tick with as many digits as the span needs."""
    return "0" if abs(value) < span / 1000 else f"{value:.2g}".replace("-", "−")


def _blank(width: float, height: float) -> tuple[Any, Any]:
    """A figure with one axis in the pages' style, without matplotlib's global state."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # only for people who look

    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    axis.patch.set_visible(False)
    figure.patch.set_visible(False)
    styled(axis, _INK, _FAINT, _GRID)
    return figure, axis


def styled(axis: Any, ink: str = "#1d1b18", faint: str = "#8a857b", grid: str = "#e7e3da") -> None:
    """Give an axis the pages' style.

    Args:
        axis: an axis of matplotlib.
        ink: colour of text.
        faint: of the frame and its ticks.
        grid: of the lines behind.
    """
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(faint)
    axis.tick_params(colors=faint, labelcolor=ink, labelsize=9, length=3)
    axis.xaxis.label.set(color=ink, fontsize=9)
    axis.grid(axis="y", color=grid, linewidth=0.8)
    axis.set_axisbelow(True)


def _logarithmic(axis: Any, values: Sequence[float]) -> None:
    """A logarithmic ordinate with a few round ticks."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator  # noqa: PLC0415

    axis.set_yscale("log")
    low, high = (min(values), max(values)) if values else (1.0, 1.0)
    low, high = (low / 1.25, high * 1.25) if high / low > 1.6 else (low / 1.6, high * 1.6)
    ticks = list(_ticks(low, high))
    axis.set_ylim(low, high)
    axis.yaxis.set_major_locator(FixedLocator(ticks))
    axis.yaxis.set_major_formatter(FixedFormatter([_decimal(tick) for tick in ticks]))
    axis.yaxis.set_minor_locator(NullLocator())


def _ticks(low: float, high: float) -> Iterator[float]:
    """At most about eight round numbers between two."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = math.log10(high / low)
    mantissas = (1, 1.5, 2, 3, 4, 5, 7) if decades < 0.8 else (1, 2, 5) if decades < 2 else (1,)
    step = max(math.ceil(decades / 7), 1)
    for power in range(first, last + 1):
        if power % step == 0 or len(mantissas) > 1:
            yield from (tick for m in mantissas if low <= (tick := m * 10.0**power) <= high)


def _decimal(value: float) -> str:
    """A tick's text: ``0.02`` or ``10⁻⁵``.

    >>> _decimal(1e-5), _decimal(0.2), _decimal(20.0), _decimal(5e8)
    ('10⁻⁵', '0.2', '20', '5·10⁸')
    """
    if 1e-3 <= value < 1e4:
        return f"{value:g}"
    power = math.floor(math.log10(value) + 1e-9)
    mantissa = round(value / 10.0**power)
    raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if mantissa == 1 else f"{mantissa}·10{raised}"


def _rounded(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")


def _svg(figure: Any) -> str:
    """A figure as an SVG element of a page: no ids but those it refers to, colours by name, text as text."""
    import matplotlib as mpl  # noqa: PLC0415

    text = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "initframe"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    own = f"f{zlib.crc32(svg.encode()):08x}"
    used = {name: f"{own}-{i}" for i, name in enumerate(dict.fromkeys(_REFERENCE.findall(svg)))}
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{used[found[1]]}"' if found[1] in used else "", svg)
    svg = _REFERENCE.sub(lambda found: found[0].replace(found[1], used[found[1]]), svg)
    svg = re.sub(r"<[^<>]*>", lambda tag: re.sub(r"\d+\.\d{3,}", _rounded, tag[0]), svg)
    for raw, name in _VARIABLES.items():
        svg = svg.replace(raw, f"var(--{name})")
    svg = re.sub(r" font-family: [^;]*;| transform=\"rotate\(-0 [^)]*\)\"", "", svg)
    svg = re.sub(
        r'<svg[^>]*?viewBox="([^"]*)"[^>]*>', r'<svg aria-hidden="true" focusable="false" viewBox="\1">', svg, count=1
    )
    svg = svg.replace("xlink:href", "href")
    return re.sub(r">\s+<", "><", svg).strip()
