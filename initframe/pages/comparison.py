"""The page of a comparison: several recipes, what each does to activations and gradients, one verdict each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from initframe.pages.curves import ends, panels, state, texts
from initframe.pages.figures import colour, dashes
from initframe.pages.render import Cells, Table, need_libraries, render, row, trusted


def comparison_page(comparison: Mapping[str, Any]) -> str:
    """A comparison as one HTML file.

    Args:
        comparison: what ``initframe.compare(…).to_dict()`` gives.

    Returns:
        The page's text.

    Raises:
        InitframeError: jinja2 or matplotlib is not installed.
    """
    need_libraries()
    signals = _signals(comparison)
    spread = any(any(one.get("spreads") or ()) for one in signals.values())
    band = " The band is one standard deviation over seeds to each side." if spread else ""
    notes = dict.fromkeys(note for one in signals.values() for note in one["notes"])
    return render(
        "comparison.html",
        title=f"{comparison['model']}: initializations compared",
        model=comparison["model"],
        lead=about(comparison),
        recipes=_verdicts(signals),
        reading=f"From the first weighted layer to the last.{band} Every figure has its table below.",
        panels=panels(signals),
        numbers=_numbers(signals),
        findings=[{"name": name, "texts": said} for name, one in signals.items() if (said := list(texts(one)))],
        notes=list(notes),
    )


def picture(comparison: Mapping[str, Any]) -> str:
    """The figures of a comparison as one SVG file with its verdicts, for a README or a paper; light and dark.

    Args:
        comparison: what ``initframe.compare(…).to_dict()`` gives.

    Returns:
        The file's text.

    Raises:
        InitframeError: jinja2 or matplotlib is not installed.
    """
    need_libraries()
    signals = _signals(comparison)
    drawn, verdicts = panels(signals), _verdicts(signals)
    width, gap = 960, 18
    wide = (width - gap * (len(drawn) + 1)) / max(len(drawn), 1)
    below = 60 + wide * 0.675 + 34
    return render(
        "picture.svg",
        title=f"{comparison['model']}: signal by depth for {len(verdicts)} initializations",
        heading=comparison["model"],
        about=about(comparison),
        width=width,
        height=round(below + 24 * len(verdicts)),
        recipes=[
            one | {"y": round(below + 24 * i), "text": next(texts(signals[one["name"]]), one["text"])}
            for i, one in enumerate(verdicts)
        ],
        panels=[_placed(str(one["svg"]), gap + i * (wide + gap), wide) for i, one in enumerate(drawn)],
    )


def about(comparison: Mapping[str, Any]) -> str:
    """What was compared, in a sentence."""
    sources = " and ".join(dict.fromkeys(one["source"] for one in comparison["recipes"]))
    batch = f" on a batch of {comparison['batch']}" if comparison["batch"] else ""
    seeds = [str(seed) for seed in comparison["seeds"]]
    counted = f"; seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}" if seeds else ""
    return f"{sources}{batch}{counted}.".capitalize()


def _signals(comparison: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {one["recipe"]: one for one in comparison["recipes"]}


def _placed(svg: str, x: float, width: float) -> dict[str, Any]:
    """A panel as a part of the picture."""
    head, _, rest = svg.partition(">")
    box = head.partition('viewBox="')[2].partition('"')[0]
    return {
        "x": round(x, 1),
        "width": round(width, 1),
        "height": round(width * 0.675, 1),
        "box": box,
        "inside": trusted(rest.removesuffix("</svg>")),
    }


def _verdicts(signals: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One verdict a recipe, with the key to its lines."""
    return [
        {"name": name, "colour": colour(series), "dashes": dashes(series), "text": one["verdict"], **state(one)}
        for series, (name, one) in enumerate(signals.items())
    ]


def _numbers(signals: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row a recipe: the first and the last layer, and what became of the size in between."""
    heads = (
        ("recipe", "name"),
        ("rms, first layer", "number"),
        ("rms, last layer", "number"),
        ("last / first", "number"),
        ("correlation, last", "number"),
        ("gradient, first / last", "number"),
        ("loss", "number"),
        ("bad findings", "number"),
    )
    return Table("Each recipe in numbers", heads, tuple(_summary(name, one) for name, one in signals.items()))


def _summary(name: str, signal: Mapping[str, Any]) -> Cells:
    first, last = ends(signal, "rms")
    gradient, gradient_last = ends(signal, "grad_rms")
    correlation = ends(signal, "correlation")[1]
    bad = sum(finding["bad"] for finding in signal["findings"])
    back = _ratio(gradient, gradient_last)
    return row(name, first, last, _ratio(last, first), correlation, back, signal["loss"], bad)


def _ratio(over: float | None, under: float | None) -> float | None:
    return over / under if over is not None and under else None
