"""Fills that are computed for the full tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from initframe.fills.fill import Fill


class Draw(Protocol):
    """A source of random numbers, given to a whole fill when it is built."""

    def __call__(
        self,
        law: str,
        args: Sequence[float],
        purpose: str = "",
        *,
        name: str | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Tensor:
        """Draw a law of the stream at every element.

        Args:
            law: the stream's name of it.
            args: its numbers.
            purpose: what it is drawn for; every purpose has numbers of its own.
            name: under which name; by default the tensor's. Tensors that share a name share the numbers.
            shape: of what is drawn; by default the fill's.

        Returns:
            A float32 tensor, int32 for ``"bits"``.
        """
        ...


@dataclass(frozen=True)
class Whole(Fill):
    """The common face of fills that are computed for the full tensor."""

    shape: tuple[int, ...] = field(repr=False)

    def build(self, draw: Draw) -> Tensor:
        """The full tensor, in float32 or float64; rounded to the slot's dtype by the one who writes it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Orthogonal(Whole):
    """A (semi-)orthogonal matrix times ``gain``, rows by everything else flattened.

    Q·sign(diag R) of the QR decomposition of N(0, 1), computed in float64 (Saxe, McClelland & Ganguli 2013;
    torch/nn/init.py). Population std gain/√max(rows, columns).

    >>> Orthogonal((3, 3), gain=2.0).std
    1.1547005383792517
    """

    gain: float = 1.0

    @property
    def mean(self) -> float:
        """0."""
        return 0.0

    @property
    def std(self) -> float:
        """gain/√max(rows, columns)."""
        rows, columns = _matrix(self.shape)
        return abs(self.gain) / math.sqrt(max(rows, columns, 1))

    def build(self, draw: Draw) -> Tensor:
        """Haar-distributed, so the sign of R's diagonal is made positive (Mezzadri 2007)."""
        normal = draw("normal", (0.0, 1.0), "orthogonal").reshape(_matrix(self.shape))
        return (orthogonalized(normal) * self.gain).reshape(self.shape)


@dataclass(frozen=True)
class Sparse(Whole):
    """N(0, std²) with ⌈sparsity·rows⌉ zeros in every column (Martens 2010; torch/nn/init.py, ``sparse_``).

    >>> Sparse((10, 4), sparsity=0.5, scale=1.0).std
    0.7071067811865476
    """

    sparsity: float
    scale: float = 0.01

    @property
    def mean(self) -> float:
        """0."""
        return 0.0

    @property
    def zeros(self) -> int:
        """The number of zeros per column."""
        return math.ceil(self.sparsity * self.shape[0])

    @property
    def std(self) -> float:
        """scale·√(share of elements that are not zero)."""
        return self.scale * math.sqrt(1 - self.zeros / max(self.shape[0], 1))

    def build(self, draw: Draw) -> Tensor:
        """The rows with the smallest words of the purpose ``"sparse"`` become zero, column by column."""
        values = draw("normal", (0.0, self.scale))
        ranks = draw("bits", (), "sparse").argsort(dim=0, stable=True)
        return values.scatter(0, ranks[: self.zeros], 0.0)


def orthogonalized(normal: Tensor) -> Tensor:
    """The (semi-)orthogonal matrix that the QR decomposition makes of a matrix of N(0, 1), or of several, in float64.

    >>> orthogonalized(torch.tensor([[-2.0, 0.0], [0.0, 3.0]])).tolist()
    [[-1.0, 0.0], [0.0, 1.0]]
    """
    wide = normal.shape[-2] < normal.shape[-1]
    q, r = torch.linalg.qr((normal.mT if wide else normal).double())
    q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    matrix: Tensor = q.mT if wide else q
    return matrix


def _matrix(shape: Sequence[int]) -> tuple[int, int]:
    """A tensor's shape as (rows, everything else)."""
    return shape[0], math.prod(shape[1:])
