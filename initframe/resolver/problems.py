"""All that is wrong, collected while resolving and raised together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from initframe.errors import RecipeError, ResolveError
from initframe.model.slot import Slot
from initframe.recipe.recipe import Rule


@dataclass
class Problems:
    """What is wrong, in three heaps.

    Attributes:
        recipe: wrong whatever the model.
        model: wrong between recipe and model.
        shared: facts about tensors under a rule; a fact that many tensors share is told once.
    """

    recipe: list[str] = field(default_factory=list)
    model: list[str] = field(default_factory=list)
    shared: dict[tuple[str, str], list[Slot]] = field(default_factory=dict)

    def on(self, rule: Rule, slot: Slot, fact: str) -> None:
        """Note a fact about one tensor under one rule; as a sentence, it ends with a full stop.

        An empty one is known already: the rule has failed, and nothing more is told of it.
        """
        self.shared.setdefault((rule.describe(), fact and fact.removesuffix(".") + "."), []).append(slot)

    def has(self, rule: Rule) -> bool:
        """Whether a rule has failed on some tensor."""
        return any(described == rule.describe() for described, _ in self.shared)

    def throw(self) -> None:
        """Raise them, if there are any.

        Raises:
            RecipeError: all of them are the recipe's own.
            ResolveError: otherwise.
        """
        told = [f"{rule} on {named(slots)}: {fact}" for (rule, fact), slots in self.shared.items() if fact]
        if problems := self.recipe + self.model + told:
            raise (RecipeError if len(problems) == len(self.recipe) else ResolveError)(*problems)


def named(slots: Sequence[Slot]) -> str:
    """Some slots by name and shape: two, then a count.

    >>> named([Slot("a", (2,)), Slot("b", (3,)), Slot("c", ())])
    'a [2], b [3] and 1 more'
    """
    shown = ", ".join(s.name if s.lazy else f"{s.name} {list(s.shape)}" for s in slots[:2])
    return shown + (f" and {len(slots) - 2} more" if len(slots) > 2 else "")
