"""The backend for CUDA: the formulas are traced into the source of a Triton kernel."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from initframe.stream.distributions import kernel_constants
from initframe.stream.draws import Draw
from initframe.stream.formulas import FORMULAS, constant_names, signed64, to_bfloat16, to_float16
from initframe.stream.lanes import Operand
from initframe.stream.philox import philox

POSITION = "length", "pitch", "start", "stride"
"""The position of rows: elements of a row, elements from one row to the next; then as in `Draw`."""
KEY = "k0", "k1", "s0", "s1"
TILES = (512, 4), (32, 1)
"""Philox blocks of a tile and the warps that compute it: for long rows, and for short ones."""
GIVEN = "given_"
"""Prefix of a distribution's constants in a kernel: no other name has it."""
TURNS = 6
"""Tiles of a program, one after the other: what does not depend on the tile is computed once for them. Fewer, longer
programs, as many as run at a time, were slower."""
SMALL = 1 << 16
"""Elements below which one more launch would cost more than unaligned stores."""
OPTIONS = {"enable_fp_fusion": False}
"""Options of the compiler, which would fuse multiplications and additions."""

FORMS = {
    "add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "neg": "-{}", "and": "{} & {}", "or": "{} | {}",
    "xor": "{} ^ {}", "shl": "{} << {}", "shr": "{} >> {}", "lt": "{} < {}", "gt": "{} > {}",
}  # fmt: skip


class Traced(Operand):
    """A value in the kernel that is being generated."""

    def __init__(self, source: Source, name: str) -> None:
        self.source, self.name = source, name

    def write(self, operation: str, *operands: Traced | float) -> Traced:
        """Write a line with Triton's operator."""
        return self.source.line(FORMS[operation].format(*map(_spelled, operands)))


class Source:
    """The lines of a kernel's body, and the operations that have no operator, in Triton's language."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, expression: str) -> Traced:
        """Add a line; return its value."""
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {expression}")
        return Traced(self, name)

    def multiply(self, word: Traced, factor: int) -> tuple[Traced, Traced]:
        """Multiply words of 32 bits in 64: the compiler makes one instruction of it."""
        product = self.line(f"{word.name}.to(tl.uint64) * {factor}")
        return self.line(f"({product.name} >> 32).to(tl.uint32)"), self.line(f"{product.name}.to(tl.uint32)")

    def to_float(self, word: Traced) -> Traced:
        """Convert to the nearest float32."""
        return self.line(f"{word.name}.to(tl.float32)")

    def bits(self, value: Traced) -> Traced:
        """Read as int32."""
        return self.line(f"{value.name}.to(tl.int32, bitcast=True)")

    def from_bits(self, word: Traced) -> Traced:
        """Read as float32."""
        return self.line(f"{word.name}.to(tl.float32, bitcast=True)")

    def sqrt(self, value: Traced) -> Traced:
        """Take the correctly rounded root."""
        return self.line(f"tl.sqrt_rn({value.name})")

    def select(self, mask: Traced, chosen: Traced | float, other: Traced | float) -> Traced:
        """Choose element by element."""
        return self.line(f"tl.where({mask.name}, {_spelled(chosen)}, {_spelled(other)})")

    def select_rarely(self, mask: Traced, chosen: Traced, other: Callable[[], Traced]) -> Traced:
        """Choose element by element; both are computed."""
        return self.select(mask, chosen, other())


def _spelled(value: Traced | float) -> str:
    return value.name if isinstance(value, Traced) else repr(value)


def kernel_source(distribution: str, dtype: str, *, aligned: bool) -> str:
    """Write the source of the kernel that fills a draw's rows with a distribution.

    A program fills ``turns`` tiles of a row. They begin at a Philox block, wherever that lies in memory.

    Args:
        distribution: a name in `DISTRIBUTIONS`.
        dtype: torch's name of the element type.
        aligned: every row begins at a block, and length and pitch are multiples of a block's four elements, so
            that a block is stored at once.

    Returns:
        A function ``kernel`` in Triton's language.
    """
    if aligned:  # the compiler learns of the factor four by seeing it
        edges = "end, row_start = length // 4 * 4, row * (pitch // 4) * 4"
        mask = "offset < tl.minimum(end - column, 4 * BLOCKS).to(tl.int32)"
    else:
        edges = "lead, end, row_start = first & 3, (first & 3) + length, row * pitch - (first & 3)"
        mask = "(offset >= lead - column) & (offset < end - column)"
    body = [
        "program = tl.program_id(0)",
        "row, part = (program // parts).to(tl.int64), program % parts",
        "first = start + row * stride",
        edges,
        "tiles = ((end + 4 * BLOCKS - 1) // (4 * BLOCKS)).to(tl.int32)",
        "for tile in range(part * turns, tl.minimum((part + 1) * turns, tiles)):",
        "    begin = tl.cast(tile, tl.int64) * BLOCKS",
        f"    index = ((first >> 2) & {(1 << 62) - 1}) + begin + tl.arange(0, BLOCKS)",
        *(f"    {line}" for line in _values_source(distribution, dtype)),
        "    column, offset = begin * 4, tl.arange(0, 4 * BLOCKS)",
        f"    tl.store(out + (row_start + column) + offset, values, mask={mask})",
    ]
    integers = ["parts: tl.int32", "turns: tl.int32", *(f"{name}: tl.int64" for name in POSITION)]
    words = [f"{word}: tl.uint32" for word in KEY]
    numbers = [GIVEN + name for name in constant_names(distribution)]
    arguments = ", ".join(["out", *integers, *words, *numbers, "BLOCKS: tl.constexpr"])
    return "\n    ".join([f"def kernel({arguments}):", *body]) + "\n"


def _values_source(distribution: str, dtype: str) -> list[str]:
    """Write the lines that compute a tile's values, in the order of memory, from the indices of its blocks."""
    source = Source()
    given = "index", "(index >> 32)", *KEY[2:], *KEY[:2]
    c0, c1, c2, c3, k0, k1 = (source.line(f"{word}.to(tl.uint32)") for word in given)
    block = philox((c0, c1, c2, c3), (k0, k1), source.multiply)
    words = [source.line(f"{word.name}.to(tl.int32)") for word in block]
    constants = {name: Traced(source, GIVEN + name) for name in constant_names(distribution)}
    pairs = [FORMULAS[distribution](source, (words[j], words[j + 1]), **constants) for j in (0, 2)]
    v0, v1, v2, v3 = (_element(source, value, dtype).name for pair in pairs for value in pair)
    return [*source.lines, f"values = tl.interleave(tl.interleave({v0}, {v2}), tl.interleave({v1}, {v3}))"]


