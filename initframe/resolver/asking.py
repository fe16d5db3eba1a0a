"""What a rule asks for besides a tensor's values, as numbers."""

from __future__ import annotations

from initframe.errors import ResolveError
from initframe.model.slot import Slot
from initframe.recipe.expressions import ExpressionError, number
from initframe.resolver.match import Match
from initframe.resolver.scope import Ground


def asked(match: Match, slot: Slot, ground: Ground) -> dict[str, float]:
    """Evaluate a rule's companions on a slot.

    Args:
        match: the rule that won.
        slot: the tensor.
        ground: recipe and model.

    Returns:
        Numbers by name.

    Raises:
        ResolveError: a companion has no value.
    """
    if not match.rule.companions:
        return {}
    facts, found = ground.facts(slot, match.captures), {}
    for name, expression in match.rule.companions.items():
        try:
            found[name] = number(expression, facts)
        except ExpressionError as error:
            raise ResolveError(f"companion {name!r}: {error}") from None
    return found
