"""What differs between two plans, tensor by tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from initframe.errors import InitframeError, Problem, harmless
from initframe.fills.equal import same
from initframe.plan.assignment import Assignment
from initframe.plan.notebook import frame, html_table
from initframe.plan.plan import ROWS, Plan, folded_rows
from initframe.plan.table import table
from initframe.plan.text import WIDTH, counted, shape, wrapped

_COLUMNS = ("tensor", "shape", "rules", "fill", "other's fill")


@dataclass(frozen=True)
class Difference:
    """A tensor that two plans do not give the same distribution.

    Attributes:
        name: the tensor's name in the first plan that has it.
        one: its assignment in the first plan; ``None`` if that leaves it untouched.
        other: its assignment in the other plan; ``None`` likewise.
    """

    name: str
    one: Assignment | None
    other: Assignment | None

    @property
    def fills(self) -> tuple[str, str]:
        """Both fills as text, with all digits where the short texts are equal."""
        found = [a and a.fill for a in (self.one, self.other)]
        short, exact = [[words(fill) if fill else "untouched" for fill in found] for words in (str, repr)]
        if self.one and self.other and self.one.slot.shape != self.other.slot.shape:
            return f"{short[0]} at {shape(self.one.slot)}", f"{short[1]} at {shape(self.other.slot)}"
        one, other = exact if short[0] == short[1] else short
        return one, other

    def to_dict(self) -> dict[str, Any]:
        """The difference as plain data, ready for JSON."""
        return {"name": self.name, **{key: a and a.to_dict() for key, a in (("one", self.one), ("other", self.other))}}


@dataclass(frozen=True)
class Differences:
    """The tensors that two plans do not give the same distribution; ``print`` shows a table.

    Attributes:
        title: what is compared.
        rows: one per tensor that differs, in the order of the first plan.
        equal: how many tensors have the same fill and shape in both.
    """

    title: str
    rows: tuple[Difference, ...]
    equal: int

    def __bool__(self) -> bool:
        """Whether any tensor differs."""
        return bool(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data, ready for JSON."""
        return {"title": self.title, "equal": self.equal, "rows": [row.to_dict() for row in self.rows]}

    def to_frame(self) -> Any:
        """The rows as a pandas DataFrame, with the fills as text.

        Raises:
            InitframeError: pandas is not installed.
        """
        return frame({"name": row.name, "fill": row.fills[0], "other": row.fills[1]} for row in self.rows)

    def __str__(self) -> str:
        rows = self._rows()
        return "\n".join([wrapped(self._head()), *([table(_COLUMNS, rows, WIDTH)] if rows else [])])

    def __repr__(self) -> str:
        return f"<Differences of {harmless(self._head())}>"

    def _repr_html_(self) -> str:
        return html_table(self._head(), _COLUMNS, self._rows(), [])

    def _head(self) -> str:
        verb = "differs" if len(self.rows) == 1 else "differ"
        return f"{self.title}: {counted(len(self.rows), 'tensor')} {verb}, {self.equal} equal"

    def _rows(self) -> list[tuple[str, str, str, str, str]]:
        """The cells of the table; of many rows, numbered names share one."""
        rows = [_cells(row) for row in self.rows]
        return folded_rows(rows) if len(rows) > ROWS else rows


def diff(plan: Plan, other: Plan) -> Differences:
    """Compare two plans: which tensors do not get the same distribution, and how they differ.

    Fills are the same if they are of one kind and have the same float32 constants, so that one seed gives the same
    bits. Tensors are found by any of their names.

    Args:
        plan: from a recipe, a constructor or values.
        other: another one, of the same model or of another.

    Returns:
        The tensors that differ; those that one plan leaves untouched are among them.

    Raises:
        InitframeError: one of the two is no plan.

    >>> from torch import nn
    >>> from initframe import resolve
    >>> net = nn.Linear(2, 2)
    >>> zeros = resolve({"rules": {"*": "zeros"}}, net)
    >>> found = diff(zeros, resolve({"rules": {"bias": "zeros", "weight": "eye"}}, net))
    >>> found.equal, [(row.name, *row.fills) for row in found.rows]
    (1, [('weight', 'constant(0)', 'identity()')])
    """
    pair: tuple[object, object] = (plan, other)
    for given in pair:
        if not isinstance(given, Plan):
            fact, fix = f"got {type(given).__name__}.", "Pass two plans: from resolve, trace or identify."
            raise InitframeError(Problem("diff", fact, fix=fix))
    pairs = [(a, _found(a, other)) for a in plan.assignments]
    matched = {partner.slot.name for _, partner in pairs if partner}
    both = [Difference(a.slot.name, a, partner) for a, partner in pairs]
    only = [Difference(a.slot.name, None, a) for a in other.assignments if a.slot.name not in matched]
    rows = (*(row for row in both if not _is_equal(row)), *only)
    title = f"{plan.title} × {plan.recipe.name} against {other.title} × {other.recipe.name}"
    return Differences(title, rows, len(both) + len(only) - len(rows))


def _found(a: Assignment, plan: Plan) -> Assignment | None:
    """The assignment of a tensor in another plan, by any of its names."""
    return next((plan[name] for name in (a.slot.name, *a.slot.aliases) if name in plan), None)


def _is_equal(row: Difference) -> bool:
    one, other = row.one, row.other
    return bool(one and other and one.slot.shape == other.slot.shape and same(one.fill, other.fill))


def _cells(row: Difference) -> tuple[str, str, str, str, str]:
    some = row.one or row.other
    rules = [a.rule.name if a else "—" for a in (row.one, row.other)]
    return (row.name, shape(some.slot) if some else "", " / ".join(dict.fromkeys(rules)), *row.fills)
