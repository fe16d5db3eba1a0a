"""A distribution of one's own, as a plugin brings it: ``plugins=[initframe.experiments.gap]``, or a module like it."""

from __future__ import annotations

import math

from torch import Tensor

import initframe


@initframe.initializer("gap")
def gap(slot: initframe.Slot, *, low: float = 5.0, high: float = 10.0) -> initframe.Fill:  # noqa: ARG001
    """U(low, high) with probability ¼, 0 with ½, U(−high, −low) with ¼.

    Args:
        slot: any tensor.
        low: the smallest size that is not zero, ≥ 0.
        high: the largest size, ≥ low.

    Returns:
        An elementwise fill of mean 0 and variance ½·(low² + low·high + high²)/3.

    Raises:
        ResolveError: low and high are not in order.

    >>> import torch
    >>> gap(None).fn(torch.tensor([0.05, 0.5, 0.95])).tolist()
    [-9.0, 0.0, 9.0]
    """
    if not 0 <= low <= high:
        raise initframe.ResolveError(f"gap needs 0 ≤ low ≤ high, got low = {low:g} and high = {high:g}.")

    def spread(u: Tensor) -> Tensor:
        """The outer quarters of (0, 1) to the two parts, the middle half to zero."""
        distance = (u - 0.5).abs() * 4 - 1  # 0 at the quartiles, 1 at the ends
        sizes = low + distance * (high - low)
        return sizes.where(distance >= 0, 0) * (u - 0.5).sign()

    variance = (low * low + low * high + high * high) / 6
    return initframe.Elementwise(spread, mean=0.0, std=math.sqrt(variance))
