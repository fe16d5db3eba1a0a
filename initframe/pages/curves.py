"""Signals as lines over depth, each with its spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from initframe.errors import InitframeError, Problem
from initframe.pages.figures import LIGHT, Line, draw, panel, styled
from initframe.pages.render import Table, evenly, row, trusted, visible

LAYERS = 400
"""Rows of a table over depth; of more layers, some are left out evenly."""


@dataclass(frozen=True)
class Measure:
    """Something that a signal says of every layer.

    Attributes:
        key: its name in a row's data.
        title: its name on a page.
        logarithmic: whether it is shown on a logarithmic scale.
        caption: how to read it.
    """

    key: str
    title: str
    logarithmic: bool
    caption: str


MEASURES = (
    Measure("rms", "Activation rms", True, "The root mean square of each weighted layer's output. Flat is good."),
    Measure("grad_rms", "Gradient rms", True, "Of the loss with respect to each layer's output. Flat is good."),
    Measure("correlation", "Correlation of inputs", False, "The mean cosine of two inputs. At 1, they look the same."),
)


def panels(signals: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The panels over depth, each with its table.

    Args:
        signals: by label, as ``Signal.to_dict()`` gives them; with ``spreads``, the relative standard deviation of each
            row's rms over seeds, where several were averaged.

    Returns:
        Title, caption, figure and table of each measure that any signal has.
    """
    shown = []
    for measure, lines in measured_lines(signals):
        figure = panel(lines, label=measure.title, logarithmic=measure.logarithmic)
        table = _table(signals, measure)
        shown.append({"title": measure.title, "caption": measure.caption, "svg": trusted(figure), "table": table})
    return shown


def measured_lines(signals: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[Measure, list[Line]]]:
    """Give each measure that any signal has, with a line for each signal that has it.

    Args:
        signals: as for :func:`panels`.
    """
    for measure in MEASURES:
        found = (_line(series, signal, measure) for series, signal in enumerate(signals.values()))
        if lines := [line for line in found if line is not None]:
            yield measure, lines


def plot(signals: Mapping[str, Mapping[str, Any]], axes: Any = None) -> Any:
    """Draw the panels of a page with pyplot, for a notebook or a paper.

    Args:
        signals: as for :func:`panels`.
        axes: an array of axes, one per panel, or one for the first panel; by default a new figure's.

    Returns:
        The axes, as an array.

    Raises:
        InitframeError: matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415  # for people who look
        import numpy as np  # noqa: PLC0415
    except ImportError:
        problem = Problem("plot", "matplotlib is not installed.", "", "Install it: pip install matplotlib.")
        raise InitframeError(problem) from None
    shown = list(measured_lines(signals))
    if axes is None:
        size = (4.0 * max(len(shown), 1), 2.7)
        axes = plt.subplots(1, max(len(shown), 1), figsize=size, squeeze=False, layout="constrained")[1]
    drawn = np.atleast_1d(np.asarray(axes, dtype=object)).reshape(-1)
    names = list(signals)
    for axis, (measure, lines) in zip(drawn, shown, strict=False):
        styled(axis)
        curves = draw(axis, lines, LIGHT, logarithmic=measure.logarithmic)
        axis.set_xlabel("weighted layer")
        axis.set_title(measure.title, loc="left", fontsize=10)
        if axis is drawn[0] and len(signals) > 1:
            axis.legend(
                curves, [visible(names[line.series], 40).replace("$", r"\$") for line in lines], fontsize="small"
            )
    return drawn


def layers(signal: Mapping[str, Any], key: str) -> list[tuple[int, str, float, float]]:
    """The weighted layers of a signal that have a finite value; all calls, if none has a weight.

    Args:
        signal: its data.
        key: of the value, in a row.

    Returns:
        Depth, name, value and relative spread of each.
    """
    rows = list(zip(signal["rows"], signal.get("spreads") or repeat(None), strict=False))
    weighted = [pair for pair in rows if pair[0]["depth"] is not None] or rows
    found = [(depth, one[key], spread, one) for depth, (one, spread) in enumerate(weighted, 1)]
    return [
        (depth, label(one["name"], one["call"]), value, (spread or one["spread"] or 0.0) if key == "rms" else 0.0)
        for depth, value, spread, one in found
        if value is not None and math.isfinite(value)
    ]


def _line(series: int, signal: Mapping[str, Any], measure: Measure) -> Line | None:
    points = [one for one in layers(signal, measure.key) if one[2] > 0 or not measure.logarithmic]
    if not points:
        return None
    return Line(
        series,
        x=tuple(float(depth) for depth, _, _, _ in points),
        y=tuple(value for _, _, value, _ in points),
        low=tuple(value / (1 + spread) for _, _, value, spread in points),
        high=tuple(value * (1 + spread) for _, _, value, spread in points),
    )


def _table(signals: Mapping[str, Mapping[str, Any]], measure: Measure) -> Table:
    """Layers down, signals across."""
    values = [{name: value for _, name, value, _ in layers(signal, measure.key)} for signal in signals.values()]
    every = list(dict.fromkeys(name for one in values for name in one))
    some = evenly(every, LAYERS)
    left_out = f"; {len(some)} of {len(every)} layers, evenly chosen" if len(some) < len(every) else ""
    rows = tuple(row(name, *(one.get(name) for one in values)) for name in some)
    columns = (("layer", "name"), *((visible(name, 40), "number") for name in signals))
    return Table(f"{measure.title} by layer{left_out}", columns, rows)


def label(name: str, call: int) -> str:
    """A call's name: that of its module, with a number from the second call on.

    >>> label("", 0), label("fc", 1)
    ('(model)', 'fc #1')
    """
    name = name or "(model)"
    return f"{name} #{call}" if call else name


def ends(signal: Mapping[str, Any], key: str) -> tuple[float | None, float | None]:
    """What the first and the last weighted layer have."""
    known = layers(signal, key)
    return (known[0][2], known[-1][2]) if known else (None, None)


def state(signal: Mapping[str, Any]) -> dict[str, str]:
    """Whether a signal has a bad finding, as a class of the style sheet and in words."""
    if any(one["bad"] for one in signal["findings"]):
        return {"state": "bad", "word": "needs attention"}
    return {"state": "good", "word": "looks sound"}


def texts(signal: Mapping[str, Any]) -> Iterator[str]:
    """The findings of a signal, the bad ones first."""
    yield from (one["text"] for one in sorted(signal["findings"], key=lambda one: not one["bad"]))
