"""Whole fills that are zeros but for some elements: identities, and matrices at a kernel's centre."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from initframe.fills.whole import Draw, Whole

Index: TypeAlias = tuple[int | slice | Tensor, ...]
"""What stands in the brackets of ``tensor[index]``: numbers and whole dimensions, or numbers and lists."""
ALL = slice(None)


@dataclass(frozen=True)
class Scattered(Whole):
    """The common face of whole fills that are zeros but for some elements: these alone are computed."""

    def elements(self, draw: Draw) -> tuple[Index, Tensor]:
        """Where the elements lie that are not zero (lists on the CPU), and what they are, in float32 or float64."""
        raise NotImplementedError

    def build(self, draw: Draw) -> Tensor:
        """The full tensor, which nobody needs who can write to the elements where they lie."""
        index, values = self.elements(draw)
        whole = torch.zeros(self.shape, dtype=values.dtype, device=values.device)
        whole[index] = values
        return whole


@dataclass(frozen=True)
class Identity(Scattered):
    """Ones on the diagonal of a matrix, zeros elsewhere (torch/nn/init.py, ``eye_``).

    >>> Identity((2, 2)).mean
    0.5
    """

    @property
    def mean(self) -> float:
        """min(n, m)/(n·m)."""
        return min(self.shape) / max(math.prod(self.shape), 1)

    @property
    def std(self) -> float:
        """√(p(1−p)), p the mean."""
        return math.sqrt(self.mean * (1 - self.mean))

    def elements(self, draw: Draw) -> tuple[Index, Tensor]:  # noqa: ARG002
        """The diagonal."""
        diagonal = torch.arange(min(self.shape), device="cpu")
        return (diagonal, diagonal), torch.ones(len(diagonal), device="cpu")


@dataclass(frozen=True)
class Dirac(Scattered):
    """A convolution that passes its input through, per group (torch/nn/init.py, ``dirac_``).

    >>> Dirac((4, 2, 3), groups=2).mean
    0.16666666666666666
    """

    groups: int = 1

    @property
    def mean(self) -> float:
        """The share of ones."""
        passed = min(self.shape[0] // self.groups, self.shape[1]) * self.groups
        return passed / max(math.prod(self.shape), 1)

    @property
    def std(self) -> float:
        """√(p(1−p)), p the mean."""
        return math.sqrt(self.mean * (1 - self.mean))

    def elements(self, draw: Draw) -> tuple[Index, Tensor]:  # noqa: ARG002
        """1 at the kernel's centre, from input channel c to output channel c of each group."""
        per_group = self.shape[0] // self.groups
        channels = torch.arange(min(per_group, self.shape[1]), device="cpu").repeat(self.groups)
        groups = torch.arange(self.groups, device="cpu").repeat_interleave(len(channels) // self.groups)
        return (groups * per_group + channels, channels, *centre(self.shape)), torch.ones(len(channels), device="cpu")


def centre(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The centre k//2 of a convolution's kernel, which is all dimensions but two.

    >>> centre((8, 4, 3, 2))
    (1, 1)
    """
    return tuple(size // 2 for size in shape[2:])
