"""Verdicts: what a signal's rows say about an initialization, each with the number and the layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from initframe.signal.row import Row

SHRINKS, GROWS = 1e-2, 1e2
"""How far activations or gradients may fall or rise over the depth of a model."""
ALIKE = 0.99
"""From which correlation on two inputs are indistinguishable."""
DEAD, SATURATED = 0.2, 0.3
"""Which share of a rectifier's units may be dead, and of a sigmoid's outputs saturated."""
LOGITS = 3.0
"""Up to which rms logits are small."""
LAYERS = 3
"""Over how many weighted layers growth is judged at least."""


@dataclass(frozen=True)
class Finding:
    """One thing that stands out in a signal.

    Attributes:
        kind: ``"nonfinite"``, ``"activations"``, ``"gradients"``, ``"correlation"``, ``"dead"``, ``"saturated"``,
            ``"logits"`` or ``"unreached"``.
        name: the row that it is about.
        value: the number.
        bad: whether it speaks against the initialization.
        text: the finding as a sentence.
        fix: what helps, if anything general does.
    """

    kind: str
    name: str
    value: float
    bad: bool
    text: str
    fix: str = ""


def judge(rows: Sequence[Row]) -> tuple[Finding, ...]:
    """Find what stands out in a signal.

    Args:
        rows: in execution order.

    Returns:
        The findings, the gravest kinds first.

    >>> rows = [Row(f"fc{i}", 0, "Linear", (8, 4), 0.0, 10.0**-i, depth=i) for i in range(1, 5)]
    >>> judge(rows)[0].text
    'activations shrink by 10⁻³ over 4 layers: rms 0.1 at fc1, 0.0001 at fc4.'
    """
    if broken := _first_nonfinite(rows):
        return (broken,)
    judges: list[Callable[[Sequence[Row]], Iterator[Finding]]] = [
        _activations,
        _gradients,
        _correlation,
        _dead,
        _saturated,
        _logits,
        _unreached,
    ]
    return tuple(finding for one in judges for finding in one(rows))


def loss_of_logits(classes: int, rms: float) -> float:
    """The cross-entropy to expect of normal logits and labels independent of them.

    ln C + σ²/2 while σ² < 2 ln C, σ·√(2 ln C) beyond: the free energy of the random energy model (Derrida 1981).

    >>> round(loss_of_logits(1000, 0.0), 1), round(loss_of_logits(1000, 12.0), 1)
    (6.9, 44.6)
    """
    entropy = math.log(classes)
    return entropy + rms**2 / 2 if rms**2 < 2 * entropy else rms * math.sqrt(2 * entropy)


def _first_nonfinite(rows: Sequence[Row]) -> Finding | None:
    """The first row that is infinite or not a number."""
    for row in rows:
        if row.rms is not None and not math.isfinite(row.rms):
            text = f"{row.label} ({row.op}) is the first to produce values that are not finite."
            return Finding("nonfinite", row.name, math.inf, True, text, "Use smaller weights, or float32.")
    return None


def _hidden(rows: Sequence[Row]) -> list[Row]:
    """The weighted layers that are neither zero nor unknown."""
    return [row for row in rows if row.depth is not None and row.rms]


def _activations(rows: Sequence[Row]) -> Iterator[Finding]:
    """How far the rms of weighted layers rises or falls from the first to the last."""
    layers = _hidden(rows)
    if len(layers) < LAYERS:
        return
    first, last = layers[0], layers[-1]
    factor = (last.rms or 0.0) / (first.rms or 1.0)
    where = f"over {len(layers)} layers: rms {first.rms:.3g} at {first.label}, {last.rms:.3g} at {last.label}."
    if factor < SHRINKS:
        text = f"activations shrink by {power(factor)} {where}"
        yield Finding("activations", last.name, factor, True, text, "Use a larger gain.")
    elif factor > GROWS:
        text = f"activations grow by {power(factor)} {where}"
        yield Finding("activations", last.name, factor, True, text, "Use a smaller gain, or norms.")
    else:
        low, high = min(layers, key=lambda row: row.rms or 0.0), max(layers, key=lambda row: row.rms or 0.0)
        text = (
            f"activations keep their size over {len(layers)} layers: rms from {low.rms:.3g} ({low.label}) "
            f"to {high.rms:.3g} ({high.label})."
        )
        yield Finding("activations", last.name, factor, False, text)


def _gradients(rows: Sequence[Row]) -> Iterator[Finding]:
    """How far gradients rise or fall on their way from the last weighted layer to the first."""
    layers = [row for row in _hidden(rows) if row.grad_rms]
    if len(layers) < LAYERS:
        return
    first, last = layers[0], layers[-1]
    factor = (first.grad_rms or 0.0) / (last.grad_rms or 1.0)
    where = f"from {last.label} back to {first.label}, over {len(layers)} layers"
    if factor > GROWS / 3:
        text = f"gradients grow {factor:,.0f}-fold {where}."
        yield Finding("gradients", first.name, factor, True, text, "Use a smaller gain for the backward pass.")
    elif factor < SHRINKS:
        text = f"gradients vanish: they shrink by {power(factor)} {where}."
        yield Finding("gradients", first.name, factor, True, text, "Use a larger gain, or residual branches.")


def _correlation(rows: Sequence[Row]) -> Iterator[Finding]:
    """From where on different inputs look alike."""
    known = [row for row in _hidden(rows) if row.correlation is not None]
    if len(known) < LAYERS or (known[0].correlation or 0) >= ALIKE:
        return
    deepest = max(row.depth or 0 for row in known if not (row.correlation or 0) >= ALIKE)
    for before, row in pairwise(known):
        if (row.depth or 0) > deepest:
            text = f"inputs become indistinguishable (correlation {row.correlation:.4g}) after {before.label}."
            yield Finding(
                "correlation", row.name, row.correlation or 0.0, True, text, "Use a gain at the edge of chaos."
            )
            return


def _worst(rows: Sequence[Row], share: Callable[[Row], float | None], limit: float) -> tuple[Row, float, int] | None:
    """The row with the largest share, if it is at the limit, and how many are."""
    over = [(value, row) for row in rows if (value := share(row)) is not None and value >= limit]
    if not over:
        return None
    value, row = max(over, key=lambda pair: pair[0])
    return row, value, len(over)


def _dead(rows: Sequence[Row]) -> Iterator[Finding]:
    """Rectifiers with many units that are zero for every input."""
    if worst := _worst(rows, lambda row: row.dead, DEAD):
        row, share, count = worst
        others = f" ({count} such layers)" if count > 1 else ""
        text = f"{100 * share:.0f} % of {row.label} is dead for every input{others}."
        yield Finding("dead", row.name, share, True, text, "Use smaller negative biases, or a leaky rectifier.")


def _saturated(rows: Sequence[Row]) -> Iterator[Finding]:
    """Sigmoids and their kin at their flat ends."""
    if worst := _worst(rows, lambda row: row.saturated, SATURATED):
        row, share, count = worst
        others = f" ({count} such layers)" if count > 1 else ""
        text = f"{100 * share:.0f} % of {row.label} is saturated{others}."
        yield Finding("saturated", row.name, share, True, text, "Use a smaller gain in front of it.")


def _logits(rows: Sequence[Row]) -> Iterator[Finding]:
    """Whether the model's output starts so large that the loss is far from that of a uniform guess."""
    if not rows or not (last := rows[-1]).shape or last.rms is None or last.shape[-1] < 2 or len(last.shape) == 4:
        return
    classes, rms = last.shape[-1], math.sqrt(max(last.rms**2 - (last.mean or 0.0) ** 2, 0.0))
    if rms > LOGITS:
        text = (
            f"logits start at rms {rms:.3g}: loss {loss_of_logits(classes, rms):.1f} "
            f"instead of ln {classes} = {math.log(classes):.1f}."
        )
        yield Finding("logits", last.name, rms, True, text, "Make the last layer smaller.")


def _unreached(rows: Sequence[Row]) -> Iterator[Finding]:
    """Weighted layers without a gradient, where others have one."""
    if not any(row.grad_rms is not None for row in rows):
        return
    missing = [row for row in rows if row.depth is not None and not row.grad_rms]
    if missing:
        shown = ", ".join(row.label for row in missing[:3]) + (" …" if len(missing) > 3 else "")
        text = f"no gradient reaches {len(missing)} of the weighted layers: {shown}."
        yield Finding("unreached", missing[0].name, float(len(missing)), False, text)


def power(factor: float) -> str:
    """A factor as a power of ten.

    >>> power(1.2e-4)
    '10⁻⁴'
    """
    return "10" + f"{round(math.log10(factor))}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
