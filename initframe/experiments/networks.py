"""Networks that several claims share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import nn

CLASSES = 10


def mlp(inputs: int, width: int, depth: int, activation: Callable[[], nn.Module], *, bias: bool = True) -> nn.Module:
    """Build hidden layers of one width, and a readout for ten classes.

    >>> len(mlp(64, 100, 3, nn.ReLU))
    8
    """
    sizes = [inputs] + [width] * depth
    hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b, bias=bias), activation())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, CLASSES, bias=bias))
