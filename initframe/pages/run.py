"""The page of a run: the plan, what was measured, and where the two are furthest apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from initframe.pages.curves import panels, state, texts
from initframe.pages.figures import bars, colour, dashes, sizes
from initframe.pages.measured import Deviation, Histogram, deviation, histograms
from initframe.pages.render import Table, evenly, need_libraries, render, row, trusted
from initframe.plan.plan import Plan, leftovers
from initframe.plan.report import Report, Result
from initframe.plan.text import counted, shape

ROWS = 5000
"""Tensors that the plan's table holds; the manifest has all."""
FIGURES = 24
"""Histograms of a page."""
WORST = 10
"""Rows of the table of the furthest tensors."""
LIMIT = 5.0
"""Standard errors beyond which a tensor is marked: one in 1.7 million by chance."""


def run_page(report: Report, signal: Mapping[str, Any] | None = None) -> str:
    """A report as one HTML file: the plan, deviations from it, histograms, and the signal if there is one.

    Args:
        report: from :func:`initframe.apply`; with ``measure=True``, the page compares planned and measured numbers.
        signal: what a signal's ``to_dict()`` gives.

    Returns:
        The page's text.

    Raises:
        InitframeError: jinja2 or matplotlib is not installed.
    """
    need_libraries()
    plan = report.plan
    deviations = {one.result.name: one for result in report.results if (one := deviation(result)) is not None}
    worst = sorted(deviations.values(), key=_distance, reverse=True)
    drawn = histograms(report, _chosen(report, worst))
    elements = sum(result.assignment.slot.numel for result in report.results)
    return render(
        "run.html",
        title=f"{plan.title} × {plan.recipe.name}",
        model=plan.title,
        recipe=plan.recipe.name,
        **_summary(deviations.values()),
        facts=[
            ("tensors", f"{len(report.results):,}"),
            ("elements", f"{elements:,}"),
            ("seed", "torch's generator" if report.seed is None else report.seed),
            ("numbers from", "initframe's stream" if report.generator == "stream" else "torch.nn.init"),
        ],
        **_signal(signal, plan.recipe.name),
        worst=_worst_table(worst),
        worst_lead=_expected_largest(deviations.values()),
        sizes=[trusted(_sizes(report.results, width)) for width in (9.2, 4.0)] if deviations else ["", ""],
        histograms=[_figure(one) for one in drawn],
        histograms_lead=f"{len(drawn)} of {counted(len(report.results), 'tensor')}, with the furthest from the plan.",
        histograms_table=_histogram_table(drawn),
        plan=_plan_table(report, deviations),
        plan_lead="" if len(report.results) <= ROWS else f"The first {ROWS:,} tensors; manifest.json has all.",
        notes=list(_notes(plan, report)),
        recipe_text=_recipe_text(plan),
    )


def _distance(one: Deviation) -> float:
    """What the furthest tensors are sorted by: standard errors; without them, the relative distance of the std."""
    if one.errors is not None:
        return one.errors if math.isfinite(one.errors) else math.inf
    return abs(math.log(one.ratio)) if one.ratio and math.isfinite(one.ratio) else 0.0


def _summary(deviations: Any) -> dict[str, str]:
    """Whether the tensors are as planned, in one sentence."""
    known = [one for one in deviations if one.errors is not None]
    if not known:
        return {"state": "open", "summary": "Nothing was measured that could be compared with the plan."}
    far = [one for one in known if not one.errors <= LIMIT]
    if far:
        names = ", ".join(one.result.name for one in far[:3]) + (" …" if len(far) > 3 else "")
        verb = "is" if len(far) == 1 else "are"
        those = f"{len(far)} of {counted(len(known), 'random tensor')}"
        text = f"{those} {verb} more than {LIMIT:g} standard errors from the plan: {names}."
        return {"state": "bad", "summary": text}
    largest = max(one.errors for one in known)
    text = (
        f"As planned: none of {counted(len(known), 'random tensor')} is more than {largest:.1f} standard errors away."
    )
    return {"state": "good", "summary": text}


def _expected_largest(deviations: Any) -> str:
    """What chance alone would make of the largest deviation."""
    count = 2 * sum(one.errors is not None for one in deviations)
    if not count:
        return "Without standard errors: the relative distance of the std."
    low, high = 0.0, 10.0
    while high - low > 1e-3:  # the median of the largest of |N(0, 1)|
        at = (low + high) / 2
        low, high = (at, high) if math.erf(at / math.sqrt(2)) ** count < 0.5 else (low, at)
    chance = f"Among {count:,} means and stds, chance alone makes the largest about {low:.1f}."
    return f"In standard errors of independent draws. {chance}"


