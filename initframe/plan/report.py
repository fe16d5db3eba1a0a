"""What happened: data first, a table second."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from torch import Tensor, nn

from initframe.errors import Problem, ResolveError, closest, harmless, shown
from initframe.fills import Keep
from initframe.frozen import opened
from initframe.model.names import unwrap
from initframe.model.slot import Slot
from initframe.plan import param_groups
from initframe.plan.assignment import Assignment
from initframe.plan.notebook import frame, html_table
from initframe.plan.plan import OfModel, Plan, leftovers, shared
from initframe.plan.table import table
from initframe.plan.text import WIDTH, counted, moments, shape, wrapped


class Moments(NamedTuple):
    """Mean and standard deviation of the values that a tensor holds.

    With an infinite value, the mean is infinite, and NaN if infinities cancel or a value is NaN; the std is NaN.
    """

    mean: float
    std: float


class Measured(NamedTuple):
    """A tensor as it was found: its moments, the digest of its bits, and how many values are infinite or NaN."""

    moments: Moments
    digest: int
    nonfinite: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """What happened to one tensor.

    Attributes:
        assignment: what was to happen.
        before: what was measured before; ``None`` if it was not.
        after: what was measured after; ``None`` also if there were no numbers to see, in this process or at all.
        written: the tensor's facts in the model that was written to, if they differ from the plan's.
        computed: whether a layer computes the tensor from others.
    """

    assignment: Assignment
    before: Measured | None = None
    after: Measured | None = None
    written: Slot | None = None
    computed: bool = False

    def __repr__(self) -> str:
        found = f", mean {self.after.moments.mean:.3g}, std {self.after.moments.std:.3g}" if self.after else ""
        return harmless(f"<Result of {self.name}: {self.assignment.fill}{found}>")

    @property
    def slot(self) -> Slot:
        """The tensor's facts in the model that was written to."""
        return self.written or self.assignment.slot

    @property
    def name(self) -> str:
        """The tensor's canonical name."""
        return self.assignment.slot.name

    @property
    def nonfinite(self) -> str:
        """How many values are infinite or NaN, before and after; empty if none were found."""
        found = {"before": self.before, "after": self.after}
        counts = {when: one.nonfinite for when, one in found.items() if one and one.nonfinite}
        return ", ".join(f"{count:,} of {self.slot.numel:,} values {when}" for when, count in counts.items())

    @property
    def digest(self) -> str | None:
        """The digest of the new bits as 16 hex digits, if it was measured: equal digests, equal tensors."""
        return f"{self.after.digest:016x}" if self.after else None


OpenResult = opened(Result)
"""What becomes a result when it is given the class."""


class Left(NamedTuple):
    """A tensor of the model that a plan left as it was: its facts, and what was measured."""

    slot: Slot
    found: Measured | None = None


