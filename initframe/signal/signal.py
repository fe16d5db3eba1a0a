"""The signal: one row per call of a forward pass, as data that prints, plots and judges itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from string import ascii_lowercase
from typing import Any, Literal

from initframe.errors import InitframeError, Problem, closest, harmless, shown
from initframe.plan.notebook import frame, html_table
from initframe.plan.table import table
from initframe.plan.text import WIDTH, counted, wrapped
from initframe.signal.row import Row, as_json
from initframe.signal.stability import Stability, of_rows
from initframe.signal.verdicts import Finding, judge

ROWS = 100
"""Rows that a printed signal shows; of more, the first and the last."""
HTML_ROWS = 300
"""Rows that a notebook shows."""


@dataclass(frozen=True)
class Signal:
    """The rows of one forward pass, in execution order.

    ``print(signal)`` shows a table and the verdicts, ``signal.plot()`` a figure, ``signal.to_dict()`` plain data.

    Attributes:
        title: the model's class name.
        source: ``"measured"`` or ``"predicted"``.
        rows: one per call.
        batch: what went in, in words.
        recipe: the recipe's name, if one is known.
        loss: the loss of the pass, if one was computed.
        notes: what the reader should know (an operation without a rule, how the input was made).

    >>> signal = Signal("Net", "measured", (Row("fc", 0, "Linear", (2, 3), 0.0, 1.5),))
    >>> signal["fc"].rms
    1.5
    """

    title: str
    source: Literal["measured", "predicted"]
    rows: tuple[Row, ...]
    batch: str = ""
    recipe: str = ""
    loss: float | None = None
    notes: tuple[str, ...] = field(default=())

    def __getitem__(self, name: str) -> Row:
        """The first row of a name.

        Raises:
            InitframeError: there is none.
        """
        if not isinstance(name, str) or name not in self._first:
            fact, options = f"it has no row {shown(name)}.", closest(name, self._first)
            raise InitframeError(Problem("signal", fact, options, "Take a name of signal.rows."))
        return self._first[name]

    @cached_property
    def _first(self) -> Mapping[str, Row]:
        return {row.name: row for row in reversed(self.rows)}

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What stands out, as data."""
        return judge(self.rows)

    @property
    def verdicts(self) -> tuple[str, ...]:
        """What stands out, as sentences with the number and the layer."""
        return tuple(finding.text for finding in self.findings)

    @cached_property
    def stability(self) -> tuple[Stability, ...]:
        """Where each activation between two weighted layers leads over many layers: χ and fixed points."""
        return of_rows(self.rows)

    def check(self) -> None:
        """Raise if a verdict is bad, for tests and CI.

        Raises:
            InitframeError: with one problem per bad verdict.

        >>> Signal("Net", "measured", (Row("fc", 0, "Linear", (2, 3), 0.0, 1.5),)).check()
        """
        bad = [Problem(one.name, one.text, "", one.fix) for one in self.findings if one.bad]
        if bad:
            raise InitframeError(*bad)

    def to_dict(self) -> dict[str, Any]:
        """The signal as plain data, ready for JSON."""
        return {
            "model": self.title,
            "source": self.source,
            "recipe": self.recipe,
            "batch": self.batch,
            "loss": as_json(self.loss),
            "rows": [row.to_dict() for row in self.rows],
            "findings": [{key: as_json(value) for key, value in asdict(one).items()} for one in self.findings],
            "verdicts": list(self.verdicts),
            "stability": [{key: as_json(value) for key, value in asdict(one).items()} for one in self.stability],
            "notes": list(self.notes),
        }

    def to_frame(self) -> Any:
        """The rows as a pandas DataFrame.

        Raises:
            InitframeError: pandas is not installed.
        """
        return frame(asdict(row) for row in self.rows)

    def plot(self, axes: Any = None) -> Any:
        """Draw rms, correlation and, where they are known, gradients by depth; needs matplotlib.

        Args:
            axes: an array of axes to draw into, one per panel; by default a new figure's.

        Returns:
            The axes, as an array.
        """
        from initframe.pages.curves import plot  # noqa: PLC0415  # matplotlib is for people who look

        return plot({self.recipe or self.source: self.to_dict()}, axes)

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<Signal of {harmless(self.title)}, {self.source}: {counted(len(self.rows), 'row')}>"

    def render(self, width: int = WIDTH, limit: int = ROWS) -> str:
        """The signal as text: a table, the verdicts, the notes.

        Args:
            width: columns to use at most.
            limit: rows to show at most.
        """
        recipe = f" × {self.recipe}" if self.recipe else ""
        about = "; ".join(filter(None, [self.batch, "" if self.loss is None else f"loss {self.loss:.4g}"]))
        head = f"{self.title}{recipe}, {self.source}: {counted(len(self.rows), 'row')}" + (
            f"; {about}" if about else ""
        )
        columns, rows = self.cells(limit)
        lines = [*self.verdicts, *self._legend(), *map(str, self.stability), *(f"Note: {note}" for note in self.notes)]
        return "\n".join([wrapped(head, width), table(columns, rows, width), *(wrapped(line, width) for line in lines)])

    def cells(self, limit: int = ROWS) -> tuple[list[str], list[list[str]]]:
        """The table's columns and cells as text; columns that are empty everywhere are left out.

        Args:
            limit: rows at most; of more, the first and the last, and one that counts the others.
        """
        written = [_cells(row, self._marks) for row in self.rows]
        used = [column for column in _COLUMNS if column in _ALWAYS or any(row[column] for row in written)]
        lines = [[row[column] for column in used] for row in written]
        if len(lines) > limit:
            half = limit // 2
            between = [f"… {len(lines) - 2 * half} more …", *[""] * (len(used) - 1)]
            lines = [*lines[:half], between, *lines[-half:]]
        return used, lines

    @cached_property
    def _marks(self) -> Mapping[str, str]:
        """A letter for each reason why rows are approximations, in order; of many, the last letter serves the rest."""
        reasons = dict.fromkeys(row.approximate for row in self.rows if row.approximate)
        return {reason: ascii_lowercase[min(i, 25)] for i, reason in enumerate(reasons)}

    def _legend(self) -> list[str]:
        """Say what the letters in the column of approximations mean."""
        return [f"≈ {mark}: {reason}" for reason, mark in self._marks.items()]

    def _repr_html_(self) -> str:
        columns, rows = self.cells(HTML_ROWS)
        lines = [*self.verdicts, *self._legend(), *self.notes]
        return html_table(f"{self.title} {self.recipe}, {self.source}", columns, rows, lines)


_ALWAYS = ("name", "op", "shape", "rms")
_COLUMNS = (*_ALWAYS, "mean", "correlation", "zeros", "saturated", "gradient rms", "±", "≈")


def _cells(row: Row, marks: Mapping[str, str]) -> dict[str, str]:
    """A row's cells as text, by column; a mean that is rounding error next to the rms is 0."""
    tiny = row.mean is not None and row.rms is not None and abs(row.mean) < 1e-9 * row.rms
    return {
        "name": row.label,
        "op": row.op,
        "shape": "×".join(map(str, row.shape)) or "scalar",
        "rms": _number(row.rms) or "?",
        "mean": "0" if tiny else _number(row.mean),
        "correlation": "" if row.correlation is None else f"{row.correlation:.3f}",
        "zeros": _share(row.zeros),
        "saturated": _share(row.saturated),
        "gradient rms": _number(row.grad_rms),
        "±": _share(row.spread),
        "≈": marks.get(row.approximate, ""),
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _share(value: float | None) -> str:
    """A share in percent; none at all is not worth a cell."""
    return f"{100 * value:.0f} %" if value else ""
