"""Compare recipes on one model: what each does to activations and gradients, side by side."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from initframe.applying.apply import apply
from initframe.errors import InitframeError, Problem, harmless, shown
from initframe.plan.notebook import frame, html_table
from initframe.plan.table import table
from initframe.plan.text import WIDTH, counted, wrapped
from initframe.recipe.recipe import Recipe, load_recipe
from initframe.resolver.resolve import resolve
from initframe.signal.auto import auto, is_auto
from initframe.signal.caches import on_meta
from initframe.signal.predict import predict
from initframe.signal.propagate import propagate
from initframe.signal.row import Row
from initframe.signal.signal import Signal


@dataclass(frozen=True)
class Comparison:
    """Signals of one model under several recipes.

    ``print(comparison)`` shows a table and a verdict for each recipe, ``comparison.plot()`` a figure.

    Attributes:
        title: the model's class name.
        signals: by recipe, averaged over the seeds: the root of the mean square of rms.
        spreads: by recipe, the relative standard deviation of each row's rms over the seeds.
        seeds: what was averaged over; none for predictions.
        batch: what went in, in words.
    """

    title: str
    signals: Mapping[str, Signal]
    spreads: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    batch: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain data, ready for JSON."""
        return {
            "model": self.title,
            "batch": self.batch,
            "seeds": list(self.seeds),
            "recipes": [
                {
                    "recipe": name,
                    "verdict": self.verdict(name),
                    "spreads": list(self.spreads.get(name, ())),
                    **signal.to_dict(),
                }
                for name, signal in self.signals.items()
            ],
        }

    def verdict(self, recipe: str) -> str:
        """The gravest finding of a recipe as one sentence."""
        findings = self.signals[recipe].findings
        bad = [finding for finding in findings if finding.bad]
        if len(bad) > 1:
            return f"{bad[0].text} And {counted(len(bad) - 1, 'further finding')}."
        return (bad or list(findings))[0].text if findings else "nothing stands out."

    def summary(self) -> list[dict[str, Any]]:
        """One line of numbers for each recipe: first and last layer, range, correlation, gradients, loss."""
        return [
            {"recipe": name, **_line(signal), "verdict": self.verdict(name)} for name, signal in self.signals.items()
        ]

    def to_frame(self) -> Any:
        """The rows of all recipes as a pandas DataFrame.

        Raises:
            InitframeError: pandas is not installed.
        """
        return frame({"recipe": name, **row.to_dict()} for name, signal in self.signals.items() for row in signal.rows)

    def plot(self, axes: Any = None) -> Any:
        """Draw rms, correlation and gradients by depth, a line for each recipe; needs matplotlib.

        Args:
            axes: an array of axes, one per panel; by default a new figure's.

        Returns:
            The axes, as an array.
        """
        from initframe.pages.curves import plot  # noqa: PLC0415  # matplotlib is for people who look

        return plot({one["recipe"]: one for one in self.to_dict()["recipes"]}, axes)

    def page(self, path: str | PathLike[str]) -> Path:
        """Write the comparison as one HTML file that needs nothing else: figures, tables and verdicts.

        Args:
            path: the file.

        Returns:
            The file.

        Raises:
            InitframeError: jinja2 or matplotlib is not installed.
        """
        from initframe.pages import comparison_page, save  # noqa: PLC0415  # jinja2 is for people who look

        return save(comparison_page(self.to_dict()), path)

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """The table's columns and cells as text."""
        lines = self.summary()
        columns = (
            [key for key in lines[0] if key != "verdict" and any(line[key] not in (None, "") for line in lines)]
            if lines
            else []
        )
        return columns, [[_text(line[key]) for key in columns] for line in lines]

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<Comparison of {counted(len(self.signals), 'recipe')} on {harmless(self.title)}>"

    def render(self, width: int = WIDTH) -> str:
        """The comparison as text: a table, then one verdict for each recipe.

        Args:
            width: columns to use at most.
        """
        seeds = f"; seeds {', '.join(map(str, self.seeds))}" if self.seeds else "; predicted"
        head = wrapped(f"{self.title}, {counted(len(self.signals), 'recipe')}; {self.batch}{seeds}", width)
        verdicts = [wrapped(f"{name}: {self.verdict(name)}", width) for name in self.signals]
        return "\n".join([head, table(*self.cells(), width), *verdicts])

    def _repr_html_(self) -> str:
        return html_table(self.title, *self.cells(), [f"{name}: {self.verdict(name)}" for name in self.signals])


def compare(
    build: Callable[[], nn.Module],
    recipes: Sequence[Any] | Mapping[str, Any],
    batch: Any,
    seeds: Sequence[int] = (0,),
    *,
    loss: Callable[[Any], Tensor] | None = None,
    predicted: bool = False,
) -> Comparison:
    """Measure, or predict, what several recipes do to one model.

    Args:
        build: makes the model, anew for each recipe.
        recipes: as for :func:`initframe.load_recipe`, a list of them or by label.
        batch: as for :func:`initframe.propagate`.
        seeds: over which a measured signal is averaged.
        loss: as for :func:`initframe.propagate`.
        predicted: whether to predict; the model is then built on the meta device, and the batch may be there, too.

    Returns:
        The comparison.

    Raises:
        InitframeError: there is nothing to compare, or a recipe does not fit the model.

    >>> import torch
    >>> found = compare(lambda: nn.Sequential(nn.Linear(8, 8)), ["xavier_uniform", "torch_default"], torch.randn(4, 8))
    >>> list(found.signals)
    ['xavier_uniform', 'torch_default']
    """
    named = _labelled(recipes)
    if problems := list(_wrong(build, named, seeds, predicted=predicted)):
        raise InitframeError(*problems)
    signals: dict[str, Signal] = {}
    spreads: dict[str, tuple[float, ...]] = {}
    for label, recipe in named.items():
        if predicted:
            model = _hollow(build)
            found = _with_factors(recipe, model, batch)
            signals[label] = replace(predict(resolve(found, model), batch), recipe=label)
        else:
            model = build()
            found = _with_factors(recipe, model, batch)
            signals[label], spreads[label] = _averaged(model, found, label, batch, seeds, loss)
    first = next(iter(signals.values()))
    return Comparison(first.title, signals, spreads, () if predicted else tuple(seeds), first.batch)


