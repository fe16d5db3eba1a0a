"""The plan: recipe × model, as data that can be read before anything happens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import StringIO
from typing import Any

from torch import Tensor, nn

from initframe import companions
from initframe.errors import ResolveError, closest
from initframe.fills import Fill
from initframe.model.slot import Slot
from initframe.recipe.recipe import Recipe, Rule

WIDTH = 100
"""Columns of a printed plan."""


@dataclass(frozen=True)
class Assignment:
    """What one tensor will hold, and why.

    Attributes:
        slot: the tensor's facts.
        rule: the rule that won.
        fill: what the tensor will hold; ``fill.mean`` and ``fill.std`` are what it will really have.
        arguments: the initializer's arguments after evaluation, one value per block where the rule splits.
        shadowed: the names of the rules that match too, and lost because they stand above.
        declined: the rules below that match too, but whose initializers have nothing for the tensor, with the reasons.
        companions: what the rule asks for besides values: multipliers for the optimizer, factors of the forward pass.
    """

    slot: Slot
    rule: Rule
    fill: Fill
    arguments: Mapping[str, Any] = field(default_factory=dict)
    shadowed: tuple[str, ...] = ()
    declined: Mapping[str, str] = field(default_factory=dict)
    companions: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The assignment as plain data."""
        slot = self.slot
        return {
            "name": slot.name,
            "aliases": list(slot.aliases),
            "shape": list(slot.shape),
            "dtype": str(slot.dtype).removeprefix("torch."),
            "kind": slot.kind,
            "trained": slot.requires_grad,
            "rule": self.rule.name,
            "init": self.rule.init,
            "arguments": {k: list(v) if isinstance(v, tuple) else v for k, v in self.arguments.items()},
            "shadowed": list(self.shadowed),
            "declined": dict(self.declined),
            "companions": dict(self.companions),
            "fan_in": slot.fan_in,
            "fan_out": slot.fan_out,
            "effective_fan_in": slot.effective_fan_in,
            "effective_fan_out": slot.effective_fan_out,
            "fill": self.fill.to_dict(),
            "mean": _finite(self.fill.mean),
            "std": _finite(self.fill.std),
            "notes": list(slot.notes),
        }


@dataclass(frozen=True)
class Plan:
    """Recipe × model: one assignment per tensor that a rule wins, in state_dict order, and what is left over.

    ``print(plan)`` shows a table, ``plan.explain(name)`` a few sentences, ``plan.to_dict()`` plain data.

    Attributes:
        recipe: the recipe.
        title: the model's class name.
        assignments: one per tensor.
        untouched: names of parameters that no rule matches; they keep their values.
        skipped: names of matched tensors that cannot hold a fill, with the reason.
        warnings: what the reader should know (rules that match nothing under ``unused: warn``).
        model: the model that was resolved, for :func:`initframe.apply`; no part of the plan's equality.
    """

    recipe: Recipe
    title: str
    assignments: tuple[Assignment, ...]
    untouched: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    model: nn.Module | Mapping[str, Tensor] | None = field(default=None, compare=False, repr=False)

    def __getitem__(self, name: str) -> Assignment:
        """The assignment of a tensor, by its name or an alias.

        Raises:
            ResolveError: the plan has none; the message has the closest names.
        """
        if name not in self._by_name:
            raise ResolveError(f"the plan has no tensor {name!r}. {closest(name, self._by_name)}")
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Assignment]:
        return {name: a for a in self.assignments for name in (*a.slot.aliases, a.slot.name)}

    @property
    def companions(self) -> dict[str, dict[str, float]]:
        """By tensor name, what the recipe asks for besides values; tensors of which it asks nothing are left out.

        ``lr``, ``weight_decay`` and ``eps`` multiply the optimizer's numbers (:meth:`initframe.Report.param_groups`),
        everything else is a factor of the forward pass.
        """
        return {a.slot.name: dict(a.companions) for a in self.assignments if a.companions}

    @property
    def asks(self) -> list[str]:
        """The companions, and what the recipe requires in words, as sentences; empty where nothing differs."""
        return companions.sentences(((a.rule.name, a.companions) for a in self.assignments), self.recipe.requires)

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
            "skipped": dict(self.skipped),
            "warnings": list(self.warnings),
        }

    def explain(self, name: str) -> str:
        """Say in a few sentences what happens to one tensor, and why.

        Args:
            name: a tensor's name or alias.

        Raises:
            ResolveError: the plan and its leftovers have no such tensor.
        """
        if name in self.untouched:
            return f"{name} is untouched: no rule matches it, so it keeps its values."
        if name in self.skipped:
            return f"{name} is skipped: {self.skipped[name]}"
        if name not in self._by_name:
            known = (*self._by_name, *self.untouched, *self.skipped)
            raise ResolveError(f"the plan says nothing of {name!r}. {closest(name, known)}".rstrip())
        return " ".join(_sentences(self[name]))

    def __str__(self) -> str:
        """A table of 100 columns, then what is untouched, shadowed or skipped."""
        rows = [(a.slot.name, shape(a.slot), a.rule.name, str(a.fill), moments(a.fill)) for a in self.assignments]
        head = f"{self.title} × {self.recipe.name}: {counted(len(rows), 'tensor')}, {self.elements:,} elements"
        columns = ("tensor", "shape", "rule", "fill", "mean ± std")
        return "\n".join([head, table(columns, rows), *leftovers(self)])


