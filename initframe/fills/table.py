"""Tables: fills that draw nothing, because a formula or a constructor says every value."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from initframe.fills.fill import Shape
from initframe.fills.whole import Fixed


@dataclass(frozen=True)
class Rows(Fixed):
    """Every row along the last dimension is ``row``.

    >>> Rows((2, 3), (1.0, 2.0, 3.0)).build(None).tolist()
    [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    """

    row: tuple[float, ...]

    def misshapen(self, shape: Shape) -> str | None:
        """Say why the shape is another one, or rows have another length; ``None`` if all is well."""
        if shape and shape[-1] != len(self.row):
            return f"a row has {len(self.row)} numbers; the tensor's last dimension is {shape[-1]}."
        return super().misshapen(shape)

    @property
    def reach(self) -> float:
        """The largest absolute value of the row."""
        return max(map(abs, self.row), default=0.0)

    def values(self) -> Tensor:
        """Repeat the row."""
        return torch.tensor(self.row, dtype=torch.float64, device="cpu").expand(self.shape)

    def __str__(self) -> str:
        return f"rows({self.row[0]:.4g} … {self.row[-1]:.4g})" if self.row else "rows()"


@dataclass(frozen=True)
class BilinearKernel(Fixed):
    """A transposed convolution that interpolates, channel by channel (Long, Shelhamer & Darrell 2015, FCN).

    Each direction of size k is 1 − |i − c|/f with f = (k+1)//2 and c = f − 1 for odd k, f − ½ for even.

    >>> BilinearKernel((1, 1, 4)).build(None).tolist()
    [[[0.25, 0.75, 0.75, 0.25]]]
    """

    layout: ClassVar[bool] = True
    dims: ClassVar[Sequence[int]] = (3, 4, 5)

    reach = 1.0

    def values(self) -> Tensor:
        """Return the kernel, on the diagonal of channels of each group."""
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
    ω = 10000^(−4j/width). ``prefix`` positions in front are zero. ``grid`` gives rows and columns if the grid is no
    square; a grid of one number is a line, whose vectors are sin before cos with ω = 10000^(−2j/width).

    >>> SineCosine((1, 4, 4)).build(None)[0, 0].tolist()
    [0.0, 1.0, 0.0, 1.0]
    """

    prefix: int = 0
    grid: tuple[int, ...] = field(default=(), repr=False)

    reach = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the fill as plain data; a square is not said."""
        return super().to_dict() | ({"grid": list(self.grid)} if self.grid else {})

    def values(self) -> Tensor:
        """Compute the table, in float64."""
        tokens, width = self.shape[-2:]
        sizes = self.grid or (math.isqrt(tokens - self.prefix),) * 2
        count = width // (2 * len(sizes))
        *along, waves = (torch.arange(size, dtype=torch.float64, device="cpu") for size in (*sizes, count))
        coordinates = [t.reshape(-1) for t in torch.meshgrid(*along, indexing="ij")]
        omega = 10000.0 ** (-waves / count)
        angles = [coordinate[:, None] * omega for coordinate in reversed(coordinates)]
        table = torch.cat([half for angle in angles for half in (angle.sin(), angle.cos())], dim=1)
        return torch.cat([table.new_zeros(self.prefix, width), table]).reshape(self.shape)


@dataclass(frozen=True)
class Sinusoids(Fixed):
    """Positions of a sequence as sines and cosines of p·ω, ω = base^(−j/n) (Vaswani et al. 2017).

    ``interleaved`` has sin and cos in turn, ``halves`` all sines before all cosines. n is half the width, or one less
    if ``closed``: then the last ω is 1/base exactly.

    >>> Sinusoids((2, 4)).build(None)[1].tolist()[:2] == [math.sin(1), math.cos(1)]
    True
    """

    interleaved: bool = True
    base: float = 10000.0
    closed: bool = False

    reach = 1.0

    def values(self) -> Tensor:
        """Compute the table, in float64; of an odd width, the sines are one more."""
        length, width = self.shape[-2:]
        count, sines = width // 2, width - width // 2
        positions, waves = (torch.arange(size, dtype=torch.float64, device="cpu") for size in (length, sines))
        steps = max(count - 1, 1) if self.closed else width / 2
        angles = positions[:, None] * self.base ** (-waves / steps)
        sin, cos = angles.sin(), angles[:, :count].cos()
        if not self.interleaved:
            return torch.cat([sin, cos], dim=1).reshape(self.shape)
        table = angles.new_empty(length, width)
        table[:, 0::2], table[:, 1::2] = sin, cos
        return table.reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Table(Fixed):
    """A table of values, known by its digest; made by :func:`table`.

    >>> table(torch.tensor([1.0, 2.0])) == table(torch.tensor([1.0, 2.0]))
    True
    """

    digest: str
    held: Tensor = field(repr=False)

    def values(self) -> Tensor:
        """The table."""
        return self.held

    def to_dict(self) -> dict[str, Any]:
        """Return the fill as plain data, which has no values: only the constructor makes them again.

        >>> table(torch.zeros(2)).to_dict()["needs"]
        'constructor'
        """
        return {**super().to_dict(), "needs": "constructor"}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and (self.shape, self.digest) == (other.shape, other.digest)

    def __hash__(self) -> int:
        return hash((self.shape, self.digest))

    def __str__(self) -> str:
        return f"table({self.digest[:12]})"


def table(values: Tensor) -> Table:
    """Keep values as a fill.

    Args:
        values: any floating-point tensor; it is copied.

    Returns:
        The fill; its digest is the SHA-256 of its values in float32 (float64 if that is what they are), little-endian.
    """
    wide = torch.float64 if values.dtype == torch.float64 else torch.float32
    held = values.detach().to("cpu", wide, copy=True).contiguous()
    return Table(tuple(held.shape), hashlib.sha256(_bytes(held)).hexdigest(), held)


def _bytes(held: Tensor) -> memoryview:
    """The memory of a dense tensor on the CPU, without a copy."""
    import ctypes  # noqa: PLC0415 - torch gives memory without numpy in no other way

    return memoryview((ctypes.c_char * held.nbytes).from_address(held.data_ptr())).cast("B")
