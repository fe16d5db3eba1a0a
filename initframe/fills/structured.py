"""Matrices and kernels with a structure: identities, orthogonal and sparse ones, Hadamard's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from initframe import stream
from initframe.fills.fill import FARTHEST, Shape, short
from initframe.fills.orthogonalize import is_small, orthogonalized
from initframe.fills.whole import ALL, Fixed, Index, Sampler, Scattered, Whole, centre, nothing


@dataclass(frozen=True)
class _Ones(Scattered):
    """``gain`` at some elements, zeros elsewhere."""

    if TYPE_CHECKING:

        @property
        def gain(self) -> float: ...  # a field of every subclass, whose place among the others is its own

    @property
    def share(self) -> float:
        """The share of elements that are not zero."""
        raise NotImplementedError

    @property
    def reach(self) -> float:
        """``|gain|``."""
        return abs(self.gain)

    @property
    def mean(self) -> float:
        """gain·p, p the share."""
        return self.gain * self.share

    @property
    def std(self) -> float:
        """``|gain|·√(p(1−p))``, p the share."""
        return abs(self.gain) * math.sqrt(self.share * (1 - self.share))

    def to_dict(self) -> dict[str, Any]:
        """Return the fill as plain data; a gain of 1 is not said."""
        return super().to_dict() | ({} if self.gain == 1 else {"gain": self.gain})

    def __str__(self) -> str:
        return super().__str__() if self.gain == 1 else f"{short(self.gain)} × {super().__str__()}"


@dataclass(frozen=True)
class Identity(_Ones):
    """Ones on the diagonal of a matrix, zeros elsewhere (torch/nn/init.py, ``eye_``).

    >>> Identity((2, 2)).mean
    0.5
    """

    gain: float = field(default=1.0, repr=False)
    dims: ClassVar[Sequence[int]] = (2,)

    @property
    def torch_init(self) -> tuple[str, tuple[Any, ...]] | None:
        """``eye_``, which knows no gain."""
        return ("eye_", ()) if self.gain == 1 else None

    @property
    def share(self) -> float:
        """min(n, m)/(n·m), the share of elements that are not zero."""
        return min(self.shape) / max(math.prod(self.shape), 1)

    def elements(self, draw: Sampler) -> tuple[Index, Tensor]:  # noqa: ARG002
        """Return the diagonal."""
        diagonal = torch.arange(min(self.shape), device="cpu")
        return (diagonal, diagonal), torch.full((len(diagonal),), float(self.gain), device="cpu")


@dataclass(frozen=True)
class Dirac(_Ones):
    """A convolution that passes its input through, per group (torch/nn/init.py, ``dirac_``).

    >>> Dirac((4, 2, 3), groups=2).mean
    0.16666666666666666
    """

    groups: int = 1
    gain: float = field(default=1.0, repr=False)
    layout: ClassVar[bool] = True
    dims: ClassVar[Sequence[int]] = (3, 4, 5)

    def misshapen(self, shape: Shape) -> str | None:
        """Say why the shape is another one, or groups do not divide it; ``None`` if all is well."""
        return super().misshapen(shape) or undivided(shape, self.groups)

    @property
    def torch_init(self) -> tuple[str, tuple[Any, ...]] | None:
        """``dirac_``, which knows no gain."""
        return ("dirac_", (self.groups,)) if self.gain == 1 else None

    @property
    def share(self) -> float:
        """The share of elements that are not zero."""
        passed = min(self.shape[0] // self.groups, self.shape[1]) * self.groups
        return passed / max(math.prod(self.shape), 1)

    def elements(self, draw: Sampler) -> tuple[Index, Tensor]:  # noqa: ARG002
        """Return 1 at the kernel's centre, from input channel c to output channel c of each group."""
        per_group = self.shape[0] // self.groups
        channels = torch.arange(min(per_group, self.shape[1]), device="cpu").repeat(self.groups)
        groups = torch.arange(self.groups, device="cpu").repeat_interleave(len(channels) // self.groups)
        return (groups * per_group + channels, channels, *centre(self.shape)), torch.full(
            (len(channels),), float(self.gain), device="cpu"
        )


_NORMAL = "normal", (0.0, 1.0), "orthogonal"
"""What an orthogonal matrix is made of."""


@dataclass(frozen=True)
class Orthogonal(Whole):
    """A (semi-)orthogonal matrix times ``gain``, rows by everything else flattened.

    Q·sign(diag R) of the QR decomposition of N(0, 1), computed in float64 (Saxe, McClelland & Ganguli 2013;
    torch/nn/init.py). Population std gain/√max(rows, columns).

    >>> Orthogonal((3, 3), gain=2.0).std
    1.1547005383792517
    """

    gain: float = 1.0
    asks = _NORMAL
    lapack: ClassVar[bool] = True
    mean = 0.0
    layout: ClassVar[bool] = True
    dims: ClassVar[Sequence[int]] = range(2, 65)

    @property
    def torch_init(self) -> tuple[str, tuple[Any, ...]]:
        """``orthogonal_``."""
        return "orthogonal_", (self.gain,)

    @property
    def reach(self) -> float:
        """``|gain|``."""
        return abs(self.gain)

    @property
    def std(self) -> float:
        """gain/√max(rows, columns)."""
        rows, columns = _matrix(self.shape)
        return abs(self.gain) / math.sqrt(max(rows, columns, 1))

    @property
    def on_one_thread(self) -> bool:
        """Small matrices are built next to each other, large ones by all threads."""
        return is_small(*_matrix(self.shape))

    def build(self, draw: Sampler) -> Tensor:
        """Orthogonalize N(0, 1); a positive diagonal of R makes the matrix Haar-distributed (Mezzadri 2007)."""
        normal = draw(*_NORMAL).reshape(_matrix(self.shape))
        return orthogonalized(normal).mul_(self.gain).reshape(self.shape)


@dataclass(frozen=True)
class DeltaOrthogonal(Scattered):
    """A convolution with an orthogonal matrix at its kernel's centre k//2 and zeros elsewhere (Xiao et al. 2018).

    Every one of ``groups`` has a matrix of its own.

    >>> DeltaOrthogonal((4, 4, 1)).std
    0.5
    """

    gain: float = 1.0
    groups: int = field(default=1, repr=False)
    lapack: ClassVar[bool] = True
    mean = 0.0
    layout: ClassVar[bool] = True
    dims: ClassVar[Sequence[int]] = (3, 4, 5)

    def misshapen(self, shape: Shape) -> str | None:
        """Say why the shape is another one, or groups do not divide it; ``None`` if all is well."""
        return super().misshapen(shape) or undivided(shape, self.groups)

    @property
    def reach(self) -> float:
        """``|gain|``."""
        return abs(self.gain)

    @property
    def std(self) -> float:
        """gain/√(max(outputs, inputs)·K), both per group, K the product of the kernel."""
        channels = max(self.shape[0] // self.groups, self.shape[1], 1)
        return abs(self.gain) / math.sqrt(channels * math.prod(self.shape[2:]))

    @property
    def on_one_thread(self) -> bool:
        """Small matrices are built next to each other, large ones by all threads."""
        return is_small(self.shape[0] // self.groups, self.shape[1])

    def elements(self, draw: Sampler) -> tuple[Index, Tensor]:
        """Return the matrices, in their place."""
        normal = draw(*_NORMAL, shape=self.shape[:2])
        drawn = orthogonalized(normal.reshape(self.groups, -1, self.shape[1])).flatten(0, 1)
        return (ALL, ALL, *centre(self.shape)), drawn * self.gain


@dataclass(frozen=True)
class Sparse(Whole):
    """N(0, std²) with ⌈sparsity·rows⌉ zeros in every column (Martens 2010; torch/nn/init.py, ``sparse_``).

    >>> Sparse((10, 4), sparsity=0.5, scale=1.0).std
    0.7071067811865476
    """

    sparsity: float
    scale: float = 0.01
    mean = 0.0
    dims: ClassVar[Sequence[int]] = (2,)

    def undrawable(self) -> str | None:
        """Say why the elements cannot be drawn; ``None`` if they can."""
        found = stream.check("normal", (0.0, self.scale))
        return f"it cannot be drawn: {found}" if found else None

    @property
    def torch_init(self) -> tuple[str, tuple[Any, ...]]:
        """``sparse_``."""
        return "sparse_", (self.sparsity, self.scale)

    @property
    def reach(self) -> float:
        """6.67·scale."""
        return FARTHEST * self.scale

    @property
    def zeros(self) -> int:
        """The number of zeros per column."""
        return math.ceil(self.sparsity * self.shape[0])

    @property
    def std(self) -> float:
        """scale·√(share of elements that are not zero)."""
        return self.scale * math.sqrt(1 - self.zeros / max(self.shape[0], 1))

    def build(self, draw: Sampler) -> Tensor:
        """Draw N(0, scale²), and set the rows with the smallest words of the purpose ``"sparse"`` to 0, by column."""
        values = draw("normal", (0.0, self.scale))
        ranks = draw("bits", (), "sparse").argsort(dim=0, stable=True)
        return values.scatter(0, ranks[: self.zeros], 0.0)


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
    reach = 1.0
    layout: ClassVar[bool] = True
    dims: ClassVar[Sequence[int]] = (2, 3, 4, 5)

    def misshapen(self, shape: Shape) -> str | None:
        """Say why the shape is another one, or groups do not divide it; ``None`` if all is well."""
        return super().misshapen(shape) or undivided(shape, self.groups)

    def elements(self, draw: Sampler) -> tuple[Index, Tensor]:
        """Return the diagonal, or the matrix, at the centre k//2 of the kernel."""
        rows, columns = self.shape[0] // self.groups, self.shape[1]
        outputs, inputs = (columns, rows) if self.transposed else (rows, columns)
        if outputs <= inputs:
            return Dirac(self.shape, self.groups).elements(draw)
        bits = math.ceil(math.log2(outputs))
        matrix = _sylvester(rows, columns) * 2.0 ** (-bits / 2)
        return (ALL, ALL, *centre(self.shape)), matrix.repeat(self.groups, 1)

    def values(self) -> Tensor:
        """Compute the full tensor."""
        return self.build(nothing)

    @cached_property
    def _facts(self) -> tuple[float, float, float]:
        """Sums over the elements that are not zero, over the number of all."""
        values, count = self.elements(nothing)[1].double(), max(math.prod(self.shape), 1)
        mean, square = values.sum().item() / count, values.square().sum().item() / count
        return mean, math.sqrt(square - mean**2), 1.0


def undivided(shape: Shape, groups: int) -> str | None:
    """Say that groups do not divide the first dimension; ``None`` if they do.

    >>> undivided((4, 2, 3), groups=3)
    '3 groups do not divide the first dimension, 4.'
    """
    if groups >= 1 and shape[0] % groups == 0:
        return None
    return f"{groups} groups do not divide the first dimension, {shape[0]}."


def _matrix(shape: Sequence[int]) -> tuple[int, int]:
    """A tensor's shape as (rows, everything else)."""
    return shape[0], math.prod(shape[1:])


def _sylvester(rows: int, columns: int) -> Tensor:
    """The upper left part of a Hadamard matrix: (−1) to the number of ones in the binary i & j."""
    ones = torch.arange(rows, device="cpu")[:, None] & torch.arange(columns, device="cpu")
    parity = torch.zeros_like(ones)
    for bit in range(max(rows, columns).bit_length()):
        parity = parity ^ (ones >> bit & 1)
    return 1.0 - 2.0 * parity.float()
