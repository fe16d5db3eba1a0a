"""The plan: recipe × model, as data that can be read before anything happens."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Self

from torch import Tensor, nn

from initframe.errors import Problem, ResolveError, closest, harmless, printable, shown
from initframe.frozen import opened
from initframe.model.latest import LatestSurvey
from initframe.plan import param_groups
from initframe.plan.assignment import Assignment, fan_difference
from initframe.plan.notebook import frame, html_table
from initframe.plan.table import table
from initframe.plan.text import WIDTH, Template, counted, fold, moments, shape, template, wrapped
from initframe.recipe.recipe import Recipe

Row = tuple[str, str, str, str, str]
_COLUMNS = ("tensor", "shape", "rule", "fill", "mean ± std")

ROWS = 100
"""Tensors that a printed plan shows one by one; of more, those with numbered names are folded."""


@dataclass(frozen=True)
class OfModel:
    """What has a field ``model``: a pickle leaves the model out, which is its own and may be large; copies keep it."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_by_name"} | {"model": None}

    def __copy__(self) -> Self:
        return replace(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the model, too, so that a copy of both stays together."""
        return replace(self, **{f.name: copy.deepcopy(getattr(self, f.name), memo) for f in fields(self)})


@dataclass(frozen=True)
class Plan(OfModel):
    """Recipe × model: one assignment per tensor that a rule wins, in state_dict order, and what is left over.

    ``print(plan)`` shows a table, ``plan.explain(name)`` a few sentences, ``plan.to_dict()`` plain data.

    Attributes:
        recipe: the recipe.
        title: the model's class name.
        assignments: one per tensor.
        untouched: names of parameters that no rule matches; they keep their values.
        buffers: names of buffers that no rule matches; they keep their values, too.
        skipped: names of matched tensors that cannot hold a fill, with the reason.
        warnings: what the reader should know (rules that match nothing under ``unused: warn``).
        kept: names of the model's further tensors, aliases included, and why they keep their values, as
            :meth:`explain` tells it; no part of the plan's equality.
        model: the model that was resolved, for :func:`initframe.apply`; no part of the plan's equality, nor of its
            pickle.
        latest: the model's latest survey, so that it is not surveyed again while it stays as it is.
        extra: what the model's state_dict holds besides tensors (``_extra_state``); no checkpoint written here has it.
        hidden: names of tensors that ``only`` left out of sight.
        declined: by rule, the tensors that it matches and that its initializer has nothing for (a file without them).
        unread: by path, the tensors of a file that no rule takes.
    """

    recipe: Recipe
    title: str
    assignments: tuple[Assignment, ...]
    untouched: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    model: nn.Module | Mapping[str, Tensor] | None = field(default=None, compare=False, repr=False)
    latest: LatestSurvey = field(default_factory=LatestSurvey, compare=False, repr=False)
    buffers: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    hidden: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    declined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unread: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Assignment:
        """The assignment of a tensor, by its name or an alias.

        Raises:
            ResolveError: the plan has none; the problem has the closest names.
        """
        if not isinstance(name, str) or name not in self._by_name:
            fact = f"it assigns no tensor {shown(name)}."
            raise ResolveError(Problem("plan", fact, closest(name, self._by_name)))
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        """The names of the tensors that are assigned."""
        return (a.slot.name for a in self.assignments)

    def __contains__(self, name: object) -> bool:
        """Whether a tensor is assigned, by its name or an alias."""
        return name in self._by_name

    @cached_property
    def _by_name(self) -> dict[str, Assignment]:
        return {name: a for a in self.assignments for name in (*a.slot.aliases, a.slot.name)}

    @property
    def companions(self) -> dict[str, dict[str, float]]:
        """By tensor name, the multipliers and factors that the recipe needs; tensors without any are left out.

        ``lr``, ``weight_decay`` and ``eps`` multiply the optimizer's numbers (:meth:`initframe.Report.param_groups`),
        everything else is a factor of the forward pass.
        """
        return {a.slot.name: dict(a.companions) for a in self.assignments if a.companions}

    @property
    def asks(self) -> list[str]:
        """What the recipe needs beyond values, as sentences; empty if nothing is needed."""
        asked = [(a.rule.name, a.companions) for a in self.assignments if a.companions]
        return param_groups.sentences(asked, self.recipe.requires) if asked or self.recipe.requires else []

    @property
    def elements(self) -> int:
        """The number of elements that will be written."""
        return sum(a.slot.numel for a in self.assignments)

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data, ready for JSON."""
        return {
            "model": self.title,
            "recipe": self.recipe.to_dict(),
            "assignments": [a.to_dict() for a in self.assignments],
            "untouched": list(self.untouched),
            "buffers": list(self.buffers),
            "skipped": dict(self.skipped),
            "declined": {rule: list(names) for rule, names in self.declined.items()},
            "unread": {path: list(names) for path, names in self.unread.items()},
            "warnings": list(self.warnings),
        }

    def explain(self, name: str) -> str:
        """Say in a few sentences what happens to one tensor, and why.

        Args:
            name: a tensor's name or alias.

        Raises:
            ResolveError: the plan and its leftovers have no such tensor.
        """
        known = (*self._by_name, *self.kept, *self.skipped)
        if not isinstance(name, str) or name not in known:
            raise ResolveError(Problem("plan", f"it has no tensor {shown(name)}.", closest(name, known)))
        if name in self.skipped:
            return printable(f"{name} is skipped: {self.skipped[name]}")
        if name in self.kept:
            return printable(f"{name} is untouched: {self.kept[name]} It keeps its values.")
        return self[name].explain(self.recipe.fans)

    def to_frame(self) -> Any:
        """The assignments as a pandas DataFrame, one row per tensor.

        Raises:
            InitframeError: pandas is not installed.
        """
        return frame(a.to_dict() | {"fill": str(a.fill)} for a in self.assignments)

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<Plan of {harmless(self._head())}>"

    def _repr_html_(self) -> str:
        return html_table(self._head(), _COLUMNS, self._rows(), list(leftovers(self)))

    def _head(self) -> str:
        count = counted(len(self.assignments), "tensor")
        return f"{self.title} × {self.recipe.name}: {count}, {self.elements:,} elements"

    def _rows(self, *, folded: bool | None = None) -> list[Row]:
        """The cells of the table as text."""
        rows = [(a.slot.name, shape(a.slot), a.rule.name, str(a.fill), moments(a.fill)) for a in self.assignments]
        return folded_rows(rows) if (len(rows) > ROWS if folded is None else folded) else rows

    def render(self, width: int = WIDTH, *, folded: bool | None = None) -> str:
        """The plan as text: a table, then what is untouched, shadowed, skipped, tied or frozen, and fans that differ.

        Args:
            width: columns to use at most.
            folded: whether tensors of one rule and shape whose names differ in whole numbers share a row; by default
                if the plan has more than 100.
        """
        rows = table(_COLUMNS, self._rows(folded=folded), width)
        return "\n".join([wrapped(self._head(), width), rows, *(wrapped(line, width) for line in leftovers(self))])


OpenPlan = opened(Plan)
"""What becomes a plan when it is given the class."""


def folded_rows(rows: Sequence[Row]) -> list[Row]:
    """Put rows of one shape and rule together if their names differ in whole numbers only.

    Args:
        rows: name, shape, rule, and two cells, of which the first and the last are shown.
    """
    alike: dict[tuple[Template, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        alike[template(row[0])[0], row[1], row[2]].append(row)
    folded: list[Row] = []
    for several in alike.values():
        _, shown, rule, *_ = several[0]
        fill, last = (_span(row[i] for row in several) for i in (3, 4))
        folded += [(name, shown, rule, fill, last) for name in fold(row[0] for row in several)]
    return folded


def _span(cells: Iterable[str]) -> str:
    """One text for all rows: the common one, or else the first and the last."""
    different = list(dict.fromkeys(cells))
    return different[0] if len(different) == 1 else f"{different[0]} … {different[-1]}"


def leftovers(plan: Plan) -> Iterator[str]:
    """Tell everything that a plan's table does not show; numbered names are folded.

    Args:
        plan: any.

    Yields:
        Lines, as long as they are.
    """
    some = plan.assignments
    if plan.untouched:
        yield f"Untouched ({len(plan.untouched)}): {', '.join(fold(plan.untouched))}"
    if plan.buffers:
        yield f"Untouched buffers ({len(plan.buffers)}): {', '.join(fold(plan.buffers))}"
    if plan.hidden:
        yield f"Out of sight: {counted(len(plan.hidden), 'tensor')}, which only leaves out"
    if plan.extra:
        yield f"No tensors ({len(plan.extra)}): {', '.join(fold(plan.extra))}: a written checkpoint does not hold them"
    shadows = Counter((a.rule.name, loser) for a in some for loser in a.shadowed)
    yield from (f"Shadowed: {one!r} over {other!r} on {counted(n, 'tensor')}" for (one, other), n in shadows.items())
    for rule, names in plan.declined.items():
        yield f"Declined: {rule!r} on {counted(len(names), 'tensor')}: {', '.join(fold(names))}"
    yield from (
        f"Not taken from {path} ({len(names)}): {', '.join(fold(names))}" for path, names in plan.unread.items()
    )
    yield from shared("Skipped", plan.skipped.items())
    yield from (f"Tied: {a.slot.name} is also {', '.join(fold(a.slot.aliases))}" for a in some if a.slot.aliases)
    frozen = [a.slot.name for a in some if not a.slot.requires_grad and a.slot.kind == "parameter"]
    if frozen:
        yield f"Frozen ({len(frozen)}): {', '.join(fold(frozen))}"
    yield from shared("Std", ((a.slot.name, text) for a in some if (text := a.std_difference)))
    differ = [(a.slot.name, text) for a in some if (text := fan_difference(a.slot))]
    yield from shared("Fans", differ)
    if differ:
        yield f"Fans: the recipe counts {'those of torch' if plan.recipe.fans == 'torch' else 'the effective ones'}"
    yield from shared("Note", ((a.slot.name, note) for a in some for note in a.slot.notes))
    yield from shared("Origin", ((a.slot.name, str(a.origin)) for a in some if a.origin))
    yield from _wasted(some)
    yield from (f"Companion: {text}" for text in plan.asks)
    yield from (f"Warning: {text}" for text in plan.warnings)


def _wasted(some: Iterable[Assignment]) -> Iterator[str]:
    """Say what a constructor writes in vain."""
    again = [a for a in some if a.overwritten]
    vain = sum(a.slot.numel * a.overwritten for a in again)
    if vain:
        share = vain / (vain + sum(a.slot.numel for a in some))
        yield (
            f"Overwritten: the constructor writes {counted(len(again), 'tensor')} more than once; {vain:,} elements in "
            f"vain, {share:.0%} of all that it writes"
        )


def shared(word: str, facts: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Tell each fact once, with all the names that it is true of.

    Args:
        word: what the lines begin with.
        facts: pairs of a name and a fact.

    Yields:
        One line per fact; numbered names are folded.

    >>> list(shared("Note", [("h.0.w", "it is frozen"), ("h.1.w", "it is frozen")]))
    ['Note: h.0…1.w: it is frozen']
    """
    names: dict[str, list[str]] = defaultdict(list)
    for name, fact in facts:
        names[fact].append(name)
    for fact, several in names.items():
        yield f"{word}: {', '.join(fold(several))}: {fact}"
