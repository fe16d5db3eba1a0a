"""Networks that several claims share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

from torch import nn

CLASSES = 10
Padding = Literal["zeros", "circular"]


def mlp(inputs: int, width: int, depth: int, activation: Callable[[], nn.Module]) -> nn.Module:
    """Build hidden layers of one width, and a readout for ten classes.

    >>> len(mlp(64, 100, 3, nn.ReLU))
    8
    """
    sizes = [inputs] + [width] * depth
    hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), activation())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, CLASSES))


def convnet(
    channels: int, depth: int, activation: Callable[[], nn.Module], padding_mode: Padding = "zeros"
) -> nn.Module:
    """Build 3×3 convolutions for digits of 8×8 pixels: the first halves the image; a readout sees all 4×4 pixels.

    >>> len(convnet(8, 3, nn.ReLU))
    8
    """
    layers = [
        layer
        for i, (a, b) in enumerate(pairwise([1] + [channels] * depth))
        for layer in (nn.Conv2d(a, b, 3, 1 if i else 2, 1, padding_mode=padding_mode), activation())
    ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * channels, CLASSES))
