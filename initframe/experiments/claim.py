"""A published claim as an experiment: recipes × a sweep × seeds, then numbers next to the paper's, and a verdict."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from torch import nn

from initframe.applying.apply import apply
from initframe.errors import InitframeError, Problem
from initframe.plan.param_groups import CompanionWarning
from initframe.plan.report import Report
from initframe.recipe.recipe import load_recipe
from initframe.resolver.resolve import resolve

Settings = Mapping[str, Any]
"""What a run depends on: the claim's own numbers, a point of its sweep, and ``start``, the recipe's label."""
Value = float | Sequence[float]


@dataclass(frozen=True)
class Run:
    """An initialized model, ready to be measured or trained.

    Attributes:
        model: written by the recipe.
        report: of the writing; it has the plan, and the optimizer's groups.
        seed: of the recipe; the experiment's other random numbers begin with it, too.
        at: the settings.
    """

    model: nn.Module
    report: Report
    seed: int
    at: Settings


@dataclass(frozen=True)
class RunResult:
    """What one run measured, by name; a curve is a sequence."""

    at: Settings
    seed: int
    values: Mapping[str, Value]


@dataclass(frozen=True)
class Results:
    """All runs of an experiment, in order."""

    every: tuple[RunResult, ...]

    def of(self, name: str, **at: Any) -> tuple[float, ...]:
        """Give a number of the runs at some settings, one for each seed.

        Raises:
            InitframeError: no run has these settings.

        >>> Results((RunResult({"depth": 2}, 0, {"loss": 0.5}),)).of("loss", depth=2)
        (0.5,)
        """
        found = [one for one in self.every if all(one.at[key] == value for key, value in at.items())]
        if not found:
            wanted = ", ".join(f"{key} = {value}" for key, value in at.items())
            fix = "Leave the starts and the ends of the sweep as the experiment has them."
            raise InitframeError(Problem("claim", f"a check needs a run with {wanted}; there is none.", fix=fix))
        return tuple(one.values[name] for one in found)  # type: ignore[misc]  # a curve has no check


@dataclass(frozen=True)
class Check:
    """One number of a paper, and what was measured here.

    Attributes:
        what: the number, in words.
        paper: what the paper says of it.
        values: here, one for each seed.
        low: every value must be this or more,
        high: and this or less.
    """

    what: str
    paper: str
    values: tuple[float, ...]
    low: float = -math.inf
    high: float = math.inf

    @property
    def holds(self) -> bool:
        """Whether every seed's value is within the bounds.

        >>> Check("loss", "falls", (0.1, 0.3), high=0.2).holds
        False
        """
        return all(self.low <= value <= self.high for value in self.values)

    @property
    def judged(self) -> str:
        """Whether it holds, in a word; a dash if nothing was claimed.

        >>> Check("loss", "—", (0.1,)).judged
        '—'
        """
        if self.low == -math.inf and self.high == math.inf:
            return "—"
        return "yes" if self.holds else "no"


@dataclass(frozen=True)
class Panel:
    """A figure: a line for each combination of some settings, with a band from the lowest to the highest seed.

    Attributes:
        y: what was measured; several names are lines of their own.
        label: of the ordinate, in words.
        x: a setting, or words for the index of a curve.
        lines: settings that have lines of their own, besides the start.
        logarithmic: the ordinate's scale.
        wide: whether the abscissa is logarithmic.
        where: settings that a run must have to be drawn.
    """

    y: str | tuple[str, ...]
    label: str
    x: str
    lines: tuple[str, ...] = ()
    logarithmic: bool = False
    wide: bool = False
    where: Callable[[Settings], bool] = lambda _: True


@dataclass(frozen=True)
class Claim:
    """What an experiment brings of its own; everything else is in its config.

    Attributes:
        build: makes the network at some settings.
        measure: measures, or trains, one run.
        checks: compares all results with the paper's; takes the results and the claim's numbers.
        panels: what the picture shows.
    """

    build: Callable[[Settings], nn.Module]
    measure: Callable[[Run], Mapping[str, Value]]
    checks: Callable[[Results, Settings], Iterable[Check]]
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Outcome:
    """A finished experiment.

    Attributes:
        numbers: the claim's numbers from its config, with ``paper``, ``says`` and ``here`` in words.
        results: all runs.
        checks: the paper's numbers and ours.
        seconds: how long it took.
    """

    numbers: Settings
    results: Results
    checks: tuple[Check, ...]
    seconds: float = field(default=0.0, compare=False)

    @property
    def verdict(self) -> str:
        """Whether the claim holds here, as one sentence."""
        judged = [check.judged for check in self.checks]
        if "no" not in judged and self.numbers.get("reduced"):
            return f"Nothing at the reduced size contradicts the claim: {self.numbers['says']}."
        if "no" not in judged:
            return f"The claim holds here: {self.numbers['says']}."
        how = "holds here in part" if "yes" in judged else "does not hold here"
        missed = "; ".join(check.what for check in self.checks if not check.holds)
        return f"The claim ({self.numbers['says']}) {how}. What differs: {missed}."


def numbers_of(claim: Settings, *, reduced: bool) -> dict[str, Any]:
    """Read a claim's numbers from its config.

    Args:
        claim: the config's ``claim``.
        reduced: whether the values of its key ``reduced`` replace the full ones.

    Returns:
        The numbers; ``reduced`` has those that were replaced.

    >>> numbers_of({"steps": 100, "sweep": {"depth": [2, 30]}, "reduced": {"sweep": {"depth": [2]}}}, reduced=True)
    {'steps': 100, 'sweep': {'depth': [2]}, 'reduced': {'sweep': {'depth': [2]}}}
    """
    smaller = (claim.get("reduced") or {}) if reduced else {}
    return {**claim, **smaller, "reduced": smaller}


def count(starts: Settings, numbers: Settings) -> int:
    """Count the runs of a claim."""
    return len(starts) * len(list(_points(numbers))) * int(numbers["seeds"])


def carry_out(claim: Claim, starts: Settings, numbers: Settings, first: int, advance: Callable[[int], None]) -> Results:
    """Run a claim: every start at every point of the sweep, with several seeds.

    A name that the sweep and a recipe's ``vars`` have in common is a number of the recipe.

    Args:
        claim: the claim.
        starts: recipes by label.
        numbers: from :func:`numbers_of`.
        first: the first seed.
        advance: called with the number of runs that are done.
    """
    results = []
    for point, (label, recipe) in product(_points(numbers), starts.items()):
        at = {**numbers, **point, "start": label}
        model = claim.build(at)
        loaded = load_recipe(recipe)
        shared = {key: at[key] for key in loaded.vars if key in at}
        plan = resolve(load_recipe([loaded, {"vars": shared, "rules": {}}]) if shared else loaded, model)
        for seed in range(first, first + numbers["seeds"]):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CompanionWarning)  # a claim brings what its recipe requires
                report = apply(plan, seed)
            results.append(RunResult({**point, "start": label}, seed, claim.measure(Run(model, report, seed, at))))
            advance(1)
    return Results(tuple(results))


def _points(numbers: Settings) -> Iterator[dict[str, Any]]:
    """Every combination of the sweep's values."""
    sweep = numbers.get("sweep") or {}
    for values in product(*sweep.values()):
        yield dict(zip(sweep, values, strict=True))
