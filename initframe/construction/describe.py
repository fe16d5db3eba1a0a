"""describe(plan) → recipe: few rules that make the same fills."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from initframe.applying.locate import demand_plan
from initframe.construction.bodies import Body, bodies
from initframe.construction.rules import Choice, choose
from initframe.construction.selectors import Cell, cells_of, selectors_of
from initframe.errors import InitframeError, Problem, ResolveError
from initframe.fills import Fill, Masked
from initframe.fills.constructed import Constructed
from initframe.fills.equal import key, same
from initframe.initializers.defaults import torch_default
from initframe.model.slot import Slot
from initframe.model.survey import Survey, survey
from initframe.plan import Plan
from initframe.recipe.recipe import Recipe, load_recipe
from initframe.resolver.resolve import resolve_surveyed

DEFAULT, KEEP, CONSTRUCTOR = Body("torch_default"), Body("keep"), Body("constructor")
COSTS = {DEFAULT: 0.1, KEEP: 0.5, CONSTRUCTOR: 8.0}
"""What says nothing of a fill's numbers, and how much there is to read in it."""
ROUNDS = 12
"""How often rules are found anew because a formula was off by one unit in the last place."""
_FIRST_INDEX = re.compile(r"(?<![^.])([0-9]+)(?![^.])")


def describe(plan: Plan) -> Recipe:
    """Write a recipe that makes a plan's fills: few rules, with formulas where they explain the numbers.

    The recipe is resolved against the plan's own model and compared before it is given: equal fills mean the same kind
    and the same float32 constants, so the same bits. What rules cannot say becomes ``init: constructor``. Parameters
    that the plan skips have a rule ``keep``.

    Args:
        plan: traced, identified, or resolved; its model is needed.

    Returns:
        The recipe; :meth:`initframe.Recipe.to_yaml` writes it with comments.

    Raises:
        ResolveError: the plan has no model, or holds what no rule can say.

    >>> import initframe
    >>> from torch import nn
    >>> recipe = describe(initframe.trace(lambda: nn.Sequential(nn.Linear(4, 2), nn.LayerNorm(2))))
    >>> [(rule.name, rule.init) for rule in recipe.rules]
    [('all', 'torch_default')]
    """
    demand_plan(plan, "describe")
    if plan.model is None:
        raise ResolveError(Problem("describe", "the plan has no model.", "", "Describe the plan before it is pickled."))
    described = _Described(plan, survey(plan.model))
    for _ in range(ROUNDS):
        recipe, wrong = described.attempt()
        if not wrong:
            return recipe
        described.forbid(wrong)
    raise ResolveError(
        Problem("describe", f"no rules were found that make the plan's {next(iter(wrong))} and {len(wrong) - 1} more.")
    )


