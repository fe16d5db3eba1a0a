"""What an expression may name: a tensor's facts, the recipe's numbers, the model's config, gains and functions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any

from initframe.errors import InitframeError, Problem
from initframe.files.archive import open_archive
from initframe.initializers import GAINS
from initframe.limits import CHAINED_NUMBERS
from initframe.model.axes import axis_fans, fan_fields, with_axes
from initframe.model.fans import fans, weight_of_bias, weights_of_bias
from initframe.model.slot import Slot
from initframe.model.survey import Survey
from initframe.recipe.expressions import CONSTANTS, FUNCTIONS, Expression, ExpressionError, is_taken, number
from initframe.recipe.recipe import Recipe
from initframe.resolver.problems import NumberProblem

_WORDS: Mapping[str, Any] = {**CONSTANTS, **FUNCTIONS, **GAINS}
_SIZES = tuple(f"d{i}" for i in range(64))
"""The names of a shape's sizes, for as many dimensions as torch has."""
_TOO_DEEP = NumberProblem(
    "recipe", "numbers name one another, too many in a row.", fix="Define them directly.", of_recipe=True
)


@dataclass(frozen=True)
class Scope:
    """Recipe and model: what the expressions of a recipe may name, tensor by tensor.

    Attributes:
        recipe: the recipe.
        seen: the model's survey.
        axes: by slot name, what its dimensions mean, for the slots whose rule says it.
    """

    recipe: Recipe
    seen: Survey
    axes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def read(self, slot: Slot, axes: tuple[str, ...]) -> Slot:
        """Return the slot as a rule with ``axes`` reads it; a bias has the fans of its weight, as that one is read.

        Raises:
            ResolveError: the axes do not fit the slot.
        """
        if not axes and (not self.axes or slot.ndim > 1):
            return slot
        known = self.seen.by_name
        weight = next((known[n] for n in weights_of_bias(slot.name) if n in known and n != slot.name), None)
        if weight is not None and (own := self.axes.get(weight.name)):
            weight = with_axes(weight, own)
        elif not axes:
            return slot
        if not axes:
            return replace(slot, **fan_fields(weight)) if weight else slot
        return with_axes(slot, axes, weight)

    def counted(self, slot: Slot) -> Slot:
        """Return the slot with the fans of the convention that the recipe chose."""
        if self.recipe.fans == "torch":
            return slot
        return replace(slot, fan_in=slot.effective_fan_in, fan_out=slot.effective_fan_out)

    def facts(
        self,
        slot: Slot,
        captures: Mapping[str, int],
        arguments: Mapping[str, Any] | None = None,
        unit: int | None = None,
    ) -> TensorScope:
        """Give the names that an expression on a slot may use; of several with one name, the first is meant.

        Args:
            slot: the tensor, or one block of it.
            captures: what the pattern's ``{…}`` stand for.
            arguments: the rule's other numbers, parsed.
            unit: which unit is asked about, for the rule's ``units``.

        Returns:
            A lazy mapping: the slot's facts, captures, arguments, the recipe's vars, the model's config, the
            owning module's and the model's own numbers, gains, functions, constants.

        Raises:
            ExpressionError: the recipe's ``base`` cannot be read.
        """
        counted = self.counted(slot)
        own = _own_facts(counted.shape, counted.fan_in, counted.fan_out)
        base = self._base_facts(slot) if self.recipe.base else {}
        given = (self.seen.config_of(slot.name), slot.settings, self.seen.settings, _WORDS)
        asked = {} if unit is None else {"unit": unit}
        return TensorScope((asked, own, base, captures), arguments or {}, self.recipe.vars, given)

    @cached_property
    def base(self) -> Mapping[str, tuple[int, ...]]:
        """The base model's shapes by name, from the recipe or from the file that it names."""
        base = self.recipe.base
        if not isinstance(base, str):
            return base
        try:
            return {name: entry.shape for name, entry in open_archive(base).entries.items()}
        except InitframeError as error:
            raise ExpressionError(*_of_number(error, "base", of_recipe=True)) from error

    def _base_facts(self, slot: Slot) -> dict[str, float]:
        """Shape and fans of the base model's tensor; a bias has its layer's fans."""
        name = next((name for name in (slot.name, *slot.aliases) if name in self.base), "")
        shape = self.base.get(name, ())
        sizes: dict[str, float] = {f"base_d{i}": size for i, size in enumerate(shape)}
        if slot.axes and "in" not in slot.axes:  # a bias of several layers
            weight = next((n for n in weights_of_bias(name) if n in self.base and n in self.axes), "")
            return sizes | self._base_fans(replace(slot, axes=self.axes.get(weight, ())), self.base.get(weight, ()))
        return sizes | self._base_fans(slot, shape if len(shape) > 1 else self.base.get(weight_of_bias(name), ()))

    def _base_fans(self, slot: Slot, shape: tuple[int, ...]) -> dict[str, float]:
        """Fans of the base model's weight, read and counted as the slot's are."""
        if slot.axes and len(shape) not in (0, len(slot.axes)):
            fact = f"it gives {slot.name} the shape {list(shape)}, and its rule has {len(slot.axes)} axes."
            raise ExpressionError(NumberProblem("base", fact, fix="Give both the same dimensions.", of_recipe=True))
        if slot.axes and not shape:
            return {}
        count = axis_fans(shape, slot.axes, slot.meaning) if slot.axes else fans(shape, slot.meaning)
        if count is None:
            return {}
        found: tuple[float | None, float | None] = count.effective_in, count.effective_out
        if self.recipe.fans == "torch":
            found = count.fan_in, count.fan_out
        elif slot.meaning.groups > 1 and count.fan_in == slot.fan_in:  # what grew is the number of groups
            found = slot.effective_fan_in, slot.effective_fan_out
        return {name: fan for name, fan in zip(("base_fan_in", "base_fan_out"), found, strict=True) if fan is not None}