def _signal(signal: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    if signal is None:
        return {"panels": [], "verdicts": [], "signal_lead": ""}
    said = next(texts(signal), "nothing stands out.")
    verdict = {
        "name": signal["recipe"] or name,
        "colour": colour(0),
        "dashes": dashes(0),
        "text": said,
        **state(signal),
    }
    batch = f" on a batch of {signal['batch']}" if signal["batch"] else ""
    lead = f"{signal['source'].capitalize()}{batch}. {' '.join(signal['notes'])}".strip()
    return {"panels": panels({verdict["name"]: signal}), "verdicts": [verdict], "signal_lead": lead}


def _worst_table(worst: Sequence[Deviation]) -> Table:
    heads = (
        ("tensor", "name"),
        ("rule", "text"),
        ("planned std", "number"),
        ("measured std", "number"),
        ("measured / planned", "number"),
        ("standard errors", "number"),
    )
    some = [one for one in worst if one.errors is not None or one.ratio is not None][:WORST]
    rows = tuple(
        row(
            one.result.name,
            one.result.assignment.rule.name,
            one.result.assignment.fill.std,
            _measured(one.result)[1],
            one.ratio,
            None if one.errors is None else (f"{one.errors:.1f}", one.errors),
            flagged=one.errors is not None and not one.errors <= LIMIT,
        )
        for one in some
    )
    return Table("The tensors furthest from the plan", heads, rows)


def _measured(result: Result) -> tuple[float | None, float | None]:
    return result.after.moments if result.after else (None, None)


def _sizes(results: Sequence[Result], width: float) -> str:
    """The figure of planned and measured std of all tensors."""
    some = evenly(results, 2000)
    planned = [std if math.isfinite(std := one.assignment.fill.std) else None for one in some]
    found = [std if (std := _measured(one)[1]) is not None and math.isfinite(std) else None for one in some]
    return sizes(planned, found, width=width) if any(planned) or any(found) else ""


def _chosen(report: Report, worst: Sequence[Deviation]) -> list[str]:
    """Tensors to draw, in the model's order: the four furthest, and others evenly."""
    varied = [one for one in report.results if one.assignment.fill.std != 0 and one.assignment.slot.numel > 1]
    first = [one.result.name for one in worst[:4] if one.ratio is not None]
    rest = [one.name for one in varied if one.name not in first]
    chosen = {*first, *evenly(rest, FIGURES - len(first))}
    return [one.name for one in report.results if one.name in chosen]


def _figure(one: Histogram) -> dict[str, Any]:
    counted_values = f"{one.count:,} of {one.total:,} values" if one.count < one.total else f"{one.total:,} values"
    unplanned = "" if one.planned is not None else "; no simple planned distribution"
    return {
        "name": one.name,
        "label": f"histogram of {one.name}, measured and planned",
        "svg": trusted(bars(one)),
        "caption": f"{counted_values}{unplanned}",
    }


def _histogram_table(drawn: Sequence[Histogram]) -> Table:
    """Histograms as numbers: the share of values in five ranges of equal width."""
    heads = (("tensor", "name"), ("from", "number"), ("to", "number"))
    fifths = tuple((f"{word} {i}/5", "number") for i in range(1, 6) for word in ("measured", "planned"))
    rows = []
    for one in drawn:
        width = len(one.found) // 5
        cells: list[Any] = [one.name, one.edges[0], one.edges[-1]]
        for i in range(5):
            part = slice(i * width, (i + 1) * width)
            cells += [_percent(one.found[part]), None if one.planned is None else _percent(one.planned[part])]
        rows.append(row(*cells))
    return Table("Shares of the values in five ranges of equal width", (*heads, *fifths), tuple(rows))


def _percent(shares: Sequence[float]) -> tuple[str, float]:
    share = 100 * math.fsum(shares)
    return f"{share:.1f} %", share


def _plan_table(report: Report, deviations: Mapping[str, Deviation]) -> Table:
    """One row a tensor."""
    heads = (
        ("tensor", "name"),
        ("shape", "text"),
        ("elements", "number"),
        ("rule", "text"),
        ("fill", "text"),
        ("planned mean", "number"),
        ("planned std", "number"),
        ("measured mean", "number"),
        ("measured std", "number"),
        ("standard errors", "number"),
    )
    measured = bool(deviations)
    rows = []
    for result in report.results[:ROWS]:
        a = result.assignment
        cells: list[Any] = [a.slot.name, shape(a.slot), a.slot.numel, a.rule.name, str(a.fill), a.fill.mean, a.fill.std]
        one = deviations.get(result.name)
        if measured:
            errors = None if one is None or one.errors is None else (f"{one.errors:.1f}", one.errors)
            cells += [*_measured(result), errors]
        far = one is not None and one.errors is not None and not one.errors <= LIMIT
        rows.append(row(*cells, flagged=far))
    return Table("What every tensor was given", heads if measured else heads[:7], tuple(rows))


def _notes(plan: Plan, report: Report) -> Iterator[str]:
    """What the table does not show, as the printed plan tells it."""
    yield from leftovers(plan)
    yield from report.strange()
    if report.forgotten is not None:
        yield f"The optimizer forgot its state of {counted(report.forgotten, 'parameter')}."
    yield from (f"{name} is an averaged copy; it still holds the earlier weights." for name in report.stale)


def _recipe_text(plan: Plan) -> str:
    import yaml  # noqa: PLC0415  # not needed to import initframe

    text: str = yaml.safe_dump(plan.recipe.to_dict(), sort_keys=False, allow_unicode=False)
    return text
