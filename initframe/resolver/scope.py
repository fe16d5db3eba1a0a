"""What an expression knows: facts about a tensor, the recipe's own numbers, the model's config, gains and functions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from initframe.files.archive import open_archive
from initframe.initializers import GAINS
from initframe.model.fans import fans
from initframe.model.slot import Slot
from initframe.model.survey import Survey
from initframe.recipe.expressions import CONSTANTS, FUNCTIONS, Expression, ExpressionError, is_taken, number, parse
from initframe.recipe.recipe import Recipe

_WORDS: Mapping[str, Any] = {**CONSTANTS, **FUNCTIONS, **GAINS}
_SIZES = tuple(f"d{i}" for i in range(64))
"""The names of a shape's sizes, for as many dimensions as torch has."""


@dataclass(frozen=True)
class Ground:
    """Recipe and model, as every question to one tensor needs them."""

    recipe: Recipe
    seen: Survey

    def counted(self, slot: Slot) -> Slot:
        """The slot with the fans of the convention that the recipe picked."""
        if self.recipe.fans == "torch":
            return slot
        return replace(slot, fan_in=slot.effective_fan_in, fan_out=slot.effective_fan_out)

    def facts(self, slot: Slot, captures: Mapping[str, int], arguments: Mapping[str, Any] | None = None) -> Facts:
        """The names that an expression on a slot may use; where several have one, the first does.

        Args:
            slot: the tensor, or one block of it.
            captures: what the pattern's ``{…}`` stand for.
            arguments: the rule's other numbers, as written.

        Returns:
            A lazy mapping: the slot's facts, captures, arguments, the recipe's vars, the model's config, the
            owning module's and the model's own numbers, gains, functions, constants.
        """
        counted = self.counted(slot)
        own = _own_facts(counted.shape, counted.fan_in, counted.fan_out)
        base = self._base_facts(slot) if self.base else {}
        written = (arguments or {}, self._vars)
        given = (self.seen.config, slot.settings, self.seen.settings, _WORDS)
        return Facts(slot, (own, base, captures), written, given)

    @cached_property
    def _vars(self) -> Mapping[str, Expression]:
        return dict(self.recipe.vars)

    @cached_property
    def base(self) -> Mapping[str, tuple[int, ...]]:
        """The base model's shapes by name, from the recipe or from the file that it names."""
        base = self.recipe.base
        if not isinstance(base, str):
            return base
        return {name: entry.shape for name, entry in open_archive(base).entries.items()}

    def _base_facts(self, slot: Slot) -> dict[str, float]:
        """Shape and fans of the base model's tensor; a bias has its layer's fans."""
        name = next((name for name in (slot.name, *slot.aliases) if name in self.base), "")
        shape = self.base.get(name, ())
        prefix, dot, attribute = name.rpartition(".")
        weight = prefix + dot + "weight".join(attribute.rsplit("bias", 1))
        sizes: dict[str, float] = {f"base_d{i}": size for i, size in enumerate(shape)}
        return sizes | self._base_fans(slot, shape if len(shape) > 1 else self.base.get(weight, ()))

    def _base_fans(self, slot: Slot, shape: tuple[int, ...]) -> dict[str, float]:
        """Fans of the base model's weight, read and counted as the slot's are."""
        count = fans(shape, slot.meaning)
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


class Facts(Mapping[str, Any]):
    """The names that an expression on one tensor may use; where several have one, the first does.

    What a rule or a recipe wrote is evaluated when asked for, so its order does not matter.
    """

    def __init__(
        self,
        slot: Slot,
        own: Sequence[Mapping[str, Any]],
        written: Sequence[Mapping[str, Any]],
        given: Sequence[Mapping[str, Any]],
    ) -> None:
        self._slot = slot
        self._own = own
        self._written = written
        self._given = given
        self._open: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        for facts in self._own:
            if name in facts:
                return facts[name]
        for facts in self._written:
            if name in facts and _is_one_number(facts[name]):
                return self._evaluated(name, facts[name])
        for facts in self._given:
            if name in facts:
                return facts[name]
        if is_taken(name):
            raise ExpressionError(self._absence(name))
        raise KeyError(name)

    def _evaluated(self, name: str, written: Any) -> float:
        if name in self._open:
            raise ExpressionError(f"{name} is defined by itself")
        self._open.add(name)
        try:
            return number(written if isinstance(written, Expression) else parse(written), self)
        finally:
            self._open.discard(name)

    def _absence(self, name: str) -> str:
        """Why a tensor lacks a fact that others have."""
        if name.startswith("base_"):
            fix = "write base: {name: […]} with every tensor, or the path of a checkpoint"
            return f"the recipe's base shapes give no {name} for it; {fix}"
        return f"it has no {name}"

    def __iter__(self) -> Iterator[str]:
        written = ({k: v for k, v in facts.items() if _is_one_number(v)} for facts in self._written)
        return iter(dict.fromkeys(name for facts in (*self._own, *written, *self._given) for name in facts))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _is_one_number(written: Any) -> bool:
    """Whether what stands for an argument can be named by another: lists, one number per block, cannot."""
    return isinstance(written, str | int | float | Expression)