@lru_cache(maxsize=1024)  # models repeat their layers
def _own_facts(shape: tuple[int, ...], fan_in: float | None, fan_out: float | None) -> Mapping[str, float]:
    """Shape and fans of a tensor."""
    facts: dict[str, float] = dict(zip(_SIZES, shape, strict=False))
    facts |= {"ndim": len(shape), "numel": math.prod(shape)}
    return facts if fan_in is None or fan_out is None else facts | {"fan_in": fan_in, "fan_out": fan_out}


class TensorScope(Mapping[str, Any]):
    """The names that an expression on one tensor may use; of several with one name, the first is meant.

    What a rule or a recipe wrote is evaluated when it is first asked for, and only once, so its order does not matter.
    """

    def __init__(
        self,
        own: Sequence[Mapping[str, Any]],
        arguments: Mapping[str, Any],
        variables: Mapping[str, Expression],
        given: Sequence[Mapping[str, Any]],
    ) -> None:
        self._own = own
        self._arguments = arguments
        self._variables = variables
        self._given = given
        self._open: dict[str, None] = {}
        self._values: dict[str, float | ExpressionError] = {}

    def __getitem__(self, name: str) -> Any:
        for facts in self._own:
            if name in facts:
                return facts[name]
        written = self._arguments.get(name)
        if isinstance(written, Expression):
            return self._evaluated(name, written, f"argument {name!r}", of_recipe=False)
        if type(written) in (int, float):
            return written
        if name in self._variables:
            return self._evaluated(name, self._variables[name], f"vars.{name}", of_recipe=True)
        for facts in self._given:
            if name in facts:
                return facts[name]
        if is_taken(name):
            raise ExpressionError(_absence(name))
        raise KeyError(name)

    def _evaluated(self, name: str, expression: Expression, subject: str, *, of_recipe: bool) -> float:
        if name in self._open:
            circle = [*list(self._open)[list(self._open).index(name) :], name]
            raise ExpressionError(f"{name} is defined by itself: {' → '.join(circle)}.")
        if len(self._open) >= CHAINED_NUMBERS:
            raise ExpressionError(_TOO_DEEP)
        if name not in self._values:
            self._open[name] = None
            try:
                self._values[name] = number(expression, self)
            except ExpressionError as error:
                self._values[name] = ExpressionError(*_of_number(error, subject, of_recipe=of_recipe))
            except RecursionError:
                raise ExpressionError(_TOO_DEEP) from None
            finally:
                del self._open[name]
        value = self._values[name]
        if isinstance(value, ExpressionError):
            raise ExpressionError(*value.problems)
        return value

    def __iter__(self) -> Iterator[str]:
        arguments = (k for k, v in self._arguments.items() if isinstance(v, Expression) or type(v) in (int, float))
        return iter(dict.fromkeys(chain(*self._own, arguments, self._variables, *self._given)))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _of_number(error: InitframeError, subject: str, *, of_recipe: bool) -> Iterator[Problem]:
    """Fix the subject of what is wrong with a number that others name; where they name others again, it is fixed."""
    for problem in error.problems:
        if isinstance(problem, NumberProblem):
            yield problem
        else:
            at = problem.on(subject)
            yield NumberProblem(at.subject, at.fact, at.options, at.fix, of_recipe, cause=problem)


def _absence(name: str) -> Problem:
    """Say why a tensor lacks a fact that others have."""
    if name.startswith("base_"):
        fix = "Write base: {name: […]} with every tensor, or the path of a checkpoint."
        return Problem("", f"the recipe's base shapes give no {name} for it.", fix=fix)
    return Problem("", f"it has no {name}.")
