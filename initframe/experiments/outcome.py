"""The outcome of a claim's experiment as text, as data, as a picture, and as a part of a page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from statistics import fmean
from typing import Any

from initframe.experiments.claim import Check, Outcome, Panel, Result
from initframe.pages.figures import LIGHT, Line, draw, styled
from initframe.plan.text import WIDTH, table, wrapped

POINTS = 60
"""Points of a curve that a picture shows."""


# --- text and data ---------------------------------------------------------------------------------------------------


def render(outcome: Outcome, width: int = WIDTH) -> str:
    """An outcome as text: whose claim, a table with the paper's number next to ours, the verdict."""
    seeds = f"{outcome.numbers['seeds']} seeds, {outcome.seconds:.0f} s"
    head = wrapped(f"{outcome.numbers['paper']}. Here: {outcome.numbers['here']} ({seeds}).", width)
    columns = ("number", "the paper", "here", "holds")
    rows = [(one.what, one.paper, spread(one.values), one.judged) for one in outcome.checks]
    return "\n".join([head, table(columns, rows, width), wrapped(outcome.verdict, width)])


def spread(values: Sequence[float]) -> str:
    """The mean of several seeds, with the lowest and the highest if they differ.

    >>> spread((2.0, 2.0)), spread((1.0, 2.0)), spread((1.0, math.inf))
    ('2', '1.5 (1 to 2)', '∞ (1 to ∞)')
    """
    low, middle, high = map(_number, (min(values), fmean(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def _number(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.3g}"


def to_dict(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain data; what is not finite is ``None``."""
    return {
        "numbers": dict(outcome.numbers),
        "seconds": outcome.seconds,
        "verdict": outcome.verdict,
        "checks": [
            {"what": one.what, "paper": one.paper, "here": _plain(one.values), "holds": one.holds}
            for one in outcome.checks
        ],
        "runs": [
            {"at": dict(one.at), "seed": one.seed, **{key: _plain(value) for key, value in one.values.items()}}
            for one in outcome.results.every
        ],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Sequence):
        return [_plain(one) for one in value]
    return value if math.isfinite(value) else None


def section(name: str, outcome: Outcome) -> str:
    """An outcome as a section of a page in Markdown.

    Args:
        name: the experiment's, which is also the name of its picture's file.
        outcome: the outcome.
    """
    says = outcome.numbers
    rows = "".join(f"| {' | '.join(_cells(one))} |\n" for one in outcome.checks)
    return (
        f"## {says['paper']}\n\n"
        f"Here: {says['here']}. {says['seeds']} seeds, {outcome.seconds:.0f} s: "
        f"`python scripts/train.py experiment={name}`\n\n"
        f"| number | the paper | here | holds |\n|---|---|---|---|\n{rows}\n"
        f"{outcome.verdict}\n\n"
        f"![{says['says']}](claims/{name}.svg)\n"
    )


def _cells(check: Check) -> tuple[str, ...]:
    return check.what, check.paper, spread(check.values), check.judged.replace("no", "**no**")


# --- the picture -----------------------------------------------------------------------------------------------------


def picture(outcome: Outcome, panels: Sequence[Panel]) -> str:
    """An outcome's panels as one SVG file, on white.

    Args:
        outcome: the outcome.
        panels: what to draw, from left to right.
    """
    import matplotlib as mpl  # noqa: PLC0415  # for people who look
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(4.6 * len(panels), 3.6), layout="constrained")
    for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        styled(axis)
        named = _lines(outcome.results.every, panel)
        lines = [line for _, line in named]
        drawn = draw(axis, lines, LIGHT, logarithmic=panel.logarithmic)
        if panel.wide:
            marks = sorted({x for line in lines for x in line.x})
            axis.set_xscale("log")
            axis.set_xticks(marks, [f"{x:.3g}" for x in marks])
            axis.set_xticks([], minor=True)
        axis.set_xlabel(panel.x)
        axis.set_title(panel.label, loc="left", fontsize=10)
        axis.legend(
            drawn,
            [label for label, _ in named],
            fontsize="small",
            frameon=False,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.18),
            ncols=2,
        )
    text = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "initframe"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def _lines(results: Sequence[Result], panel: Panel) -> list[tuple[str, Line]]:
    """The lines of a panel, each with its label."""
    groups: dict[str, list[tuple[str, Result]]] = {}
    for one in results:
        if panel.where(one.at):
            for y in (panel.y,) if isinstance(panel.y, str) else panel.y:
                words = [str(one.at["start"]), *(f"{key} {one.at[key]}" for key in panel.lines)]
                label = ", ".join([*words, *([] if isinstance(panel.y, str) else [y])])
                groups.setdefault(label.replace("$", r"\$"), []).append((y, one))
    named = ((label, _points(group, panel)) for label, group in groups.items())
    return [(label, _line(series, points)) for series, (label, points) in enumerate(named) if points]


def _points(group: Sequence[tuple[str, Result]], panel: Panel) -> Mapping[float, list[float]]:
    """The values of a line by their abscissa, over seeds; what a logarithmic scale cannot show is left out."""
    points: dict[float, list[float]] = {}
    for y, one in group:
        for x, value in _pairs(one, y, panel):
            if math.isfinite(value) and (value > 0 or not panel.logarithmic):
                points.setdefault(x, []).append(value)
    return points


def _pairs(one: Result, name: str, panel: Panel) -> Iterator[tuple[float, float]]:
    value = one.values[name]
    if not isinstance(value, Sequence):
        yield float(one.at[panel.x]), value
        return
    size = max(1, -(-len(value) // POINTS))  # neighbours of a long curve are averaged
    for start in range(0, len(value), size):
        part = value[start : start + size]
        yield start + (len(part) + 1) / 2, fmean(part)


def _line(series: int, points: Mapping[float, list[float]]) -> Line:
    x = tuple(sorted(points))
    low, middle, high = (tuple(what(points[one]) for one in x) for what in (min, fmean, max))
    return Line(series, x, middle, low, high)