@dataclass(frozen=True)
class Report(OfModel):
    """What :func:`initframe.apply` did.

    Attributes:
        plan: what was applied.
        seed: the seed; ``None`` if torch's generator continued from its state.
        generator: ``"stream"`` or ``"torch"``.
        results: one per tensor that was written or kept, in the plan's order.
        stale: copies inside the model (averages, target networks) whose source was written, and that differ from it.
        forgotten: for how many parameters the optimizer forgot its state; ``None`` without an optimizer.
        model: the model that was written to; no part of the report's equality.
        left: the model's other tensors.
    """

    plan: Plan
    seed: int | None
    generator: str
    results: tuple[Result, ...]
    stale: tuple[str, ...] = ()
    forgotten: int | None = None
    model: nn.Module | Mapping[str, Tensor] | None = field(default=None, compare=False, repr=False)
    left: tuple[Left, ...] = ()

    def param_groups(self, lr: float, **numbers: float) -> list[dict[str, Any]]:
        """The model's trained parameters in groups for an optimizer, with the recipe's multipliers.

        Args:
            lr: of tensors without multipliers.
            **numbers: further numbers of the optimizer, multiplied likewise (``weight_decay``,
                ``eps``).

        Returns:
            Groups for torch.optim.

        Raises:
            ResolveError: a value is not a number, or the model has no trained parameter.

        >>> from initframe import reinit
        >>> rules = {"weight": {"init": "zeros", "companions": {"lr": "1 / fan_in"}}}
        >>> report = reinit(nn.Linear(4, 2), {"rules": rules, "companions": "heeded"}, seed=0)
        >>> [group["lr"] for group in report.param_groups(lr=0.1, weight_decay=0.01)]
        [0.025, 0.1]
        """
        if self.model is None:
            fix = "Build the groups from the report that apply returned."
            raise ResolveError(Problem("report", "it has no model.", fix=fix))
        return param_groups.param_groups(self.model, self.plan.companions, {"lr": lr, **numbers})

    def __getitem__(self, name: str) -> Result:
        """The result of one tensor, by its canonical name.

        Raises:
            ResolveError: there is none; the problem has the closest names.
        """
        if not isinstance(name, str) or name not in self._by_name:
            raise ResolveError(Problem("report", f"it has no tensor {shown(name)}.", closest(name, self._by_name)))
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> Mapping[str, Result]:
        return {result.name: result for result in self.results}

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data, ready for JSON: a mean or std that is not finite is ``None``."""
        return {
            "model": self.plan.title,
            "seed": self.seed,
            "generator": self.generator,
            "stale": list(self.stale),
            "forgotten": self.forgotten,
            "results": [
                {
                    "name": r.name,
                    "rule": r.assignment.rule.name,
                    "before": r.before and _plain(r.before),
                    "after": r.after and _plain(r.after),
                    "digest": r.digest,
                }
                for r in self.results
            ],
        }

    def to_frame(self) -> Any:
        """The results as a pandas DataFrame, one row per tensor.

        Raises:
            InitframeError: pandas is not installed.
        """
        return frame(_flat(result) for result in self.results)

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<Report of {harmless(self._head())}>"

    def _repr_html_(self) -> str:
        columns, rows = self._cells()
        heads = [column.replace("\n", ", ") for column in columns]
        return html_table(self._head(), heads, rows, [*leftovers(self.plan), *self._aftermath()])

    def _head(self) -> str:
        elements = sum(r.assignment.slot.numel for r in self.results)
        about = f"{self.plan.title} × {self.plan.recipe.name}, seed {self.seed}"
        return f"{about}: {counted(len(self.results), 'tensor')}, {elements:,} elements"

    def _cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """The table's columns and cells as text."""
        # New memory had no values before; then the planned moments are compared with the measured ones.
        from_plan = not any(result.before for result in self.results)
        measured = any(result.after for result in self.results)
        change = "planned → measured" if from_plan else "before → after"
        numbers = (f"mean\n{change}", f"std\n{change}") if measured else ("mean ± std",)
        rows = [_row(result, from_plan, measured) for result in self.results]
        return ("tensor", "shape", "rule", "fill", *numbers), rows

    def render(self, width: int = WIDTH) -> str:
        """The report as text: a table, then what is untouched, shadowed or skipped.

        Args:
            width: columns to use at most.
        """
        lines = [wrapped(line, width) for line in (*leftovers(self.plan), *self._aftermath())]
        return "\n".join([wrapped(self._head(), width), table(*self._cells(), width), *lines])

    def strange(self) -> Iterator[str]:
        """Say which tensors hold, or held, values that are infinite or NaN, and how many; nothing if none was found."""
        yield from shared("Not finite", ((r.name, text) for r in self.results if (text := r.nonfinite)))

    def _aftermath(self) -> Iterator[str]:
        """Lines about values that are not finite, optimizer state and stale copies."""
        yield from self.strange()
        if self.forgotten is not None:
            state = f"forgot its state of {counted(self.forgotten, 'parameter')}" if self.forgotten else "had no state"
            yield f"Optimizer: {state}{'' if self.forgotten else ' of what was written'}."
        written = [result.name for result in self.results if not isinstance(result.assignment.fill, Keep)]
        for name in self.stale:
            kind = type(unwrap(self.model).get_submodule(name)).__name__ if isinstance(self.model, nn.Module) else ""
            copied = "an averaged copy" if any(word in kind for word in ("Average", "Ema", "EMA")) else "a copy"
            if any(one.startswith(f"{name}.") for one in written):
                yield f"Stale: {name} is {copied}; it has other numbers than its source. init: copy makes them equal."
            else:
                yield f"Stale: {name} is {copied}; it still holds weights from before."


OpenReport = opened(Report)
"""What becomes a report when it is given the class."""


def _plain(found: Measured) -> dict[str, float | int | None]:
    """What was measured, as JSON takes it."""
    moments = {key: value if math.isfinite(value) else None for key, value in found.moments._asdict().items()}
    return {**moments, "nonfinite": found.nonfinite}


def _flat(result: Result) -> dict[str, Any]:
    """A result as one row of numbers and texts."""
    a = result.assignment
    planned = {"planned_mean": a.fill.mean, "planned_std": a.fill.std}
    before, after = (one.moments if one else Moments(math.nan, math.nan) for one in (result.before, result.after))
    found = {"before_mean": before.mean, "before_std": before.std, "mean": after.mean, "std": after.std}
    found["nonfinite"] = result.after.nonfinite if result.after else 0
    facts = {"name": result.name, "shape": list(a.slot.shape), "elements": a.slot.numel}
    return {**facts, "rule": a.rule.name, "fill": str(a.fill), **planned, **found, "digest": result.digest}


def _row(result: Result, from_plan: bool, measured: bool) -> tuple[str, ...]:
    a = result.assignment
    cells = (a.slot.name, shape(a.slot), a.rule.name, str(a.fill))
    if not result.after:  # of measured ones, what has no numbers, or none in this process
        return (*cells, *(("—", "—") if measured else (moments(a.fill),)))
    old = Measured(Moments(a.fill.mean, a.fill.std), 0) if from_plan else result.before
    (mean, std), (new_mean, new_std) = _numbers(old), _numbers(result.after)
    return (*cells, f"{mean} → {new_mean}", f"{std} → {new_std}")


def _numbers(found: Measured | None) -> tuple[str, str]:
    """Mean and std as text; dashes if there are none."""
    if found is None or (math.isnan(found.moments.std) and not found.nonfinite):
        return "—", "—"
    return _tiny(found.moments.mean), f"{found.moments.std:.3g}"


def _tiny(mean: float) -> str:
    """A mean that is shown with its std needs one digit."""
    return f"{mean:.1g}" if abs(mean) < 0.1 else f"{mean:.3g}"
