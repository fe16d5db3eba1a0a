"""The outcome of a claim's experiment as data and as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from initframe.experiments.claim import Outcome
from initframe.plan.table import table
from initframe.plan.text import WIDTH, wrapped

Data = Mapping[str, Any]
"""An outcome, or a part of it, as :func:`to_dict` gives it or as it was stored."""


def to_dict(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain data; what is not finite is ``None``."""
    return {
        "numbers": dict(outcome.numbers),
        "seconds": outcome.seconds,
        "verdict": outcome.verdict,
        "checks": [
            {"what": one.what, "paper": one.paper, "here": _plain(one.values), "holds": one.judged}
            for one in outcome.checks
        ],
        "runs": [
            {
                "at": dict(one.at),
                "seed": one.seed,
                "values": {key: _plain(value) for key, value in one.values.items()},
            }
            for one in outcome.results.every
        ],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Sequence):
        return [_plain(one) for one in value]
    return value if math.isfinite(value) else None


def render(data: Data, width: int = WIDTH) -> str:
    """An outcome as text: whose claim, a table with the paper's number next to ours, the verdict."""
    head = wrapped(f"{data['numbers']['paper']}. Here: {here(data)}.", width)
    columns = ("number", "the paper", "here", "holds")
    return "\n".join([head, table(columns, list(map(cells, data["checks"])), width), wrapped(data["verdict"], width)])


def here(data: Data) -> str:
    """Say what was run, with how many seeds and for how long."""
    numbers = data["numbers"]
    changed = ", ".join(f"{key} = {value}" for key, value in (numbers.get("reduced") or {}).items())
    size = f", but reduced: {changed}" if changed else ""
    return f"{numbers['here']}{size} (seeds: {numbers['seeds']}; {data['seconds']:.0f} s)"


def cells(check: Data) -> tuple[str, ...]:
    """One check as a row of a table."""
    return check["what"], check["paper"], spread(check["here"]), check["holds"]


def spread(values: Sequence[float | None]) -> str:
    """The mean of several seeds, with the lowest and the highest if they differ; ``None`` is more than any number.

    >>> spread((2.0, 2.0)), spread((1.0, 2.0)), spread((1.0, None))
    ('2', '1.5 (1 to 2)', '∞ (1 to ∞)')
    """
    finite = [math.inf if value is None else value for value in values]
    low, middle, high = map(_number, (min(finite), fmean(finite), max(finite)))
    return middle if low == high else f"{middle} ({low} to {high})"


def _number(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.3g}".replace("-", "−")
