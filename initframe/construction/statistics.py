"""Tests of one tensor's values against the distributions that initializations use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from initframe.construction.numbers import shortest
from initframe.construction.strays import without_strays
from initframe.construction.structure import structure
from initframe.construction.usual import snapped
from initframe.errors import InitframeError
from initframe.fills import (
    Blocks,
    Constant,
    Dirac,
    Fill,
    Identity,
    Masked,
    Normal,
    Orthogonal,
    TruncatedNormal,
    Uniform,
)
from initframe.initializers.defaults import torch_default
from initframe.model.slot import Slot

FEWEST = 64
"""Elements below which no distribution is told from another."""
P_VALUE = 1e-4
"""Below it a distribution does not fit. Among 10,000 tensors, one is refused that fits."""
MOST = 1 << 20
"""Elements that are looked at; of larger tensors, evenly spaced ones."""
ENOUGH = 4096
"""Elements from which on a distribution is told whose numbers no initialization is known for."""


class Identified(NamedTuple):
    """What values are, and how sure that is; without a fill, why it is not known.

    Attributes:
        fill: the distribution, or ``None``.
        evidence: a sentence.
        trained: whether they bear the marks of training.
    """

    fill: Fill | None
    evidence: str
    trained: bool = False


def identified(tensor: Tensor, slot: Slot) -> Identified:
    """Identify one tensor's values.

    Args:
        tensor: with values.
        slot: its facts.

    >>> torch.manual_seed(0) and identified(torch.randn(50, 50), Slot("w", (50, 50))).fill.kind
    'normal'
    """
    values = tensor.detach().to("cpu", torch.float64)
    if strange := values.numel() - int(values.isfinite().sum()):
        return Identified(None, f"no distribution fits: {strange:,} of {values.numel():,} values are infinite or NaN.")
    if constant := _constant(values, tensor.dtype):
        return constant
    if whole := _matrix(values):
        return whole
    if masked := _padding(values, tensor.dtype, slot):
        return masked
    found = _drawn(values, tensor.dtype, slot)
    if found.fill is None and (blocks := _blocks(values, tensor.dtype, slot)):
        return blocks
    return found


def _constant(values: Tensor, dtype: torch.dtype) -> Identified | None:
    first = values.flatten()[0]
    if not bool((values == first).all()):
        return None
    value = shortest(first.item(), dtype)
    return Identified(Constant(value), f"All {values.numel():,} elements are {value:g}.")


def _matrix(values: Tensor) -> Identified | None:
    """Identity, Dirac, orthogonal."""
    if values.ndim < 2 or min(values.shape[0], values[0].numel()) < 2:
        return None
    shape = tuple(values.shape)
    if values.ndim == 2 and torch.equal(values, torch.eye(*shape, dtype=values.dtype)):
        return Identified(Identity(shape), "It is the identity, element by element.")
    if values.ndim in (3, 4, 5):
        made = Dirac(shape).build(lambda *_, **__: values)
        if torch.equal(values, made.double()):
            return Identified(Dirac(shape), "It is a Dirac kernel, element by element.")
    rows, columns = shape[0], values[0].numel()
    few = min(rows, columns)
    if few > 4096:
        return None
    flat = values.reshape(rows, columns)
    gram = flat @ flat.T if rows <= columns else flat.T @ flat
    square = gram.diagonal().mean().item()
    off = (gram - square * torch.eye(few, dtype=gram.dtype)).abs().max().item()
    if square > 0 and off < 1e-4 * square:
        gain = float(f"{math.sqrt(square):.5g}")
        return Identified(
            Orthogonal(shape, gain), f"Its {few} vectors are orthogonal of length {gain:g}, to {off / square:.0e}."
        )
    return None


def _padding(values: Tensor, dtype: torch.dtype, slot: Slot) -> Identified | None:
    """One row of zeros among rows that are not."""
    if values.ndim < 2 or values.shape[0] < 3:
        return None
    zeros = (values.flatten(1) == 0).all(1).nonzero().flatten().tolist()
    if len(zeros) != 1:
        return None
    row = zeros[0]
    rest = torch.cat([values[:row], values[row + 1 :]])
    found = _constant(rest, dtype) or _drawn(rest, dtype, slot)
    if found.fill is None:
        return None
    return Identified(
        Masked(found.fill, tuple(values.shape), (row,), 0.0), f"Row {row} is zero. The others: {found.evidence}"
    )


# --- drawn values ----------------------------------------------------------------------------------------------------


def _drawn(values: Tensor, dtype: torch.dtype, slot: Slot) -> Identified:
    """Uniform, normal or truncated normal, or none of them."""
    n = values.numel()
    if n < FEWEST:
        return _from_layer(values, slot) or Identified(None, f"{n} elements are too few to tell a distribution.")
    values, strays = without_strays(values)
    if fault := structure(values):
        return Identified(None, f"no distribution fits: {fault}.", trained=True)
    sample = _sample(values)
    likely = [snapped(candidate, n, slot) for candidate in _candidates(sample)]
    fill, usual = max(likely, key=lambda one: _likelihood(sample, one[0]) if _reaches(one[0], sample) else -math.inf)
    p, statistic = _fit(sample, fill)
    wide = {torch.bfloat16: 2.0**-9, torch.float16: 2.0**-12}.get(dtype, 0.0)
    if p < P_VALUE and not (wide and statistic < wide):
        return Identified(
            None, f"no distribution fits: {fill} is nearest, of {n:,} elements D = {statistic:.4f}, p = {p:.0e}."
        )
    if not usual and (n < ENOUGH or fill.mean != 0):
        return Identified(
            None,
            f"no distribution fits: {fill} would, but no initialization is known that gives a tensor of its size this "
            f"mean and std, and {n:,} elements are too few to take it for a new one.",
        )
    return Identified(fill, f"{fill}: {n:,} elements, Kolmogorov-Smirnov D = {statistic:.4f}, p = {p:.2g}{strays}.")


def _reaches(fill: Fill, sample: Tensor) -> bool:
    """Whether all values are ones that a distribution can give, up to the rounding of half precision."""
    if not isinstance(fill, Uniform | TruncatedNormal):
        return True
    slack = 2.0**-8 * max(abs(fill.low), abs(fill.high))
    return fill.low - slack <= sample[0].item() and sample[-1].item() <= fill.high + slack


def _likelihood(sample: Tensor, fill: Fill) -> float:
    """The log-likelihood, less what further parameters cost."""
    n = sample.numel()
    match fill:
        case Uniform(low, high):
            return -n * math.log(high - low)
        case Normal(mean, std):
            return -n * math.log(std * math.sqrt(2 * math.pi)) - ((sample - mean) / std).square().sum().item() / 2
        case TruncatedNormal(loc, scale, low, high):
            a, b = (
                torch.special.ndtr(torch.tensor((e - loc) / scale, dtype=torch.float64)).item() for e in (low, high)
            )
            inside = -n * math.log(b - a)
            return inside + _likelihood(sample, Normal(loc, scale)) - 4.0
    return -math.inf


def _sample(values: Tensor) -> Tensor:
    flat = values.flatten()
    return flat[:: -(-flat.numel() // MOST)].sort().values


def _candidates(sample: Tensor) -> Iterator[Fill]:
    """Distributions with the parameters that the values speak for."""
    n = sample.numel()
    low, high = sample[0].item(), sample[-1].item()
    std, mean = (one.item() for one in torch.std_mean(sample))
    centred = 0.0 if abs(mean) < 4.5 * std / math.sqrt(n) else mean
    edge = (high - low) / n
    if abs(low + high) < 12 * edge:
        bound = max(-low, high) * (1 + 1 / n)
        yield Uniform(-bound, bound)
    else:
        yield Uniform(0.0 if abs(low) < 12 * edge else low - edge, high + edge)
    yield Normal(centred, std)
    ratio = max(high - centred, centred - low) / std
    if ratio < 3.6:
        for cut in (2.0, 3.0):
            kept = TruncatedNormal(0.0, 1.0, -cut, cut).std
            scale = std / kept
            if max(high - centred, centred - low) <= cut * scale * (1 + 3 / math.sqrt(n)):
                yield TruncatedNormal(centred, scale, centred - cut * scale, centred + cut * scale)


def _fit(sample: Tensor, fill: Fill) -> tuple[float, float]:
    """Kolmogorov and Smirnov's test: the p-value, and the largest distance of the distributions."""
    n = sample.numel()
    cdf = _cdf(sample, fill)
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    distance = max((steps[1:] - cdf).max().item(), (cdf - steps[:-1]).max().item())
    x = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance
    if x < 0.2:
        return 1.0, distance
    p = 2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, 101))
    return min(max(p, 0.0), 1.0), distance


