"""Parts of one whole that must find each other: what attention's products are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from initframe.fills import Fill
from initframe.fills.linked import Mimetic
from initframe.plan import Assignment


def strangers(assignments: Iterable[Assignment]) -> Iterator[str]:
    """Say where the two parts of an attention's product are drawn for different modules: it would not be theirs.

    Args:
        assignments: of the whole plan; a part that the plan nowhere has a partner for is left alone.

    Yields:
        One message per product.
    """
    holders: dict[str, dict[str, Assignment]] = defaultdict(dict)
    for assignment in assignments:
        for part, attention in _parts(assignment.fill):
            holders[part][attention] = assignment
    for pair in (("q", "k"), ("v", "proj")):
        one, other = (holders[part] for part in pair)
        alone = [(module, held[module]) for held in (one, other) for module in held if module not in one.keys() & other]
        if one and other and alone:
            module, assignment = alone[0]
            yield (
                f"{assignment.rule.describe()} on {assignment.slot.name}: mimetic {' and '.join(pair)} share one "
                f"module's numbers, and {module or 'the model'} has only one of them. Name the module around both in "
                "their rules, by the last part of its name: attention: NAME."
            )


def _parts(fill: Fill) -> Iterator[tuple[str, str]]:
    """The parts of attention in a fill, each with the module for which it is drawn."""
    for inner in fill.parts():
        if isinstance(inner, Mimetic):
            yield from ((part, inner.attention) for part in (("q", "k", "v") if inner.part == "qkv" else (inner.part,)))
