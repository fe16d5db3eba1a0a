"""What a verification found: data first, text second."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from initframe.errors import harmless
from initframe.plan.notebook import html_table
from initframe.plan.table import table
from initframe.plan.text import WIDTH, counted, fold, wrapped

State = Literal["ok", "changed", "missing", "extra", "unverifiable"]
ROWS = 100
"""Rows that are shown one by one."""
_COLUMNS = ("name", "found", "distance", "cosine")
_WORDS = {"extra": "extra, nobody promised it", "unverifiable": "unverifiable, there is no digest"}


@dataclass(frozen=True)
class Row:
    """What was found of one tensor, or of one file of a run.

    Attributes:
        name: the tensor's, or the file's.
        state: ``"ok"``, ``"changed"``, ``"missing"``, ``"extra"``, or ``"unverifiable"`` without a digest.
        fact: what differs, as a sentence; empty if all is well.
        kind: ``"tensor"`` or ``"file"``.
        distance: how far a changed tensor is from its start, ‖w − w₀‖ / ‖w₀‖; ``None`` if the start is not known.
        cosine: ⟨w, w₀⟩ / (‖w‖·‖w₀‖), likewise.
    """

    name: str
    state: State = "ok"
    fact: str = ""
    kind: Literal["tensor", "file"] = "tensor"
    distance: float | None = None
    cosine: float | None = None

    @property
    def ok(self) -> bool:
        """Whether it is as promised."""
        return self.state == "ok"


@dataclass(frozen=True)
class Verification:
    """What :func:`initframe.verify` found.

    Attributes:
        title: what was compared with what.
        rows: one per tensor, then one per file of the run.
        rests_on: what the promises rest on besides digests, as sentences.
    """

    title: str
    rows: tuple[Row, ...]
    rests_on: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything is as promised."""
        return all(row.ok for row in self.rows)

    def __bool__(self) -> bool:
        """Whether everything is as promised, so that ``assert verify(…)`` means what it says."""
        return self.ok

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data; numbers that JSON does not have are ``None``."""
        keys = ("name", "kind", "state", "fact", "distance", "cosine")
        rows = [{key: getattr(row, key) for key in keys} for row in self.rows]
        for row in rows:
            row |= {key: None for key in keys[4:] if row[key] is not None and not math.isfinite(row[key])}
        return {"ok": self.ok, "title": self.title, "rows": rows, "rests_on": list(self.rests_on)}

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<Verification: {harmless(self._head())}>"

    def _repr_html_(self) -> str:
        wrong = [_cells(row) for row in self.rows if not row.ok]
        return html_table(self._head(), _COLUMNS if wrong else (), wrong, self.rests_on)

    def render(self, width: int = WIDTH) -> str:
        """Return the result as text: what is wrong row by row, and the rest in a sentence.

        Args:
            width: columns to use at most.
        """
        wrong = [row for row in self.rows if not row.ok]
        lines = [wrapped(harmless(self._head()), width)]
        if wrong:
            cells = [_cells(row) for row in wrong[:ROWS]]
            moved = any(row.distance is not None for row in wrong)
            lines.append(table(_COLUMNS if moved else _COLUMNS[:2], cells if moved else [c[:2] for c in cells], width))
        if len(wrong) > ROWS:
            names = ", ".join(map(harmless, fold(row.name for row in wrong[ROWS:])))
            lines.append(wrapped(f"… and {len(wrong) - ROWS} more: {names:.2000}", width))
        return "\n".join([*lines, *(wrapped(harmless(line), width) for line in self.rests_on)])

    def _head(self) -> str:
        counts = Counter((row.kind, row.state) for row in self.rows)
        tensors, files = (sum(n for (k, _), n in counts.items() if k == kind) for kind in ("tensor", "file"))
        about = f"{counted(tensors, 'tensor')}" + (f" and {counted(files, 'file')}" if files else "")
        if self.ok:
            return f"{self.title}: {about}, all as promised"
        states = Counter(row.state for row in self.rows)
        return f"{self.title}: {about}; " + ", ".join(f"{n} {state}" for state, n in states.items())


def _cells(row: Row) -> tuple[str, str, str, str]:
    word = _WORDS.get(row.state, row.state)
    told = f"{word}: {row.fact}" if row.fact else word
    return harmless(row.name), harmless(told), _number(row.distance), _number(row.cosine)


def _number(value: float | None) -> str:
    return "—" if value is None or math.isnan(value) else f"{value:.3g}"