def _element(source: Source, value: Traced, dtype: str) -> Traced:
    """Convert to what is stored: 16-bit floats as integers, rounded by the formulas."""
    if dtype in ("bfloat16", "float16"):
        rounded = to_bfloat16 if dtype == "bfloat16" else to_float16
        return source.line(f"{rounded(source, value).name}.to(tl.int16)")
    return source.line(f"{value.name}.to(tl.{dtype})")


@cache
def compiled_kernel(distribution: str, dtype: str, *, aligned: bool) -> Any:
    """Give the kernel to Triton, which reads the source again by the name of its file: linecache knows it."""
    source = kernel_source(distribution, dtype, aligned=aligned)
    name = f"<initframe stream {distribution} {dtype}{' aligned' if aligned else ''}>"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    space: dict[str, Any] = {"tl": tl, "__name__": __name__}
    exec(compile(source, name, "exec"), space)  # noqa: S102 (the source is that of our own formulas)
    return triton.jit(space["kernel"], do_not_specialize=["parts", "turns", *POSITION, *KEY])


def fill(draw: Draw, on_done: Callable[[int], None] | None = None) -> None:
    """Fill a draw's memory by a launch, or by two where a few elements more make up whole blocks.

    Args:
        draw: the job, in CUDA memory (in any memory under Triton's interpreter).
        on_done: told the number of elements.
    """
    if not draw.out.numel():
        return
    with torch.cuda.device(draw.out.get_device()):
        for part in _parts(_merged(draw)):
            _launch(part)
    if on_done:
        on_done(draw.out.numel())


def _merged(draw: Draw) -> Draw:
    """Rows that follow each other everywhere are one, and where there is one its distance to the next is nothing."""
    out = draw.out.detach()
    if out.is_contiguous() and draw.stride == out.shape[1]:
        out = out.view(1, -1)
    return draw.part(out, 0, draw.stride if len(out) > 1 else 0)


def _parts(draw: Draw) -> Iterator[Draw]:
    """Cut the end that makes up no whole block from a long row, so that the rest can be aligned."""
    rows, length = draw.out.shape
    rest = length % 4
    if rows > 1 or draw.start % 4 or not rest or length < SMALL:
        yield draw
    else:
        yield draw.part(draw.out[:, :-rest], 0, 0)
        yield draw.part(draw.out[:, -rest:], length - rest, 0)


def _launch(draw: Draw) -> None:
    """Fill rows by one launch."""
    dtype, constants = str(draw.out.dtype).removeprefix("torch."), kernel_constants(draw.distribution, draw.args)
    rows, length = draw.out.shape
    pitch = draw.out.stride(0) if rows > 1 else 0
    out: Tensor = draw.out.view(torch.int16) if draw.out.element_size() == 2 else draw.out
    aligned = not any(number % 4 for number in (length, pitch, draw.start, draw.stride))
    blocks, warps = next((tile for tile in reversed(TILES) if length <= 4 * tile[0]), TILES[0])
    parts = triton.cdiv(length + 3, 4 * blocks * TURNS)
    position = parts, TURNS, length, pitch, signed64(draw.start), signed64(draw.stride)
    numbers = [constants[name] for name in constant_names(draw.distribution)]
    launch = compiled_kernel(draw.distribution, dtype, aligned=aligned)[rows * parts,]
    launch(out, *position, *draw.key, *numbers, BLOCKS=blocks, num_warps=warps, **OPTIONS)
