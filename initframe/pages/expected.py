"""What a fill promises of a tensor's values: the share of them in every bin, and how far moments may stray."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from initframe.fills import Blocks, Constant, Fill, Masked, Normal, Orthogonal, TruncatedNormal, Uniform

WIDE = 16
"""From which width on an element of an orthogonal matrix counts as normal."""


class Component(NamedTuple):
    """A share of a tensor's elements that have one distribution, which ``fill`` describes."""

    share: float
    fill: Constant | Normal | TruncatedNormal | Uniform


def distribution(fill: Fill) -> tuple[Component, ...] | None:
    """The distribution of a tensor's elements as a mixture.

    Args:
        fill: any.

    Returns:
        Parts whose shares add up to 1; ``None`` if the fill has no simple distribution.

    >>> [(part.share, str(part.fill)) for part in distribution(Masked(Normal(), (4,), (0,)))]
    [(0.75, 'normal(0, 1)'), (0.25, 'constant(0)')]
    """
    if isinstance(fill, Constant | Normal | TruncatedNormal | Uniform):
        return (Component(1.0, fill),)
    if isinstance(fill, Orthogonal):
        return (Component(1.0, Normal(0.0, fill.std)),) if fill.std * math.sqrt(WIDE) <= abs(fill.gain) else None
    if isinstance(fill, Masked):
        inner = distribution(fill.fill)
        rest = Component(fill.share, Constant(fill.value))
        return inner and (*(Component(part.share * (1 - fill.share), part.fill) for part in inner), rest)
    if isinstance(fill, Blocks):
        mixed: list[Component] = []
        for size, block in zip(fill.sizes, fill.fills, strict=True):
            if (inner := distribution(block)) is None:
                return None
            mixed += [Component(part.share * size / max(sum(fill.sizes), 1), part.fill) for part in inner]
        return tuple(mixed)
    return None


def shares(parts: Sequence[Component], edges: Sequence[float]) -> list[float]:
    """The share of the elements to expect between each two neighboring edges.

    Args:
        parts: from :func:`distribution`.
        edges: ascending; a bin holds its lower edge.

    >>> shares([Component(1.0, Uniform(0.0, 4.0))], [0.0, 1.0, 4.0])
    [0.25, 0.75]
    """
    below = [math.fsum(part.share * _below(part.fill, edge) for part in parts) for edge in edges]
    return [after - before for before, after in pairwise(below)]


def standard_errors(fill: Fill, count: int) -> tuple[float, float] | None:
    """How far mean and std of ``count`` independent elements stray from the fill's: one standard deviation of each.

    The mean's is σ/√n, the std's σ·√((κ − 1)/4n) with the kurtosis κ.

    Args:
        fill: one distribution over all elements.
        count: how many elements there are.

    Returns:
        Both errors; ``None`` if the elements are not independent and identically distributed, or do not vary.

    >>> standard_errors(Normal(0.0, 2.0), 200)
    (0.1414..., 0.1)
    """
    parts = distribution(fill)
    if parts is None or len(parts) != 1 or isinstance(fill, Orthogonal) or not fill.std or count < WIDE:
        return None
    kurtosis = _kurtosis(parts[0].fill)
    return fill.std / math.sqrt(count), fill.std * math.sqrt((kurtosis - 1) / (4 * count))


def _below(fill: Fill, x: float) -> float:
    """The probability of a value below x."""
    if isinstance(fill, Uniform) and fill.high > fill.low:
        return min(max((x - fill.low) / (fill.high - fill.low), 0.0), 1.0)
    if isinstance(fill, TruncatedNormal) and fill.scale:
        low, high, at = (_phi((edge - fill.loc) / fill.scale) for edge in (fill.low, fill.high, x))
        return min(max((at - low) / (high - low), 0.0), 1.0) if high > low else float(x > fill.mean)
    if isinstance(fill, Normal) and fill.std:
        return _phi((x - fill.mean) / fill.std)
    return float(x > fill.mean)


def _phi(z: float) -> float:
    return math.erfc(-z / math.sqrt(2)) / 2


def _kurtosis(fill: Fill) -> float:
    """E(x − μ)⁴/σ⁴; that of a cut normal from its moments, mₖ = (k − 1)mₖ₋₂ − [zᵏ⁻¹φ(z)] over the cut."""
    if isinstance(fill, Uniform):
        return 1.8
    if not isinstance(fill, TruncatedNormal):
        return 3.0
    a, b = (fill.low - fill.loc) / fill.scale, (fill.high - fill.loc) / fill.scale
    mass = _phi(b) - _phi(a)
    pdf_a, pdf_b = (math.exp(-z * z / 2) / math.sqrt(2 * math.pi) if math.isfinite(z) else 0.0 for z in (a, b))
    if mass < 1e-6:
        return 3.0
    m = [1.0, 0.0, 0.0, 0.0, 0.0]
    for k in range(1, 5):
        edge = (b ** (k - 1) * pdf_b if pdf_b else 0.0) - (a ** (k - 1) * pdf_a if pdf_a else 0.0)
        m[k] = (k - 1) * (m[k - 2] if k > 1 else 0.0) - edge / mass
    variance = m[2] - m[1] ** 2
    fourth = m[4] - 4 * m[1] * m[3] + 6 * m[1] ** 2 * m[2] - 3 * m[1] ** 4
    return fourth / variance**2 if variance > 0 else 3.0
