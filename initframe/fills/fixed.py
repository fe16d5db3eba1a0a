"""Whole fills that draw nothing: what they are follows from the shape alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from initframe.fills.scattered import ALL, Dirac, Index, Scattered, centre
from initframe.fills.whole import Draw, Whole


@dataclass(frozen=True)
class Fixed(Whole):
    """The common face of fills that draw nothing; their moments are those of the one tensor that they are."""

    def values(self) -> Tensor:
        """The tensor, in float32 or float64."""
        raise NotImplementedError

    def build(self, draw: Draw) -> Tensor:  # noqa: ARG002
        """The tensor."""
        return self.values()

    @property
    def mean(self) -> float:
        """Of the tensor's elements."""
        return self._moments[0]

    @property
    def std(self) -> float:
        """Of the tensor's elements."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[float, float]:
        std, mean = torch.std_mean(self.values().double(), correction=0)
        return mean.item(), std.item()


@dataclass(frozen=True)
class Rows(Fixed):
    """Every row along the last dimension is ``row``.

    >>> Rows((2, 3), (1.0, 2.0, 3.0)).build(None).tolist()
    [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    """

    row: tuple[float, ...]

    def values(self) -> Tensor:
        """The row, over and over."""
        return torch.tensor(self.row, dtype=torch.float64, device="cpu").expand(self.shape)

    def __str__(self) -> str:
        return f"rows({self.row[0]:.4g} … {self.row[-1]:.4g})"


@dataclass(frozen=True)
class PartialHadamard(Scattered, Fixed):
    """ZerO's matrix: the identity, or, where outputs outnumber inputs, part of a Hadamard matrix (Zhao et al. 2022).

    W = I·H/√p·I for the Sylvester matrix H of size p, the power of two that is no smaller than the outputs. A
    convolution has the matrix at its kernel's centre, for each of its groups; ``transposed`` says that the rows are
    the inputs.

    >>> PartialHadamard((4, 2)).build(None).tolist()
    [[0.5, 0.5], [0.5, -0.5], [0.5, 0.5], [0.5, -0.5]]
    """

    groups: int = field(default=1, repr=False)
    transposed: bool = field(default=False, repr=False)

    def elements(self, draw: Draw) -> tuple[Index, Tensor]:
        """The diagonal, or the matrix, at the centre k//2 of the kernel."""
        rows, columns = self.shape[0] // self.groups, self.shape[1]
        outputs, inputs = (columns, rows) if self.transposed else (rows, columns)
        if outputs <= inputs:
            return Dirac(self.shape, self.groups).elements(draw)
        bits = math.ceil(math.log2(outputs))
        matrix = _sylvester(rows, columns) * 2.0 ** (-bits / 2)
        return (ALL, ALL, *centre(self.shape)), matrix.repeat(self.groups, 1)

    def values(self) -> Tensor:
        """The full tensor."""
        return self.build(nothing)

    @cached_property
    def _moments(self) -> tuple[float, float]:
        """Sums over the elements that are not zero, over the number of all."""
        values, count = self.elements(nothing)[1].double(), max(math.prod(self.shape), 1)
        mean, square = values.sum().item() / count, values.square().sum().item() / count
        return mean, math.sqrt(square - mean**2)


def nothing(*_: object, **__: object) -> Tensor:
    """What fills draw from that draw nothing."""
    raise NotImplementedError


def _sylvester(rows: int, columns: int) -> Tensor:
    """The upper left part of a Hadamard matrix: (−1) to the number of ones in the binary i & j."""
    ones = torch.arange(rows, device="cpu")[:, None] & torch.arange(columns, device="cpu")
    parity = torch.zeros_like(ones)
    for bit in range(max(rows, columns).bit_length()):
        parity = parity ^ (ones >> bit & 1)
    return 1.0 - 2.0 * parity.float()


@dataclass(frozen=True)
class BilinearKernel(Fixed):
    """A transposed convolution that interpolates, channel by channel (Long, Shelhamer & Darrell 2015, FCN).

    Each direction of size k is 1 − |i − c|/f with f = (k+1)//2 and c = f − 1 for odd k, f − ½ for even.

    >>> BilinearKernel((1, 1, 4)).build(None).tolist()
    [[[0.25, 0.75, 0.75, 0.25]]]
    """

    def values(self) -> Tensor:
        """The kernel, on the diagonal of channels of each group."""
        inputs, outputs, *kernel = self.shape
        product = torch.ones((), device="cpu")
        for size in kernel:
            product = product[..., None] * _tent(size)
        channels = torch.eye(outputs, device="cpu").repeat(inputs // outputs, 1)
        return channels.reshape(inputs, outputs, *[1] * len(kernel)) * product


def _tent(size: int) -> Tensor:
    half = (size + 1) // 2
    centre = half - 1 if size % 2 else half - 0.5
    return 1 - (torch.arange(size, dtype=torch.float32, device="cpu") - centre).abs() / half


@dataclass(frozen=True)
class SineCosine(Fixed):
    """Positions of a square grid as sines and cosines of each coordinate (He et al. 2022; Peebles & Xie 2023).

    The first half of a position's vector is its column, the second its row; each half is sin(p·ω) before cos(p·ω),
    ω = 10000^(−4j/width). ``prefix`` positions in front are zero.

    >>> SineCosine((1, 4, 4)).build(None)[0, 0].tolist()
    [0.0, 1.0, 0.0, 1.0]
    """

    prefix: int = 0

    def values(self) -> Tensor:
        """The table, in float64."""
        tokens, width = self.shape[-2:]
        side = math.isqrt(tokens - self.prefix)
        along, waves = (torch.arange(size, dtype=torch.float64, device="cpu") for size in (side, width // 4))
        rows, columns = (t.reshape(-1) for t in torch.meshgrid(along, along, indexing="ij"))
        omega = 10000.0 ** (-waves / (width // 4))
        angles = [coordinate[:, None] * omega for coordinate in (columns, rows)]
        table = torch.cat([half for angle in angles for half in (angle.sin(), angle.cos())], dim=1)
        return torch.cat([table.new_zeros(self.prefix, width), table]).reshape(self.shape)
