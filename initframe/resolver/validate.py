"""What is wrong between the fills of a plan; what is wrong with one of them, it says itself (``Fill.problem``)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from initframe.errors import Problem
from initframe.fills import Keep
from initframe.fills.derived import Mimetic
from initframe.plan import Assignment


def overlapping(assignments: Sequence[Assignment]) -> Iterator[Problem]:
    """Say which tensors are filled twice: as a parametrized whole, and as what it is computed from.

    Args:
        assignments: of the whole plan.

    Yields:
        One problem per tensor that a whole is computed from.
    """
    by_name = {a.slot.name: a for a in assignments}
    for raw in assignments:
        whole = by_name.get(raw.slot.part_of) if raw.slot.part_of else None
        if whole and not isinstance(whole.fill, Keep):
            fact = f"it fills {raw.slot.name}, from which {whole.slot.name} is computed."
            also = f"{whole.slot.name} is filled by {whole.rule.describe()}."
            yield Problem(raw.rule.describe(), fact, also, fix="Exclude one of them.")


def unpartnered(assignments: Iterable[Assignment]) -> Iterator[Problem]:
    """Say which two parts of an attention's product are drawn for different modules, and so are no product.

    Args:
        assignments: of the whole plan; a part is left alone if the plan has no partner for it anywhere.

    Yields:
        One problem per product.
    """
    holders: dict[str, dict[str, Assignment]] = defaultdict(dict)
    for assignment in assignments:
        for inner in () if assignment.fill.distribution else assignment.fill.parts():
            if isinstance(inner, Mimetic):
                for part in ("q", "k", "v") if inner.part == "qkv" else (inner.part,):
                    holders[part][inner.attention] = assignment
    for pair in (("q", "k"), ("v", "proj")) if holders else ():
        one, other = (holders[part] for part in pair)
        alone = [(module, held[module]) for held in (one, other) for module in held if module not in one.keys() & other]
        if one and other and alone:
            module, assignment = alone[0]
            yield Problem(
                f"{assignment.rule.describe()} on {assignment.slot.name}",
                f"mimetic {' and '.join(pair)} share one module's numbers; {module or 'the model'} has only one of "
                "them.",
                fix="Name the module around both in their rules, by the last part of its name: attention: NAME.",
            )
