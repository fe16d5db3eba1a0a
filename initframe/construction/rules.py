"""Few rules for many tensors: an ordered list, of which the last that matches wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from initframe.construction.bodies import Body
from initframe.construction.selectors import Selector

MOST = 400
"""Rules after which nobody reads on."""


class Choice(NamedTuple):
    """A rule: which tensors, and what they hold."""

    selectors: tuple[Selector, ...]
    body: Body

    @property
    def cells(self) -> int:
        """The cells that any of the selectors means."""
        mask = 0
        for selector in self.selectors:
            mask |= selector.cells
        return mask


def choose(
    count: int, bodies: Mapping[Body, int], costs: Mapping[Body, float], selectors: Sequence[Selector]
) -> list[Choice]:
    """Find rules that give every cell one of its bodies, the widest first.

    Args:
        count: how many cells there are.
        bodies: by body, the cells that it is right for, as bits.
        costs: by body, how much there is to read in it.
        selectors: what rules may choose by.

    Returns:
        The rules, in the order of a recipe.
    """
    everything = (1 << count) - 1
    right = 0
    chosen: list[Choice] = []
    capturing = [selector for selector in selectors if selector.captures]
    usable = {body: capturing if body.captures else selectors for body in bodies}
    while right != everything and len(chosen) < MOST:
        best: tuple[float, Choice, int] | None = None
        for body, good in bodies.items():
            if not good & ~right:
                continue
            for selector in usable[body]:
                cells = selector.cells
                if not cells & good & ~right:
                    continue
                after = (right & ~cells) | (cells & good)
                gain = after.bit_count() - right.bit_count() - 0.05 * (costs[body] + selector.cost)
                if best is None or gain > best[0]:
                    best = gain, Choice((selector,), body), after
        if best is None or best[0] <= -0.9:
            break
        chosen.append(best[1])
        right = best[2]
    return _joined(_needed(chosen, bodies, everything), bodies, everything)


def _right(chosen: Sequence[Choice], bodies: Mapping[Body, int]) -> int:
    """The cells that rules give one of their bodies."""
    right = 0
    for choice in chosen:
        right = (right & ~choice.cells) | (choice.cells & bodies[choice.body])
    return right


def _needed(chosen: list[Choice], bodies: Mapping[Body, int], everything: int) -> list[Choice]:
    """The rules without those that later ones made idle."""
    wanted = _right(chosen, bodies) & everything
    for choice in list(chosen):
        rest = [other for other in chosen if other is not choice]
        if _right(rest, bodies) & everything == wanted:
            chosen = rest
    return chosen


def _joined(chosen: list[Choice], bodies: Mapping[Body, int], everything: int) -> list[Choice]:
    """Rules of one body put together where their patterns can stand in one list."""
    wanted = _right(chosen, bodies) & everything
    i = 0
    while i < len(chosen):
        for j in range(len(chosen) - 1, i, -1):
            one, other = chosen[i], chosen[j]
            if one.body != other.body or not _listable(one, other):
                continue
            both = Choice((*one.selectors, *other.selectors), one.body)
            for at in (i, j):
                rest = [c for k, c in enumerate(chosen) if k not in (i, j)]
                rest.insert(at if at == i else at - 1, both)
                if _right(rest, bodies) & everything == wanted:
                    chosen = rest
                    break
        i += 1
    return chosen


def _listable(one: Choice, other: Choice) -> bool:
    """Whether the patterns of two rules can be one list: all else that they ask is the same."""
    asked = {tuple((k, v) for k, v in s.keys if k != "match") for s in (*one.selectors, *other.selectors)}
    return len(asked) == 1
