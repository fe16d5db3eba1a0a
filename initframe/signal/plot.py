"""Figures of signals: size, correlation and gradient by depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from initframe.errors import InitframeError, Problem
from initframe.signal.signal import Row, Signal

PANELS: tuple[tuple[str, Callable[[Row], float | None], bool], ...] = (
    ("rms", lambda row: row.rms, True),
    ("correlation of inputs", lambda row: row.correlation, False),
    ("gradient rms", lambda row: row.grad_rms, True),
)
"""A panel's title, what it shows of a row, and whether on a logarithmic scale."""


def plot(signals: Mapping[str, Signal], axes: Any = None) -> Any:
    """Draw signals by depth, a line for each; needs matplotlib.

    Args:
        signals: by label.
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
    panels = [panel for panel in PANELS if any(points(signal, panel[1])[0] for signal in signals.values())]
    panels = panels or [PANELS[0]]
    if axes is None:
        axes = plt.subplots(1, len(panels), figsize=(4.5 * len(panels), 3.2), squeeze=False, layout="constrained")[1]
    drawn = np.atleast_1d(np.asarray(axes, dtype=object)).reshape(-1)
    for axis, (title, value, logarithmic) in zip(drawn, panels, strict=False):
        for label, signal in signals.items():
            axis.plot(*points(signal, value), marker=".", label=label)
        axis.set(title=title, xlabel="weighted layer", yscale="log" if logarithmic else "linear")
    if len(signals) > 1:
        drawn[0].legend(fontsize="small")
    return drawn


def points(signal: Signal, value: Callable[[Row], float | None]) -> tuple[list[int], list[float]]:
    """Depth and value of every weighted layer that has one; of a signal without such layers, of every row."""
    rows = [row for row in signal.rows if row.depth is not None] or list(signal.rows)
    pairs = [(row.depth or i, one) for i, row in enumerate(rows) if (one := value(row)) is not None]
    return [depth for depth, _ in pairs], [one for _, one in pairs]
