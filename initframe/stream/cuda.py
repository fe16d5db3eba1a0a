"""The backend for CUDA: one launch of a Triton kernel fills all draws of a distribution and dtype."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initframe.stream.distributions import kernel_constants
from initframe.stream.draws import Draw
from initframe.stream.floats import bits_of
from initframe.stream.formulas import constant_names, signed64
from initframe.stream.philox import Key
from initframe.stream.rows import Rows, rows_of
from initframe.stream.triton_kernels import TURNS, WIDTH, fill_kernel

TILES = (512, 4), (32, 1)
"""Philox blocks of a tile and the warps that compute it: for most draws, and for those of many short rows."""
SMALL = 1 << 14
"""Elements below which an entry of its own for the end of a row would cost more than unaligned stores."""
OPTIONS = {"enable_fp_fusion": False}
"""Options of the compiler, which would fuse multiplications and additions."""


class Launch(NamedTuple):
    """A launch of a kernel: its tile, and the first and the number of its programs."""

    distribution: str
    dtype: str
    tile: tuple[int, int]
    first: int
    programs: int


class Table:
    """Draws in the memory of one device, looked up once: a table in that memory, and the launches that read it.

    Nothing here waits for the device: what the launches read is copied from pinned memory, in the order of its stream.

    Args:
        draws: what to draw, all on one CUDA device (in any memory under Triton's interpreter).

    Raises:
        StreamError: a distribution cannot be drawn with its arguments.
    """

    def __init__(self, draws: Sequence[Draw]) -> None:
        self.draws: Sequence[Draw] = draws  # the table has addresses only: this keeps their memory
        self.keys = [draw.key for draw in draws]
        self.device = draws[0].out.device
        self.entries: list[int] = []
        self.launches: list[Launch] = []
        fields: list[list[int]] = []
        counts: list[int] = []
        for (distribution, dtype, tile), group in _groups(draws).items():
            first, before = sum(counts), 0
            for i, rows, aligned in group:
                parts = -(-(rows.length + 3) // (4 * tile[0] * TURNS))
                fields.append(_fields(draws[i], rows, [aligned, before, parts]))
                counts.append(rows.number * parts)
                before += counts[-1]
                self.entries.append(i)
            self.launches.append(Launch(distribution, dtype, tile, first, before))
        self.fields = self._copied(np.array(fields, dtype=np.int64))
        self.programs = self._copied(np.repeat(np.arange(len(counts), dtype=np.int32), counts))

    def execute(self, keys: Sequence[Key] | None = None) -> None:
        """Fill the memory of all draws.

        Args:
            keys: one for each draw, in their order; by default the draws' own.
        """
        if not self.launches:
            return
        keys = self.keys if keys is None else keys
        words = np.array([keys[i] for i in self.entries], dtype=np.uint32)
        addresses = self._copied(words.view(np.int64))
        with torch.cuda.device(self.device if self.device.type == "cuda" else -1):
            for distribution, dtype, (blocks, warps), first, programs in self.launches:
                launch = fill_kernel(distribution, dtype)[programs,]
                launch(self.fields, addresses, self.programs[first:], BLOCKS=blocks, num_warps=warps, **OPTIONS)

    def _copied(self, array: NDArray[np.int32] | NDArray[np.int64]) -> Tensor:
        """Copy an array to the device."""
        here = torch.from_numpy(array)
        return here.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else here


def fill(draw: Draw) -> None:
    """Fill the memory of one draw."""
    Table([draw]).execute()


def _groups(draws: Sequence[Draw]) -> dict[tuple[str, str, tuple[int, int]], list[tuple[int, Rows, bool]]]:
    """Group the parts of draws by what one launch can fill: distribution, dtype and tile."""
    groups: dict[tuple[str, str, tuple[int, int]], list[tuple[int, Rows, bool]]] = {}
    for i, draw in enumerate(draws):
        if draw.out.numel():
            dtype = str(draw.out.dtype).removeprefix("torch.")
            rows = rows_of(draw.out.detach(), draw.start, draw.stride)
            group = groups.setdefault((draw.distribution, dtype, _tile(rows)), [])
            group += [(i, part, aligned) for part, aligned in _parts(rows, draw.out.element_size())]
    return groups


def _tile(rows: Rows) -> tuple[int, int]:
    """Choose the tile: long ones would waste most of what they compute on many short rows."""
    return TILES[1] if rows.number > 1 and rows.length <= 4 * TILES[1][0] else TILES[0]


def _parts(rows: Rows, size: int) -> Iterator[tuple[Rows, bool]]:
    """Yield rows, and whether they are aligned: each consists of whole blocks, and memory of multiples of their size.

    A long row that ends within a block is cut before it, so that the rest is aligned.
    """
    if rows.number == 1:
        rows = rows._replace(pitch=0, stride=0)
    block = 4 * size
    begins = not (rows.address % block or rows.pitch % block or rows.start % 4 or rows.stride % 4)
    rest = rows.length % 4
    if begins and rest and rows.number == 1 and rows.length >= SMALL:
        whole = rows.length - rest
        yield rows._replace(length=whole), True
        yield rows._replace(address=rows.address + whole * size, length=rest, start=rows.start + whole), False
    else:
        yield rows, begins and not rest


def _fields(draw: Draw, rows: Rows, first: list[int]) -> list[int]:
    """Return an entry of the table."""
    constants = kernel_constants(draw.distribution, draw.args)
    numbers = [bits_of(constants[name]) for name in constant_names(draw.distribution)]
    start, stride = signed64(rows.start), signed64(rows.stride)
    entry = [*first, rows.address, rows.length, rows.pitch, start, stride, *numbers]
    return entry + [0] * (WIDTH - len(entry))
