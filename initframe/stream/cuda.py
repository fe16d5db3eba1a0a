"""The backend for CUDA by Triton: the formulas, traced into the source of a kernel.

Opt-in (docs/stream.md): its bits were checked by Triton's interpreter, not yet on a GPU.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl

from initframe.stream.draws import Draw
from initframe.stream.formulas import FORMULAS, constant_names, to_bfloat16, to_float16
from initframe.stream.lanes import Operand
from initframe.stream.laws import kernel_constants
from initframe.stream.philox import philox

PLACE = "tiles", "length", "pitch", "start", "stride"
"""Where rows lie: programs per row, elements of a row, elements from one to the next; then as in `Draw`."""
KEY = "k0", "k1", "s0", "s1"
BLOCKS = 256
"""Philox blocks per program: four times as many elements."""
WIDE = 1 << 40
"""Added to words of 32 bits, so that Triton passes all of them as 64 bits; upper halves are garbage anyway."""


FORMS = {
    "add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "neg": "-{}", "and": "{} & {}", "or": "{} | {}",
    "xor": "{} ^ {}", "shl": "{} << {}", "shr": "{} >> {}", "lt": "{} < {}", "gt": "{} > {}",
}  # fmt: skip


class Traced(Operand):
    """A value of the kernel that is being written."""

    def __init__(self, source: Source, name: str) -> None:
        self.source, self.name = source, name

    def write(self, operation: str, *operands: Traced | float) -> Traced:
        """Write a line with Triton's operator."""
        return self.source.line(FORMS[operation].format(*map(_spelled, operands)))


class Source:
    """The lines of a kernel's body, and the operations without an operator, as Triton writes them."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, expression: str) -> Traced:
        """Add a line; gives its value."""
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {expression}")
        return Traced(self, name)

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


def kernel_source(law: str, dtype: str) -> str:
    """Write the source of the kernel that fills a draw's rows with a law.

    Args:
        law: a name in `LAWS`.
        dtype: torch's name of the element type.

    Returns:
        A function ``kernel`` in Triton's language.
    """
    source, names = Source(), constant_names(law)
    counter, second, k0, k1, s0, s1 = (Traced(source, name) for name in ("counter", "second", *KEY))
    words = [source.line(f"{w.name}.to(tl.int32)") for w in philox((counter, second, s0, s1), (k0, k1))]
    constants = {name: Traced(source, name) for name in names}
    pairs = [FORMULAS[law](source, (words[j], words[j + 1]), **constants) for j in (0, 2)]
    v0, v1, v2, v3 = (_element(source, value, dtype).name for pair in pairs for value in pair)
    body = [
        "program = tl.program_id(0).to(tl.int64)",
        "row, tile = program // tiles, program % tiles",
        "first = start + row * stride",
        "lead, begin = first & 3, tile * (4 * BLOCKS)",
        "counter = (first >> 2) + tile * BLOCKS + tl.arange(0, BLOCKS)",
        "second = counter >> 32",
        *source.lines,
        f"values = tl.interleave(tl.interleave({v0}, {v2}), tl.interleave({v1}, {v3}))",
        "column = begin + tl.arange(0, 4 * BLOCKS) - lead",
        "tl.store(out + row * pitch + column, values, mask=(column >= 0) & (column < length))",
    ]
    arguments = ", ".join(["out", *PLACE, *KEY, *names])
    return "\n    ".join([f"def kernel({arguments}, BLOCKS: tl.constexpr):", *body]) + "\n"


def _element(source: Source, value: Traced, dtype: str) -> Traced:
    """Convert to what is stored: 16-bit floats as integers, rounded by the formulas."""
    if dtype in ("bfloat16", "float16"):
        rounded = to_bfloat16 if dtype == "bfloat16" else to_float16
        return source.line(f"{rounded(source, value).name}.to(tl.int16)")
    return source.line(f"{value.name}.to(tl.{dtype})")


@cache
def compiled_kernel(law: str, dtype: str) -> Any:
    """Give the kernel to Triton, which reads the source again by the name of its file: linecache knows it."""
    source, name = kernel_source(law, dtype), f"<initframe stream {law} {dtype}>"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    space: dict[str, Any] = {"tl": tl, "__name__": __name__}
    exec(compile(source, name, "exec"), space)  # noqa: S102 (the source is that of our own formulas)
    return triton.jit(space["kernel"], do_not_specialize=[*PLACE, *KEY, *constant_names(law)])


def fill(draw: Draw, on_done: Callable[[int], None] | None = None) -> None:
    """Fill a draw's memory by one launch.

    Args:
        draw: the job, in CUDA memory (in any memory under Triton's interpreter).
        on_done: told the number of elements.
    """
    rows, length = draw.out.shape
    if not rows * length:
        return
    dtype, constants = str(draw.out.dtype).removeprefix("torch."), kernel_constants(draw.law, draw.args)
    out = draw.out.detach()
    out = out.view(torch.int16) if out.element_size() == 2 else out
    tiles = triton.cdiv(length + 3, 4 * BLOCKS)
    words = tiles, length, out.stride(0), draw.start, draw.stride, *(WIDE | word for word in draw.key)
    numbers = [constants[name] for name in constant_names(draw.law)]
    with torch.cuda.device(out.get_device()):
        launch = compiled_kernel(draw.law, dtype)[rows * tiles,]
        launch(out, *words, *numbers, BLOCKS=BLOCKS, enable_fp_fusion=False)
    if on_done:
        on_done(rows * length)
