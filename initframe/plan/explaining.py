"""What a plan says in words: a few sentences about one tensor, and lines about all that its table does not show."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from initframe.model.slot import Slot
from initframe.plan.folding import fold
from initframe.plan.text import WIDTH, counted, number, shape, wrapped

if TYPE_CHECKING:
    from initframe.plan.plan import Assignment, Plan


def sentences(a: Assignment, fans: str = "torch") -> Iterator[str]:
    """Say what happens to one tensor, and why, sentence by sentence; ``fans`` is the recipe's convention."""
    slot = a.slot
    trained = "" if slot.requires_grad or slot.kind == "buffer" else "frozen "
    tied = f", tied to {', '.join(slot.aliases)}," if slot.aliases else ""
    facts = f"{trained}{slot.kind}, shape {shape(slot)}, {str(slot.dtype).removeprefix('torch.')}"
    yield f"{slot.name} ({facts}){tied} gets {a.fill} from {a.rule.describe()}, {a.rule.init}."
    if a.arguments:
        yield "Arguments: " + ", ".join(f"{k} = {number(v)}" for k, v in a.arguments.items()) + "."
    if slot.fan_in is not None and slot.fan_out is not None:
        whole = "" if a.rule.split is None else " of the whole, each block has its own"
        gain = "" if a.gain is None or "gain" in a.arguments else f"; gain {number(a.gain)}"
        yield f"fan_in {slot.fan_in:g}, fan_out {slot.fan_out:g}{whole}{gain}."
    if text := fan_difference(slot):
        which = "torch's" if fans == "torch" else "the effective ones"
        yield f"The fans of torch.nn.init differ from the effective ones: {text}. The recipe counts {which}."
    if not math.isnan(a.fill.std):
        becomes = "are what it will have" if slot.exact else "go in; what comes out the layer decides"
        yield f"Mean {a.fill.mean:.4g} and std {a.fill.std:.4g} {becomes}."
    if text := std_difference(a):
        yield f"Asked was {text}."
    if a.shadowed:
        verbs = "matches too and stands" if len(a.shadowed) == 1 else "match too and stand"
        yield f"It beats {', '.join(map(repr, a.shadowed))}, which {verbs} above it."
    for rule, reason in a.declined.items():
        yield f"Rule {rule!r}, below, declines it: {reason}"
    for note in slot.notes:
        yield f"Note: {note}."


def std_difference(a: Assignment) -> str:
    """What a cut or a row of zeros leaves of the std that was asked for; empty where that is all of it."""
    asked, realized = a.asked_std, a.fill.std
    if not asked or abs(realized / asked - 1) < 1e-3:
        return ""
    return f"std {asked:.4g}, of which the fill has {realized:.4g} (×{realized / asked:.3f})"


def fan_difference(slot: Slot) -> str:
    """Where torch's fans and the effective ones differ, by what factor; empty where they do not."""
    if None in (slot.fan_in, slot.fan_out, slot.effective_fan_in, slot.effective_fan_out):
        return ""
    pairs = (("fan_in", slot.fan_in, slot.effective_fan_in), ("fan_out", slot.fan_out, slot.effective_fan_out))
    return ", ".join(
        f"{name} {torchs:g}, effective {own:g} (×{torchs / own:.3g})"
        for name, torchs, own in pairs
        if torchs and own and torchs != own
    )


def leftovers(plan: Plan, width: int = WIDTH) -> list[str]:
    """Lines about everything that a plan's table does not show; numbered names are folded.

    Args:
        plan: any.
        width: columns to use at most.
    """
    return [wrapped(line, width) for line in _lines(plan)]


def _lines(plan: Plan) -> Iterator[str]:
    some = plan.assignments
    if plan.untouched:
        yield f"Untouched ({len(plan.untouched)}): {', '.join(fold(plan.untouched))}"
    shadows = Counter((a.rule.name, loser) for a in some for loser in a.shadowed)
    yield from (f"Shadowed: {one!r} over {other!r} on {counted(n, 'tensor')}" for (one, other), n in shadows.items())
    declined = Counter(rule for a in some for rule in a.declined)
    yield from (f"Declined: {rule!r} on {counted(n, 'tensor')}" for rule, n in declined.items())
    yield from _told("Skipped", plan.skipped.items())
    yield from (f"Tied: {a.slot.name} is also {', '.join(fold(a.slot.aliases))}" for a in some if a.slot.aliases)
    frozen = [a.slot.name for a in some if not a.slot.requires_grad and a.slot.kind == "parameter"]
    if frozen:
        yield f"Frozen ({len(frozen)}): {', '.join(fold(frozen))}"
    yield from _told("Asked", ((a.slot.name, text) for a in some if (text := std_difference(a))))
    differ = [(a.slot.name, text) for a in some if (text := fan_difference(a.slot))]
    yield from _told("Fans", differ)
    if differ:
        yield f"Fans: the recipe counts {'those of torch' if plan.recipe.fans == 'torch' else 'the effective ones'}"
    yield from _told("Note", ((a.slot.name, note) for a in some for note in a.slot.notes))
    yield from (f"Companion: {text}" for text in plan.asks)
    yield from (f"Warning: {text}" for text in plan.warnings)


def _told(word: str, facts: Iterable[tuple[str, str]]) -> Iterator[str]:
    """One line per fact, with all the names that it is true of."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, fact in facts:
        names[fact].append(name)
    for fact, several in names.items():
        yield f"{word}: {', '.join(fold(several))}: {fact}"
