"""The CUDA backend's kernels as Triton source: one fills all draws of a table."""

from __future__ import annotations

import linecache
from functools import cache
from typing import Any

import triton
import triton.language as tl

from initframe.stream.formulas import FORMULAS, constant_names, to_bfloat16, to_float16
from initframe.stream.philox import philox
from initframe.stream.triton_lanes import Source, Traced

FIELDS = "form", "before", "share", "address", "number", "length", "pitch", "start", "stride"
"""An entry of the table: its form; the programs of earlier entries; the programs of a row, or of short rows the rows of
a program; then as in `Rows`. The distribution's constants follow."""
UNALIGNED, ALIGNED, SHORT = 0, 1, 2
"""Forms: rows whose elements are stored one by one; rows of whole blocks, stored a block at a time; short rows, of
which a program fills several."""
WIDTH = 16
"""Words of 64 bits of an entry: `FIELDS` and at most seven constants."""
KEY = "k0", "k1", "s0", "s1"
BLOCKS, WARPS = 512, 4
"""Philox blocks of a tile, and the warps that compute it."""
TURNS = 6
"""Tiles of a program, one after the other: what does not depend on the tile is computed once for them. Fewer, longer
programs, as many as run at a time, were slower."""
SIZES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8, "int32": 4}
GIVEN = "given_"
"""Prefix of a distribution's constants in a kernel: no other name has it."""


def fill_source(distribution: str, dtype: str) -> str:
    """Write the source of the kernel that fills the rows of all draws of a distribution and dtype.

    A program finds the number of its entry in ``programs``, and the entry in ``table``. It fills `TURNS` tiles of one
    row of memory, or of several short rows. A row's first tile begins at a Philox block, whatever its alignment in
    memory. All sizes are 64 bits wide but those within a program.

    Args:
        distribution: a name in `DISTRIBUTIONS`.
        dtype: torch's name of the element type.

    Returns:
        A function ``kernel`` in Triton's language. It takes the table, the key of each entry (two words of 64 bits)
        and the entry of each program.
    """
    stored = "int16" if dtype in ("bfloat16", "float16") else dtype
    constants = [GIVEN + name for name in constant_names(distribution)]
    loaded = "tl.load(field + {})".format
    numbers = [f"{name} = {loaded(len(FIELDS) + i)}.to(tl.int32)" for i, name in enumerate(constants)]
    computed, values = _values_source(distribution, dtype)
    v0, v1, v2, v3 = values
    pointer = f".to(tl.pointer_type(tl.{stored}))"
    tile = [
        f"for tile in range(part * {TURNS}, tl.minimum((part + 1) * {TURNS}, tiles)):",
        "    begin = tl.cast(tile, tl.int64) * BLOCKS",
        f"    index = ((first >> 2) & {(1 << 62) - 1}) + begin + tl.arange(0, BLOCKS)",
        *(f"    {line}" for line in computed),
        f"    values = tl.interleave(tl.interleave({v0}, {v2}), tl.interleave({v1}, {v3}))",
        "    column, offset = begin * 4, tl.arange(0, 4 * BLOCKS)",
    ]
    body = [
        "program = tl.program_id(0)",
        "entry = tl.load(programs + program).to(tl.int64)",
        f"field = table + entry * {WIDTH}",
        *(f"{name} = {loaded(i)}" for i, name in enumerate(FIELDS)),
        *(f"{line}.to(tl.float32, bitcast=True)" for line in numbers),
        "k, s = tl.load(keys + entry * 2), tl.load(keys + entry * 2 + 1)",
        "k0, k1 = k.to(tl.uint32), (k >> 32).to(tl.uint32)",
        "s0, s1 = s.to(tl.uint32), (s >> 32).to(tl.uint32)",
        # Of short rows, these numbers mean nothing; computed here, they cost the compiler fewer registers.
        "row, part = (program - before) // share, ((program - before) % share).to(tl.int32)",
        "first = start + row * stride",
        "lead = first & 3",
        "tiles = ((lead + length + 4 * BLOCKS - 1) // (4 * BLOCKS)).to(tl.int32)",
        f"out = (address + row * pitch){pointer}",
        # The loop is written for each form, because the compiler distributes values over threads for the store.
        f"if form == {ALIGNED}:",
        *(f"    {line}" for line in tile),
        "        end = length // 4 * 4 - column",  # the compiler learns of the factor four by seeing it
        "        mask = offset < tl.minimum(end, 4 * BLOCKS).to(tl.int32)",
        f"        tl.store(tl.multiple_of(out, {4 * SIZES[dtype]}) + column + offset, values, mask=mask)",
        f"elif form == {UNALIGNED}:",
        *(f"    {line}" for line in tile),
        "        mask = (offset >= lead - column) & (offset < lead + length - column)",
        "        tl.store(out - lead + column + offset, values, mask=mask)",
        "else:",
        "    wide, top = ((length + 6) // 4).to(tl.int32), (program - before) * share",  # blocks that a row may touch
        "    count = tl.minimum(share, number - top).to(tl.int32) * wide",
        "    for tile in range(0, (count + BLOCKS // 4 - 1) // (BLOCKS // 4)):",  # short tiles leave more registers
        "        slot = tile * (BLOCKS // 4) + tl.arange(0, BLOCKS // 4)",
        "        line = slot // wide",
        "        block, rows = slot - line * wide, top + line",
        "        firsts = start + rows * stride",
        f"        index = ((firsts >> 2) & {(1 << 62) - 1}) + block",
        *(f"        {line}" for line in computed),
        "        place = block * 4 - (firsts & 3).to(tl.int32)",
        f"        outs = (address + rows * pitch){pointer} + place",
        *(
            f"        tl.store(outs + {j}, {value}, mask=(slot < count) & (place >= {-j}) & (place < length - {j}))"
            for j, value in enumerate(values)
        ),
    ]
    return "\n    ".join(["def kernel(table, keys, programs, BLOCKS: tl.constexpr):", *body]) + "\n"


