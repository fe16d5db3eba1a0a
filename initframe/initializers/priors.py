"""Biases that state what is known before anything is learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from initframe.fills import Constant, Fill
from initframe.fills.table import Rows
from initframe.initializers.demands import refuse
from initframe.initializers.table import initializer
from initframe.model.slot import Slot


@initializer("bias_prior")
def bias_prior(
    slot: Slot,
    *,
    prior: float = 0.01,
    priors: Sequence[float] | None = None,
    form: Literal["sigmoid", "softmax"] = "sigmoid",
) -> Fill:
    """The bias at which a classifier says ``prior``: −log((1−π)/π) of a sigmoid, log π of a softmax (Lin et al. 2017).

    Use it for rare classes, whose loss would otherwise start huge. A softmax over C classes of the same
    probability has π = 1/C, which gives −ln C: write ``prior: 1 / d0``.

    Args:
        slot: the bias of a classifier's last layer.
        prior: the probability of each class, between 0 and 1.
        priors: one probability per class instead.
        form: ``sigmoid`` for classes on their own, ``softmax`` for classes that exclude each other.

    Returns:
        A constant, or one number per class.

    Raises:
        ResolveError: a probability is not between 0 and 1, or there is not one per class.

    >>> round(bias_prior(Slot("b", (80,)), prior=0.01).value, 5)
    -4.59512
    """
    bad = [p for p in (prior, *(priors or ())) if not 0 < p < 1]
    if bad:
        raise refuse(f"a prior is between 0 and 1, got {bad[0]:g}.")
    logit = math.log if form == "softmax" else lambda p: math.log(p) - math.log1p(-p)
    if priors is None:
        return Constant(logit(prior))
    if slot.ndim != 1 or len(priors) != slot.shape[0]:
        raise refuse(f"{len(priors)} priors for a tensor of shape {list(slot.shape)}.", "Write one per class.")
    return Rows(slot.shape, tuple(map(logit, priors)))
