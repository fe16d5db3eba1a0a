"""Single values of torch's own truncated normal that are no part of its distribution."""

from __future__ import annotations

from torch import Tensor

from initframe.construction.numbers import is_short

RATE = 2.0**-24
"""How often ``uniform_(-1, 1)`` in float32 gives -1 itself: it has 24 bits."""
FAR = 8.0
"""Standard deviations past which no draw of a normal in float32 is."""


def without_strays(values: Tensor) -> tuple[Tensor, str]:
    """Put the mean in place of single values that come from the clamp of a truncated normal.

    ``trunc_normal_`` with far bounds, std 0.02 in ±2 for example, takes the inverse error function of ``uniform_(-1,
    1)``. Once in 2²⁴ draws that is -1, its inverse minus infinity, and the clamp makes it the lower bound: a hundred
    standard deviations away. One of them in a million values moves the std by a percent, which is more
    than ten of its standard errors.

    Args:
        values: of one tensor.

    Returns:
        The values, and a clause that says how many of them were replaced; the same values and no clause if none were.

    >>> import torch
    >>> values = torch.randn(1000) * 0.02
    >>> values[7] = -2
    >>> changed, clause = without_strays(values)
    >>> bool(changed[7].abs() < 0.01), clause
    (True, ', without 1 at the clamp of -2')
    """
    lowest = values.min()
    strays = values == lowest
    count = int(strays.sum())
    if count > 2 + 8 * RATE * values.numel() or not is_short(lowest.item()):
        return values, ""
    rest = values[~strays]
    mean, std = rest.mean(), rest.std()
    if not (mean - lowest > FAR * std):
        return values, ""
    return values.masked_fill(strays, mean.item()), f", without {count} at the clamp of {lowest.item():g}"