def _values_source(distribution: str, dtype: str) -> tuple[list[str], tuple[str, ...]]:
    """Write the lines that compute values from the indices of blocks; name those of a block's four elements."""
    source = Source()
    given = "index", "(index >> 32)", *KEY[2:], *KEY[:2]
    c0, c1, c2, c3, k0, k1 = (source.line(f"{word}.to(tl.uint32)") for word in given)
    block = philox((c0, c1, c2, c3), (k0, k1), source.multiply)
    words = [source.line(f"{word.name}.to(tl.int32)") for word in block]
    constants = {name: Traced(source, GIVEN + name) for name in constant_names(distribution)}
    pairs = [FORMULAS[distribution](source, (words[j], words[j + 1]), **constants) for j in (0, 2)]
    names = tuple(_element(source, value, dtype).name for pair in pairs for value in pair)
    return source.lines, names


def _element(source: Source, value: Traced, dtype: str) -> Traced:
    """Convert to what is stored: 16-bit floats as integers, rounded by the formulas."""
    if dtype in ("bfloat16", "float16"):
        rounded = to_bfloat16 if dtype == "bfloat16" else to_float16
        return source.line(f"{rounded(source, value).name}.to(tl.int16)")
    return source.line(f"{value.name}.to(tl.{dtype})")


@cache
def fill_kernel(distribution: str, dtype: str) -> Any:
    """Give `fill_source` to Triton, which reads the source again by the name of its file: linecache knows it."""
    source = fill_source(distribution, dtype)
    name = f"<initframe stream {distribution} {dtype}>"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    space: dict[str, Any] = {"tl": tl, "__name__": __name__}
    exec(compile(source, name, "exec"), space)  # noqa: S102 (the source is that of our own formulas)
    return triton.jit(space["kernel"], do_not_specialize_on_alignment=["table", "keys", "programs"])