class _Described:
    """A plan on its way to a recipe: what each tensor may be said to hold, and what turned out to be wrong."""

    def __init__(self, plan: Plan, seen: Survey) -> None:
        self.plan = plan
        self.seen = seen
        self.fills = {a.slot.name: a.fill for a in plan.assignments}
        self.forbidden: dict[str, set[Body]] = defaultdict(set)
        slots = {slot.name: slot for slot in seen.every}
        self.slots = [slots[a.slot.name] for a in plan.assignments if a.slot.name in slots]
        others = (*plan.skipped, *plan.untouched)
        self.left = [slots[name] for name in others if name in slots and slots[name].kind == "parameter"]
        self.layers = _layers(slot.name for slot in slots.values())
        self.known: dict[Any, dict[Body, float]] = {}
        self.last: dict[str, Body] = {}

    def attempt(self) -> tuple[Recipe, list[str]]:
        """Find rules; give the recipe, and the names of the tensors that it gives another fill."""
        cells, found = self._cells()
        masks: dict[Body, int] = defaultdict(int)
        for i, bodies_of_cell in enumerate(found):
            for body in bodies_of_cell:
                masks[body] |= 1 << i
        costs = {body: max(f[body] for f in found if body in f) for body in masks}
        choices = choose(len(cells), masks, costs, selectors_of(cells))
        self.last = {}
        for choice in choices:
            for i, cell in enumerate(cells):
                if choice.cells >> i & 1:
                    self.last |= dict.fromkeys((slot.name for slot in cell.slots), choice.body)
        recipe = load_recipe(_recipe(choices))
        recipe = replace(recipe, name=f"{self.plan.title}, as its {self.plan.recipe.name} has it")
        recipe = self._commented(recipe, choices, cells)
        return recipe, self._wrong(recipe)

    def forbid(self, names: Sequence[str]) -> None:
        """Take what was said of tensors from what may be said of them."""
        for name in names:
            if name in self.last:
                self.forbidden[name].add(self.last[name])

    def _cells(self) -> tuple[list[Cell], list[dict[Body, float]]]:
        """Cells of tensors that have a body in common, with their bodies and what these cost."""
        cells: list[Cell] = []
        found: list[dict[Body, float]] = []
        for cell in cells_of((*self.slots, *self.left), self.seen.around):
            common = self._common(cell.slots)
            if common:
                cells.append(cell)
                found.append(common)
                continue
            cells += [cell._replace(template=slot.name, slots=(slot,)) for slot in cell.slots]
            found += [self._common([slot]) for slot in cell.slots]
        return cells, found

    def _common(self, slots: Sequence[Slot]) -> dict[Body, float]:
        """The bodies that are right for all of some tensors."""
        common = self._bodies(slots[0])
        for slot in slots[1:]:
            other = self._bodies(slot)
            common = {body: max(cost, other[body]) for body, cost in common.items() if body in other}
            if not common:
                break
        return common

    def _bodies(self, slot: Slot) -> dict[Body, float]:
        """What may be said of one tensor, and how much there is to read."""
        fill = self.fills.get(slot.name)
        if fill is None:
            return {KEEP: COSTS[KEEP]}
        layer = self.layers.get(slot.name)
        settings = tuple(sorted(slot.settings.items()))
        about = (slot.shape, slot.fan_in, slot.fan_out, slot.module_types, slot.attribute, slot.padding_row, settings)
        mark = (key(fill), about, layer)
        if mark not in self.known:
            self.known[mark] = self._new_bodies(slot, fill, layer)
        found = self.known[mark]
        if gone := self.forbidden.get(slot.name):
            found = {body: cost for body, cost in found.items() if body not in gone}
        return found or self._constructor(slot, fill)

    def _constructor(self, slot: Slot, fill: Fill) -> dict[Body, float]:
        """What is said where nothing else can be."""
        known = slot.constructed
        kept = isinstance(known, Constructed) and known.fill and _unpadded(known.fill) == _unpadded(fill)
        return {CONSTRUCTOR: COSTS[CONSTRUCTOR]} if kept else {}

    def _new_bodies(self, slot: Slot, fill: Fill, layer: tuple[int, int] | None) -> dict[Body, float]:
        facts: dict[str, float] = {**self.seen.settings, **slot.settings, **self.seen.config}
        facts |= {f"d{i}": size for i, size in enumerate(slot.shape)} | {"ndim": slot.ndim, "numel": slot.numel}
        if slot.fan_in is not None and slot.fan_out is not None:
            facts |= {"fan_in": slot.fan_in, "fan_out": slot.fan_out}
        facts = {name: value for name, value in facts.items() if name not in ("layer", "layers")}
        if layer and layer[1] > 1:
            facts |= {"layer": layer[0], "layers": layer[1]}
        padded = isinstance(fill, Masked) and fill.padding
        padding = None if slot.padding_row is None or padded else "fill"
        found: dict[Body, float] = {}
        for body, cost in bodies(fill, facts):
            padded_too = body._replace(padding=padding)
            found[padded_too] = min(found.get(padded_too, math.inf), cost + (0.3 if padding else 0.0))
        try:
            default: Fill | None = torch_default(slot)
        except InitframeError:
            default = None
        inner = fill.fill if padded and isinstance(fill, Masked) else fill
        if default is not None and same(default, inner):
            found[DEFAULT._replace(padding=padding)] = COSTS[DEFAULT]
        return found

    def _wrong(self, recipe: Recipe) -> list[str]:
        """The tensors that a recipe gives another fill than the plan."""
        made = {a.slot.name: a.fill for a in resolve_surveyed(recipe, self.seen, self.plan.model or {}).assignments}
        return [name for name, fill in self.fills.items() if name not in made or not same(made[name], fill)]

    def _commented(self, recipe: Recipe, choices: Sequence[Choice], cells: Sequence[Cell]) -> Recipe:
        """Say of every rule how many tensors it covers, and where the code is."""
        winner: dict[int, int] = {}
        for turn, choice in enumerate(choices):
            winner |= {i: turn for i in range(len(cells)) if choice.cells >> i & 1}
        origins = {a.slot.name: a.origin for a in self.plan.assignments}
        rules = []
        for turn, rule in enumerate(recipe.rules):
            names = [slot.name for i, cell in enumerate(cells) if winner.get(i) == turn for slot in cell.slots]
            places = Counter(str(origins[name]) for name in names if origins.get(name))
            where = "; ".join(place for place, _ in places.most_common(2)) + ("; …" if len(places) > 2 else "")
            why = next((self.plan.skipped[name] for name in names if name in self.plan.skipped), "")
            count = f"{len(names)} tensor{'' if len(names) == 1 else 's'}"
            rules.append(replace(rule, comment=": ".join(filter(None, [count, where or why]))))
        return replace(recipe, rules=tuple(rules))


