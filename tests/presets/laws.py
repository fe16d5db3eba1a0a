"""Whether what a library drew can come from the fill that a preset plans."""

import math
from functools import singledispatch

import torch

from initframe.fills import (
    Blocks,
    Constant,
    Fill,
    Mapped,
    Masked,
    Normal,
    Orthogonal,
    TruncatedNormal,
    Uniform,
    Whole,
)

STANDARD_ERRORS = 5
MANY = 4_000_000
"""Values beyond these say nothing new."""
RARE = 1e-6
"""How improbable the largest value may be under the planned law."""


@singledispatch
def assert_law(fill: Fill, drawn: torch.Tensor) -> None:
    """Compare values with a fill.

    Args:
        fill: what the preset plans for one tensor.
        drawn: what the library's constructor put there, builds stacked along a first dimension.
    """
    raise NotImplementedError(type(fill).__name__)


@assert_law.register
def _(fill: Constant, drawn):
    assert torch.equal(drawn, torch.full_like(drawn, fill.value))


@assert_law.register
def _(fill: Uniform, drawn):
    _assert_moments(drawn, fill, kurtosis=1.8)
    half = (fill.high - fill.low) / 2
    _assert_largest(drawn, fill.mean, lambda r: r / half)


@assert_law.register
def _(fill: Normal, drawn):
    _assert_moments(drawn, fill, kurtosis=3.0)
    _assert_largest(drawn, fill.mean, lambda r: math.erf(r / fill.std / math.sqrt(2)))


@assert_law.register
def _(fill: TruncatedNormal, drawn):
    assert fill.low == -fill.high
    assert fill.loc == 0, "only symmetric cuts are in use"
    _assert_moments(drawn, fill, kurtosis=3.0)
    scale = fill.scale * math.sqrt(2)
    _assert_largest(drawn, 0.0, lambda r: math.erf(r / scale) / math.erf(fill.high / scale))


@assert_law.register
def _(fill: Mapped, drawn):
    """The largest and smallest values are the law's at the ends of (0, 1); it must be monotonous."""
    grid = fill.transform((torch.arange(1_000_000) + 0.5) / 1_000_000).double()
    kurtosis = ((grid - grid.mean()) ** 4).mean() / grid.var() ** 2
    _assert_moments(drawn, fill, kurtosis.item())
    slack = 1e-5 * grid.abs().max()
    assert grid[[0, -1]].min() - slack <= drawn.min() <= drawn.max() <= grid[[0, -1]].max() + slack


@assert_law.register
def _(fill: Orthogonal, drawn):
    for matrix in drawn.flatten(2).double():
        wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        torch.testing.assert_close(wide @ wide.T, fill.gain**2 * torch.eye(len(wide)).double(), atol=1e-5, rtol=1e-5)


@assert_law.register
def _(fill: Whole, drawn):
    """A whole fill that draws nothing is one tensor."""
    torch.testing.assert_close(drawn, fill.build(None).float().expand_as(drawn), atol=1e-6, rtol=1e-6)


@assert_law.register
def _(fill: Blocks, drawn):
    for part, block in zip(fill.fills, drawn.split(list(fill.sizes), dim=fill.dim + 1), strict=True):
        assert_law(part, block)


@assert_law.register
def _(fill: Masked, drawn):
    (row,) = fill.index
    assert torch.equal(drawn[:, row], torch.full_like(drawn[:, row], fill.value))
    assert_law(fill.fill, torch.cat([drawn[:, :row], drawn[:, row + 1 :]], dim=1))


def _assert_moments(drawn, fill, kurtosis):
    """Mean and std within 5 standard errors; the relative error of a std is √((kurtosis−1)/4n)."""
    x = drawn.flatten()[:MANY].double()
    n = x.numel()
    assert abs(x.mean().item() - fill.mean) <= STANDARD_ERRORS * fill.std / math.sqrt(n)
    error = fill.std * math.sqrt((kurtosis - 1) / (4 * n))
    assert abs(x.std().item() - fill.std) <= STANDARD_ERRORS * error + 1e-6 * fill.std


def _assert_largest(drawn, centre, cdf):
    """max |w − centre| of n values is at most r with probability cdf(r)ⁿ: uniform, normal and cut tails fall apart."""
    largest = (drawn.double() - centre).abs().max().item()
    below = min(cdf(largest * (1 - 1e-6)), 1.0) ** drawn.numel()
    assert below >= RARE, f"the largest value, {largest:g}, is too small"
    assert cdf(largest * (1 - 1e-6)) <= 1, f"the largest value, {largest:g}, is outside"
    assert 1 - below >= RARE, f"the largest value, {largest:g}, is too large"