def leftovers(plan: Plan) -> list[str]:
    """Lines about everything that a plan's table does not show: untouched, shadowed, skipped, differing fans."""
    lines = []
    if plan.untouched:
        lines.append(f"Untouched ({len(plan.untouched)}): {', '.join(plan.untouched)}")
    shadows = Counter((a.rule.name, loser) for a in plan.assignments for loser in a.shadowed)
    lines += [
        f"Shadowed: {winner!r} over {loser!r} on {counted(n, 'tensor')}" for (winner, loser), n in shadows.items()
    ]
    declined = Counter(rule for a in plan.assignments for rule in a.declined)
    lines += [f"Declined: {rule!r} on {counted(n, 'tensor')}" for rule, n in declined.items()]
    lines += [f"Skipped: {name}: {reason}" for name, reason in plan.skipped.items()]
    lines += [f"Tied: {a.slot.name} is also {', '.join(a.slot.aliases)}" for a in plan.assignments if a.slot.aliases]
    lines += [
        f"Frozen: {a.slot.name}" for a in plan.assignments if not a.slot.requires_grad and a.slot.kind == "parameter"
    ]
    lines += [f"Fans: {a.slot.name}: {text}" for a in plan.assignments if (text := fan_difference(a.slot))]
    lines += [f"Note: {a.slot.name}: {note}" for a in plan.assignments for note in a.slot.notes]
    lines += [f"Companion: {text}" for text in plan.asks]
    lines += [f"Warning: {text}" for text in plan.warnings]
    return lines


def fan_difference(slot: Slot) -> str:
    """Where torch's fans and the effective ones differ, by what factor; empty where they do not."""
    if slot.ndim < 2 or None in (slot.fan_in, slot.fan_out, slot.effective_fan_in, slot.effective_fan_out):
        return ""
    pairs = (("fan_in", slot.fan_in, slot.effective_fan_in), ("fan_out", slot.fan_out, slot.effective_fan_out))
    return ", ".join(
        f"{name} {torchs:g}, effective {own:g} (×{torchs / own:.3g})"
        for name, torchs, own in pairs
        if torchs and own and torchs != own
    )


def _sentences(a: Assignment) -> list[str]:
    """What happens to one tensor, sentence by sentence."""
    slot = a.slot
    trained = "" if slot.requires_grad else "frozen "
    lines = [f"{slot.name} ({trained}{slot.kind}, shape {shape(slot)}, {str(slot.dtype).removeprefix('torch.')})"]
    if slot.aliases:
        lines[0] += f", tied to {', '.join(slot.aliases)},"
    lines[0] += f" gets {a.fill} from {a.rule.describe()}, {a.rule.init}."
    if a.arguments:
        lines.append("Arguments: " + ", ".join(f"{k} = {_number(v)}" for k, v in a.arguments.items()) + ".")
    if slot.fan_in is not None and slot.fan_out is not None:
        whole = "" if a.rule.split is None else " of the whole, each block has its own"
        lines.append(f"fan_in {slot.fan_in:g}, fan_out {slot.fan_out:g}{whole}.")
    if text := fan_difference(slot):
        lines.append(f"The fans of torch.nn.init differ from the effective ones: {text}.")
    if not math.isnan(a.fill.std):
        lines.append(f"Mean {a.fill.mean:.4g} and std {a.fill.std:.4g} are what it will have.")
    asked = a.arguments.get("std")
    if isinstance(asked, float | int) and asked > 0 and abs(a.fill.std / asked - 1) > 1e-3:
        lines.append(f"Asked was std {asked:.4g}; what the fill leaves of it is {a.fill.std / asked:.3f} of that.")
    if a.shadowed:
        verbs = "matches too and stands" if len(a.shadowed) == 1 else "match too and stand"
        lines.append(f"It beats {', '.join(map(repr, a.shadowed))}, which {verbs} above it.")
    lines += [f"Rule {rule!r}, below, declines it: {reason}" for rule, reason in a.declined.items()]
    return [*lines, *slot.notes]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int = WIDTH) -> str:
    """Rows as aligned text of at most ``width`` columns; long cells fold."""
    from rich import box  # noqa: PLC0415  # rich is for people who look, not for import
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    grid = Table(*columns, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for column in grid.columns:
        column.overflow = "fold"
    for row in rows:
        grid.add_row(*map(Text, row))
    console = Console(file=StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(grid)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def shape(slot: Slot) -> str:
    """A slot's shape, as people write it: ``64×3×11×11``."""
    return "×".join(map(str, slot.shape)) or "scalar"


def moments(fill: Fill) -> str:
    """A fill's mean and std, or a dash where they depend on the current values."""
    return "—" if math.isnan(fill.std) else f"{fill.mean:.3g} ± {fill.std:.3g}"


def counted(n: int, noun: str) -> str:
    """A count with its noun: ``1 tensor``, ``2 tensors``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _number(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_number, value)) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
