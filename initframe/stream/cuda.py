"""The backend for CUDA: one launch of a Triton kernel fills all draws of a distribution and dtype."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from initframe.stream.distributions import kernel_constants
from initframe.stream.draws import Draw
from initframe.stream.floats import bits_of
from initframe.stream.formulas import signed64
from initframe.stream.philox import Key
from initframe.stream.rows import Rows, rows_of
from initframe.stream.triton_kernels import ALIGNED, BLOCKS, SHORT, TURNS, UNALIGNED, WARPS, WIDTH, fill_kernel

LARGE = 1 << 14
"""Elements from which an entry of its own for the end of a row costs less than unaligned stores."""
OPTIONS = {"enable_fp_fusion": False}
"""Options of the compiler, which would fuse multiplications and additions."""


class Launch(NamedTuple):
    """A launch: the kernel, the entry of each of its programs, their number."""

    kernel: Any
    programs: Tensor
    number: int


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
        fields: list[list[int]] = []
        counts: list[int] = []  # programs of each entry
        numbers: list[int] = []  # and of each launch
        groups = _groups(draws)
        for group in groups.values():
            before = 0
            for i, rows, form in group:
                share, count = _shared(rows, form)
                fields.append(_fields(draws[i], rows, [form, before, share]))
                counts.append(count)
                before += count
                self.entries.append(i)
            numbers.append(before)
        self.fields = self._copied(np.array(fields, dtype=np.int64))
        self.programs = self._copied(np.repeat(np.arange(len(counts), dtype=np.int32), counts))
        parts = torch.split(self.programs, numbers)
        self.launches = [
            Launch(fill_kernel(*kind), part, number) for kind, part, number in zip(groups, parts, numbers, strict=True)
        ]
        self.stream = self._stream()
        self.built = self.stream.record_event() if self.stream else None

    def execute(self, keys: Sequence[Key] | None = None) -> None:
        """Fill the memory of all draws.

        Args:
            keys: one for each draw, in their order; by default the draws' own.
        """
        if not self.launches:
            return
        keys = self.keys if keys is None else keys
        words = np.fromiter(chain.from_iterable([keys[i] for i in self.entries]), np.uint32, 4 * len(self.entries))
        keyed = self._copied(words.view(np.int64))
        stream = self._stream()
        if stream and self.built and stream != self.stream:
            # The table was copied on another stream, which must not give its memory away before this one has read it.
            stream.wait_event(self.built)
            self.fields.record_stream(stream)
            self.programs.record_stream(stream)
        with torch.cuda.device(self.device if self.device.type == "cuda" else -1):
            for kernel, programs, number in self.launches:
                kernel[number,](self.fields, keyed, programs, BLOCKS=BLOCKS, num_warps=WARPS, **OPTIONS)

    def _stream(self) -> torch.cuda.Stream | None:
        return torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None

    def _copied(self, array: NDArray[np.int32] | NDArray[np.int64]) -> Tensor:
        """Copy an array to the device."""
        here = torch.from_numpy(array)
        return here.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else here


def fill(draw: Draw) -> None:
    """Fill the memory of one draw."""
    Table([draw]).execute()


def _groups(draws: Sequence[Draw]) -> dict[tuple[str, str], list[tuple[int, Rows, int]]]:
    """Group the parts of draws, each with its form, by what one launch can fill: distribution and dtype."""
    groups: dict[tuple[str, str], list[tuple[int, Rows, int]]] = {}
    for i, draw in enumerate(draws):
        if draw.out.numel():
            dtype = str(draw.out.dtype).removeprefix("torch.")
            rows = rows_of(draw.out.detach(), draw.start, draw.stride)
            group = groups.setdefault((draw.distribution, dtype), [])
            group += [(i, part, form) for part, form in _parts(rows, draw.out.element_size())]
    return groups


def _parts(rows: Rows, size: int) -> Iterator[tuple[Rows, int]]:
    """Yield rows with their form; a long row that ends within a block is cut before it, so that the rest is aligned."""
    if rows.number > 1 and rows.length <= 2 * BLOCKS:  # half a tile or less: one row would waste most of it
        yield rows, SHORT
        return
    block = 4 * size
    begins = not (rows.address % block or rows.pitch % block or rows.start % 4 or rows.stride % 4)
    rest = rows.length % 4
    if begins and rest and rows.number == 1 and rows.length >= LARGE:
        whole = rows.length - rest
        yield rows._replace(length=whole), ALIGNED
        yield rows._replace(address=rows.address + whole * size, length=rest, start=rows.start + whole), UNALIGNED
    else:
        yield rows, ALIGNED if begins and not rest else UNALIGNED


def _shared(rows: Rows, form: int) -> tuple[int, int]:
    """Return how many rows a program fills if they are short, else how many programs fill a row; and all programs."""
    if form == SHORT:
        share = BLOCKS * TURNS // ((rows.length + 6) // 4)
        return share, -(-rows.number // share)
    share = -(-(rows.length + 3) // (4 * BLOCKS * TURNS))
    return share, rows.number * share


def _fields(draw: Draw, rows: Rows, first: list[int]) -> list[int]:
    """Return an entry of the table."""
    numbers = map(bits_of, kernel_constants(draw.distribution, draw.args).values())
    start, stride = signed64(rows.start), signed64(rows.stride)
    entry = [*first, rows.address, rows.number, rows.length, rows.pitch, start, stride, *numbers]
    return entry + [0] * (WIDTH - len(entry))