def _hollow(build: Callable[[], nn.Module]) -> nn.Module:
    """Build the model without memory.

    Raises:
        InitframeError: its constructor needs values.
    """
    try:
        with on_meta():
            return build()
    except Exception as error:
        fact = f"on the meta device it raised {type(error).__name__}: {str(error).strip()[:400]}"
        fix = "Build the model alone, without moving, offloading or quantizing it; or measure: predicted=False."
        raise InitframeError(Problem("build", fact, "", fix)) from error


def _wrong(build: object, named: Mapping[str, Recipe], seeds: object, *, predicted: bool) -> Iterator[Problem]:
    """Say what cannot be compared."""
    if isinstance(build, nn.Module) or not callable(build):
        options = "It is a function that builds the model, anew for each recipe."
        yield Problem("build", f"got {type(build).__name__}.", options, "Write compare(lambda: …, recipes, batch).")
    if not named:
        yield Problem("recipes", "there are none.", fix="Give at least one.")
    if not isinstance(seeds, Sequence):
        yield Problem("seeds", f"got {shown(seeds)}.", fix="Give several, as in (0, 1, 2) or range(3).")
    elif not seeds and not predicted:
        yield Problem("seeds", "there are none.", fix="Give at least one.")


def _with_factors(recipe: Recipe, model: nn.Module, batch: Any) -> Recipe:
    """The recipe, with the factors that the preset ``auto`` leaves open."""
    return auto(model, recipe, batch) if is_auto(recipe) else recipe


def _labelled(recipes: Sequence[Any] | Mapping[str, Any]) -> dict[str, Recipe]:
    """Recipes by label: their own, or the recipe's name; equal names are numbered."""
    if isinstance(recipes, Mapping) and "rules" not in recipes:
        return {str(label): load_recipe(recipe) for label, recipe in recipes.items()}
    several = [recipes] if isinstance(recipes, str | PathLike | Mapping | Recipe) else list(recipes)
    named: dict[str, Recipe] = {}
    for recipe in map(load_recipe, several):
        label, number = recipe.name, 2
        while label in named:
            label, number = f"{recipe.name} {number}", number + 1
        named[label] = recipe
    return named


def _averaged(
    model: nn.Module, recipe: Recipe, label: str, batch: Any, seeds: Sequence[int], loss: Callable[[Any], Tensor] | None
) -> tuple[Signal, tuple[float, ...]]:
    """Measure a recipe with several seeds, and average row by row."""
    plan = resolve(recipe, model)
    signals = []
    for seed in seeds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a recipe asks for besides values is told when it is applied
            apply(plan, seed)
        signals.append(propagate(model, batch, loss=loss, recipe=label))
    by_call = [{(row.name, row.call): row for row in signal.rows} for signal in signals]
    rows, spreads = [], []
    for row in signals[0].rows:
        several = [rows[row.name, row.call] for rows in by_call if (row.name, row.call) in rows]
        rows.append(_mean_row(several))
        spreads.append(_spread(several))
    losses = [signal.loss for signal in signals if signal.loss is not None]
    loss_of_all = _average(losses) if losses else None
    return replace(signals[0], rows=tuple(rows), loss=loss_of_all), tuple(spreads)


def _mean_row(rows: Sequence[Row]) -> Row:
    """One row for several seeds: mean squares and means averaged."""

    def mean(name: str, power: float = 1.0) -> float | None:
        values = [getattr(row, name) for row in rows]
        known = [value for value in values if value is not None]
        return _average([value**power for value in known]) ** (1 / power) if known else None

    plain: dict[str, Any] = {name: mean(name) for name in ("mean", "correlation", "zeros", "saturated", "dead")}
    return replace(rows[0], rms=mean("rms", 2.0), grad_rms=mean("grad_rms", 2.0), spread=_spread(rows) or None, **plain)


def _average(values: Sequence[float]) -> float:
    """The mean of numbers, infinite ones and NaN among them."""
    return (math.fsum(values) if all(map(math.isfinite, values)) else sum(values)) / len(values)


def _spread(rows: Sequence[Row]) -> float:
    """The relative standard deviation of rms."""
    values = [row.rms for row in rows if row.rms is not None]
    middle = _average(values) if len(values) > 1 else 0.0
    if not middle or not math.isfinite(middle):
        return 0.0
    return math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1)) / middle


def _line(signal: Signal) -> dict[str, Any]:
    """A signal in one line."""
    layers = [row for row in signal.rows if row.depth is not None and row.rms is not None] or [
        row for row in signal.rows if row.rms is not None
    ]
    if not layers:
        return {}
    sizes = [row.rms or 0.0 for row in layers]
    gradients = [row.grad_rms for row in layers if row.grad_rms]
    last = layers[-1]
    return {
        "layers": len(layers),
        "first rms": sizes[0],
        "last rms": sizes[-1],
        "smallest": min(sizes),
        "largest": max(sizes),
        "correlation": last.correlation,
        "gradient first/last": gradients[0] / gradients[-1] if len(gradients) > 1 else None,
        "loss": signal.loss,
    }


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