def _unpadded(fill: Fill) -> Any:
    return key(replace(fill, padding=False)) if isinstance(fill, Masked) else key(fill)


def _layers(names: Iterable[str]) -> Mapping[str, tuple[int, int]]:
    """By name, its first whole number, and how many different ones stand in that place."""
    places: dict[str, tuple[str, int]] = {}
    for name in names:
        if found := _FIRST_INDEX.search(name):
            places[name] = name[: found.start()], int(found[0])
    counts: dict[str, set[int]] = defaultdict(set)
    for prefix, index in places.values():
        counts[prefix].add(index)
    return {name: (index, len(counts[prefix])) for name, (prefix, index) in places.items()}


def _recipe(choices: Sequence[Choice]) -> dict[str, Any]:
    """Rules as plain data, with names."""
    rules: dict[str, Any] = {}
    for choice in choices:
        patterns = list(dict.fromkeys(dict(s.keys)["match"] for s in choice.selectors))
        rest = {k: v for k, v in choice.selectors[0].keys if k != "match"}
        name = _unused(_name(patterns, rest), rules)
        rules[name] = {"match": patterns[0] if len(patterns) == 1 else patterns, **rest, **choice.body.written()}
    return {"rules": rules}


def _name(patterns: Sequence[str], rest: Mapping[str, Any]) -> str:
    """A rule's name, from what it is about."""
    words = [part for part in patterns[0].split(".") if re.fullmatch(r"[A-Za-z_]\w*", part)][-2:]
    owner = str(rest.get("module", rest.get("inside", "")))
    if not words:
        words = [owner or {"ndim > 1": "matrices", "ndim == 1": "vectors"}.get(str(rest.get("where")), "all")]
    elif owner:
        words = [owner, words[-1]]
    elif len(words) == 1 and len(patterns[0].split(".")) <= 2:
        plural = {"weight": "weights", "bias": "biases"}.get(words[0], words[0])
        words = ["matrices" if rest.get("where") == "ndim > 1" and plural == "weights" else plural]
    return re.sub(r"\W", "_", "_".join(words)).lower()


def _unused(name: str, taken: Mapping[str, Any]) -> str:
    n = 1
    while (numbered := name if n == 1 else f"{name}_{n}") in taken:
        n += 1
    return numbered
