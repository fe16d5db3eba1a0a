"""The picture of a claim's experiment: panels of lines, each with a band over its seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from statistics import fmean

from initframe.experiments.claim import Panel
from initframe.experiments.outcome import Data
from initframe.pages.figures import LIGHT, Line, draw, styled

POINTS = 60
"""Points of a curve that a picture shows."""


def picture(data: Data, panels: Sequence[Panel]) -> str:
    """An outcome's panels as one SVG file, on white.

    Args:
        data: the outcome.
        panels: what to draw, from left to right.
    """
    import matplotlib as mpl  # noqa: PLC0415  # for people who look
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(4.6 * len(panels), 3.6), layout="constrained")
    for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        styled(axis)
        named = _lines(data["runs"], panel)
        lines = [line for _, line in named]
        drawn = draw(axis, lines, LIGHT, logarithmic=panel.logarithmic)
        if panel.wide:
            marks = sorted({x for line in lines for x in line.x})
            axis.set_xscale("log")
            axis.set_xticks(marks, [f"{x:g}" for x in marks])
            axis.set_xticks([], minor=True)
        axis.set_xlabel(panel.x.replace("_", " "))
        axis.set_title(panel.label, loc="left", fontsize=10)
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18), "ncols": 2}
        axis.legend(drawn, [label for label, _ in named], fontsize="small", frameon=False, **below)
    text = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "initframe"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _lines(runs: Sequence[Data], panel: Panel) -> list[tuple[str, Line]]:
    """The lines of a panel, each with its label."""
    groups: dict[str, list[tuple[str, Data]]] = {}
    is_compared = len({run["at"]["start"] for run in runs}) > 1
    for run in runs:
        if panel.where(run["at"]):
            for y in (panel.y,) if isinstance(panel.y, str) else panel.y:
                words = [str(run["at"]["start"])] * is_compared + [f"{key} {run['at'][key]}" for key in panel.lines]
                label = ", ".join(words if isinstance(panel.y, str) else [*words, y])
                groups.setdefault(label.replace("$", r"\$"), []).append((y, run))
    named = ((label, _points(group, panel)) for label, group in groups.items())
    return [(label, _line(series, points)) for series, (label, points) in enumerate(named) if points]


def _points(group: Sequence[tuple[str, Data]], panel: Panel) -> Mapping[float, list[float]]:
    """The values of a line by their abscissa, over seeds; what the scale cannot show is left out."""
    points: dict[float, list[float]] = {}
    for y, run in group:
        for x, value in _pairs(run, y, panel):
            if value is not None and (value > 0 or not panel.logarithmic):
                points.setdefault(x, []).append(value)
    return points


def _pairs(run: Data, name: str, panel: Panel) -> Iterator[tuple[float, float | None]]:
    value = run["values"][name]
    if not isinstance(value, Sequence):
        yield float(run["at"][panel.x]), value
        return
    size = max(1, -(-len(value) // POINTS))  # neighbours of a long curve are averaged
    for start in range(0, len(value), size):
        part = value[start : start + size]
        yield start + (len(part) + 1) / 2, None if None in part else fmean(part)


def _line(series: int, points: Mapping[float, list[float]]) -> Line:
    x = tuple(sorted(points))
    low, middle, high = (tuple(what(points[one]) for one in x) for what in (min, fmean, max))
    return Line(series, x, middle, low, high)
