"""Initializers: pure functions ``(slot, **kwargs) → Fill``, by family, in one table."""

from initframe.initializers import (  # noqa: F401  # they register themselves
    attention,
    basic,
    checkpoints,
    constructor,
    convolution,
    copy,
    defaults,
    identity,
    mean_field,
    positions,
    priors,
    recurrent,
    scales,
    ssm,
    structured,
    variance,
)
from initframe.initializers.gains import GAINS
from initframe.initializers.table import Declined, get, initializer, list_initializers, parameters

__all__ = ["GAINS", "Declined", "get", "initializer", "list_initializers", "parameters"]
