"""What an expression knows: facts about a tensor, the recipe's own numbers, the model's config, gains and functions."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from initframe.fills.stored import open_archive
from initframe.initializers import GAINS
from initframe.model import Slot, Survey
from initframe.model.fans import fans
from initframe.recipe.expressions import CONSTANTS, FUNCTIONS, Expression, ExpressionError, is_taken, number, parse
from initframe.recipe.recipe import Recipe

Facts = Mapping[str, Any]

_WORDS: Facts = {**CONSTANTS, **FUNCTIONS, **GAINS}
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
        own = _own_facts(self.counted(slot))
        if self.base:
            own |= self._base_facts(slot)
        names: ChainMap[str, Any] = ChainMap(own)
        later = (_Written(written, names) for written in (arguments, self.recipe.vars) if written)
        names.maps += filter(None, (captures, *later, self.seen.config, slot.settings, self.seen.settings, _WORDS))  # type: ignore[arg-type]
        names.maps.append(_Absent(slot))  # type: ignore[arg-type]
        return names

    @cached_property
    def base(self) -> Mapping[str, tuple[int, ...]]:
        """The base model's shapes by name, from the recipe or from the file that it names."""
        base = self.recipe.base
        return open_archive(base).shapes if isinstance(base, str) else base

    def _base_facts(self, slot: Slot) -> dict[str, float]:
        """Shape and torch's fans of the base model's tensor; a bias has its layer's fans."""
        name = next((name for name in (slot.name, *slot.aliases) if name in self.base), "")
        shape = self.base.get(name, ())
        prefix, dot, attribute = name.rpartition(".")
        weight = prefix + dot + "weight".join(attribute.rsplit("bias", 1))
        count = fans(shape if len(shape) > 1 else self.base.get(weight, ()))
        sizes: dict[str, float] = {f"base_d{i}": size for i, size in enumerate(shape)}
        return sizes | ({"base_fan_in": count.fan_in, "base_fan_out": count.fan_out} if count else {})


def _own_facts(slot: Slot) -> dict[str, float]:
    """Shape and fans of a tensor."""
    facts: dict[str, float] = dict(zip(_SIZES, slot.shape, strict=False))
    facts |= {"ndim": slot.ndim, "numel": slot.numel}
    if slot.fan_in is not None and slot.fan_out is not None:
        facts |= {"fan_in": slot.fan_in, "fan_out": slot.fan_out}
    return facts


class _Absent(Mapping[str, float]):
    """The facts that a tensor of few dimensions lacks: asked for, they say so."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot

    def __getitem__(self, name: str) -> float:
        if name.startswith("base_") and is_taken(name):
            raise ExpressionError(
                f"the recipe's base shapes give no {name} for it; write base: {{{self._slot.name}: […]}}"
            )
        if is_taken(name):
            raise ExpressionError(f"a tensor of shape {list(self._slot.shape)} has no {name} here")
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _Written(Mapping[str, float]):
    """Expressions that are names themselves: evaluated when asked for, so their order does not matter."""

    def __init__(self, written: Mapping[str, Any], names: Facts) -> None:
        self._written = {k: v for k, v in written.items() if isinstance(v, str | int | float | Expression)}
        self._names = names
        self._open: set[str] = set()

    def __getitem__(self, name: str) -> float:
        written = self._written[name]
        if name in self._open:
            raise ExpressionError(f"{name} is defined by itself")
        self._open.add(name)
        try:
            return number(written if isinstance(written, Expression) else parse(written), self._names)
        finally:
            self._open.discard(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._written)

    def __len__(self) -> int:
        return len(self._written)
