"""An assignment: what one tensor will hold, and why, as data and in a few sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from initframe.errors import harmless, printable
from initframe.fills import Fill
from initframe.fills.constructed import Origin
from initframe.frozen import opened
from initframe.initializers.requested import requested_gain, requested_std
from initframe.model.slot import Slot
from initframe.plan.text import number, shape
from initframe.recipe.recipe import Rule


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one tensor will hold, and why.

    Attributes:
        slot: the tensor's facts.
        rule: the rule that won.
        fill: what the tensor will hold; ``fill.mean`` and ``fill.std`` are the moments of its values.
        arguments: the initializer's arguments after evaluation, one value per block if the rule splits.
        shadowed: the names of the rules that match too, and lost because they come before.
        declined: the later rules that match too, but whose initializers have nothing for the tensor, with the reasons.
        companions: param-group multipliers, and factors of the forward pass, that the rule needs.
        origin: the line of the constructor that writes the tensor, if the fill was read there.
        evidence: how sure the fill is, in a sentence, if it was read from values.
        factor: what the rule multiplies all values with; the fill has it in it.
    """

    slot: Slot
    rule: Rule
    fill: Fill
    arguments: Mapping[str, Any] = field(default_factory=dict)
    shadowed: tuple[str, ...] = ()
    declined: Mapping[str, str] = field(default_factory=dict)
    companions: Mapping[str, float] = field(default_factory=dict)
    origin: Origin | None = None
    evidence: str = ""
    factor: float = 1.0

    def __repr__(self) -> str:
        return harmless(f"<Assignment of {self.slot.name}: {self.fill}, rule {self.rule.name!r}>")

    @property
    def overwritten(self) -> int:
        """How often the constructor wrote the tensor whole before, in vain."""
        return self.origin.overwritten if self.origin else 0

    @property
    def gain(self) -> Any:
        """The requested gain, by number or by nonlinearity: one, a tuple of one per block, or ``None``."""
        return requested_gain(self.rule.init, self.arguments)

    @property
    def asked_std(self) -> float | None:
        """The requested std; the fill's own is less if a distribution is truncated or a row stays zero."""
        return requested_std(self.rule.init, self.arguments, self.fill, self.factor)

    def explain(self, fans: str = "torch") -> str:
        """Say in a few sentences what happens to the tensor, and why.

        Args:
            fans: the recipe's convention.
        """
        return printable(" ".join(_sentences(self, fans)))

    @property
    def std_difference(self) -> str:
        """What truncation or a row of zeros leaves of the requested std; empty if that is all of it."""
        requested, realized = self.asked_std, self.fill.std
        if not requested or abs(realized / requested - 1) < 1e-3:
            return ""
        return f"requested std {requested:.4g}; the fill has {realized:.4g} (×{realized / requested:.3f})"

    def to_dict(self) -> dict[str, Any]:
        """The assignment as plain data."""
        slot = self.slot
        return {
            "name": slot.name,
            "aliases": list(slot.aliases),
            "shape": list(slot.shape),
            "dtype": str(slot.dtype).removeprefix("torch."),
            "kind": slot.kind,
            "trained": slot.requires_grad,
            "rule": self.rule.name,
            "init": self.rule.init,
            "arguments": {k: list(v) if isinstance(v, tuple) else v for k, v in self.arguments.items()},
            "shadowed": list(self.shadowed),
            "declined": dict(self.declined),
            "companions": dict(self.companions),
            **({"factor": self.factor} if self.factor != 1 else {}),
            "fan_in": slot.fan_in,
            "fan_out": slot.fan_out,
            "effective_fan_in": slot.effective_fan_in,
            "effective_fan_out": slot.effective_fan_out,
            "fill": self.fill.to_dict(),
            "gain": list(self.gain) if isinstance(self.gain, tuple) else self.gain,
            "asked_std": self.asked_std,
            "mean": _finite(self.fill.mean),
            "std": _finite(self.fill.std),
            "notes": list(slot.notes),
            **({"origin": self.origin.to_dict()} if self.origin else {}),
            **({"evidence": self.evidence} if self.evidence else {}),
        }


OpenAssignment = opened(Assignment)
"""What becomes an assignment when it is given the class."""


def fan_difference(slot: Slot) -> str:
    """Say by what factor torch's fans and the effective ones differ; empty if they do not."""
    if None in (slot.fan_in, slot.fan_out, slot.effective_fan_in, slot.effective_fan_out):
        return ""
    pairs = (("fan_in", slot.fan_in, slot.effective_fan_in), ("fan_out", slot.fan_out, slot.effective_fan_out))
    return ", ".join(
        f"{name} {torchs:g}, effective {own:g} (×{torchs / own:.3g})"
        for name, torchs, own in pairs
        if torchs and own and torchs != own
    )


def _sentences(a: Assignment, fans: str) -> Iterator[str]:
    slot = a.slot
    trained = "" if slot.requires_grad or slot.kind == "buffer" else "frozen "
    tied = f", tied to {', '.join(slot.aliases)}," if slot.aliases else ""
    facts = f"{trained}{slot.kind}, shape {shape(slot)}, {str(slot.dtype).removeprefix('torch.')}"
    yield f"{slot.name} ({facts}){tied} gets {a.fill} from {a.rule.describe()}, {a.rule.init}."
    if a.origin:
        times = f", after writing all of it {a.overwritten} times in vain" if a.overwritten else ""
        yield f"The constructor writes it in {a.origin.file}, line {a.origin.line} ({a.origin.function}){times}."
    if a.evidence:
        yield a.evidence
    if a.arguments:
        yield "Arguments: " + ", ".join(f"{k} = {number(v)}" for k, v in a.arguments.items()) + "."
    if slot.fan_in is not None and slot.fan_out is not None:
        whole = "" if a.rule.split is None else " of the whole tensor; each block has its own"
        gain = "" if a.gain is None or "gain" in a.arguments else f"; gain {number(a.gain)}"
        yield f"fan_in {slot.fan_in:g}, fan_out {slot.fan_out:g}{whole}{gain}."
    if text := fan_difference(slot):
        which = "torch's" if fans == "torch" else "the effective ones"
        yield f"The fans of torch.nn.init differ from the effective ones: {text}. The recipe counts {which}."
    if not math.isnan(a.fill.std):
        becomes = "" if slot.exact else " before its parametrization, whose forward decides the result"
        yield f"It will have mean {a.fill.mean:.4g} and std {a.fill.std:.4g}{becomes}."
    if text := a.std_difference:
        yield f"{text.capitalize()}."
    if a.shadowed:
        verb = "comes" if len(a.shadowed) == 1 else "come"
        yield f"This rule wins over {', '.join(map(repr, a.shadowed))}, which {verb} before it."
    for rule, reason in a.declined.items():
        yield f"Rule {rule!r}, which comes later, declines it: {reason}"
    for note in slot.notes:
        yield f"Note: {note}."


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