def _cdf(sample: Tensor, fill: Fill) -> Tensor:
    match fill:
        case Uniform(low, high):
            return ((sample - low) / (high - low)).clamp(0, 1)
        case Normal(mean, std):
            normal: Tensor = torch.special.ndtr((sample - mean) / std)
            return normal
        case TruncatedNormal(loc, scale, low, high):
            below, above = (
                torch.special.ndtr(torch.tensor((b - loc) / scale, dtype=torch.float64)) for b in (low, high)
            )
            cut: Tensor = (torch.special.ndtr((sample - loc) / scale) - below) / (above - below)
            return cut.clamp(0, 1)
    raise TypeError(fill)


def _from_layer(values: Tensor, slot: Slot) -> Identified | None:
    """Of few elements: what its layer does by itself, if all of them are within it."""
    try:
        fill = torch_default(slot)
    except InitframeError:
        return None
    if not isinstance(fill, Uniform) or values.numel() < 4:
        return None
    reach = values.abs().max().item() / fill.high if fill.high else math.inf
    if not 0.02 ** (1 / values.numel()) < reach <= 1:
        return None
    n = values.numel()
    return Identified(fill, f"{fill}: {n} elements, all within what its layer does by itself; too few for more.")


def _blocks(values: Tensor, dtype: torch.dtype, slot: Slot) -> Identified | None:
    """Equal blocks along the first dimension, each with a distribution of its own."""
    for count in (2, 3, 4):
        if values.shape and values.shape[0] % count == 0 and values.numel() // count >= FEWEST:
            parts = values.chunk(count)
            found = [_constant(part, dtype) or _drawn(part, dtype, slot) for part in parts]
            fills: Sequence[Fill] = [one.fill for one in found if one.fill is not None]
            told = values.ndim > 1 or any(isinstance(fill, Constant) for fill in fills)
            if len(fills) == count and told:
                size = values.shape[0] // count
                evidence = " ".join(f"Block {i}: {one.evidence}" for i, one in enumerate(found, 1))
                return Identified(Blocks(tuple(fills), (size,) * count, 0), evidence)
    return None
