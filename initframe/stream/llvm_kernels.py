"""The CPU backend's kernels as LLVM modules: one fills rows, one digests them.

A kernel takes one argument, the address of its words (64 bits each) and numbers (float32), one after the other. To hand
over each by itself would take ctypes longer than a small tensor takes to be filled. It reads them and calls its body.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from llvmlite import ir

from initframe.stream.formulas import FORMULAS, constant_names, mix, to_bfloat16, to_float16
from initframe.stream.llvm_lanes import F32, F64, I16, I32, I64, Vector, VectorLanes, counted
from initframe.stream.philox import philox
from initframe.stream.rows import Rows

Arguments: TypeAlias = dict[str, ir.Value]

NAME, BODY = "kernel", "body"
KEY = "k0", "k1", "s0", "s1"
ELEMENTS: dict[str, ir.Type] = {"float32": F32, "bfloat16": I16, "float16": I16, "float64": F64, "int32": I32}
LINE = 64
"""Bytes of a cache line."""


def fill_module(distribution: str, dtype: str, width: int) -> ir.Module:
    """Write the kernel that fills the rows of a draw.

    Its words are the fields of `Rows`, ``past_cache`` (1 for memory that is too large for the caches) and `KEY`; its
    numbers are the distribution's constants. All indices are between the same two multiples of 2^34, so the counters'
    second word is the same for all. A row is filled in tiles of ``2 * width`` elements. Each begins at a Philox block,
    whatever its alignment in memory; a tile that reaches beyond the row goes through the stack.

    Args:
        distribution: a name in `DISTRIBUTIONS`.
        dtype: torch's name of the element type.
        width: float32 lanes of a vector; a power of two.

    Returns:
        A module whose function is `NAME`.
    """
    b, given = _function(ir.VoidType(), ["past_cache", *KEY], dict.fromkeys(constant_names(distribution), F32))
    element, tile = ELEMENTS[dtype], 2 * width
    size = I64(_size(element))
    values = _values(b, distribution, dtype, given, width)
    write = _tile_writer(b, element, tile, given["past_cache"])
    with counted(b, given["number"]) as r:
        first = b.add(given["start"], b.mul(r, given["stride"]))
        block, lead = b.lshr(first, I64(2)), b.and_(first, I64(3))
        end = b.add(lead, given["length"])
        row = b.sub(b.add(given["address"], b.mul(r, given["pitch"])), b.mul(lead, size))
        with counted(b, b.udiv(b.add(end, I64(tile - 1)), I64(tile))) as t:
            vectors = values(b.add(block, b.mul(t, I64(tile // 4))))
            done = b.mul(t, I64(tile))
            low = b.select(b.icmp_unsigned("==", t, I64(0)), lead, I64(0))
            write(vectors, b.add(row, b.mul(done, size)), low, _smaller(b, b.sub(end, done), I64(tile)))
    b.fence("seq_cst")
    b.ret_void()
    return b.module


def digest_module(size: int, width: int) -> ir.Module:
    """Write the kernel that digests rows of elements of 1, 2, 4 or 8 bytes; its words are the fields of `Rows`.

    Args:
        size: bytes of an element.
        width: 64-bit lanes of a vector; a power of two.

    Returns:
        A module whose function, `NAME`, returns the sum.
    """
    b, given = _function(I64, [], {})
    total = b.alloca(I64)
    b.store(I64(0), total)
    with counted(b, given["number"]) as r:
        index = b.add(given["start"], b.mul(r, given["stride"]))
        row = b.add(given["address"], b.mul(r, given["pitch"]))
        whole = b.and_(given["length"], I64(-width))
        bulk = _digested(b, row, index, b.udiv(whole, I64(width)), size, width)
        row, index = b.add(row, b.mul(whole, I64(size))), b.add(index, whole)
        rest = _digested(b, row, index, b.sub(given["length"], whole), size, 1)
        b.store(b.add(b.load(total), b.add(bulk, rest)), total)
    b.ret(b.load(total))
    return b.module


def _function(result: ir.Type, words: list[str], numbers: dict[str, ir.Type]) -> tuple[ir.IRBuilder, Arguments]:
    """Begin a module with a function that takes `Rows`, more words, and numbers; `NAME` reads them and calls it."""
    kinds = dict.fromkeys([*Rows._fields, *words], I64) | numbers
    module = ir.Module(NAME)
    body = ir.Function(module, ir.FunctionType(result, kinds.values()), BODY)
    body.attributes.add("noinline")  # behind what reads the words, the truncated normal takes 13 % longer
    entry = ir.Function(module, ir.FunctionType(result, [I64]), NAME)
    b, (address,), read = ir.IRBuilder(entry.append_basic_block()), entry.args, []
    for kind in kinds.values():
        read.append(b.load(b.inttoptr(address, kind.as_pointer()), align=1))
        address = b.add(address, I64(8 if kind is I64 else 4))
    found = b.call(body, read)
    b.ret_void() if result == ir.VoidType() else b.ret(found)
    return ir.IRBuilder(body.append_basic_block()), dict(zip(kinds, body.args, strict=True))


def _values(
    b: ir.IRBuilder, distribution: str, dtype: str, given: Arguments, width: int
) -> Callable[[ir.Value], list[Vector]]:
    """Return the function that writes a tile's values, in the order of memory, from the number of its first block."""
    lanes, wide = VectorLanes(b, width), VectorLanes(b, width // 2)
    second = wide.splat(b.lshr(given["start"], I64(34)))
    k0, k1, s0, s1 = (wide.splat(given[name]) for name in KEY)
    numbers = {name: lanes.splat(given[name]) for name in constant_names(distribution)}

    def values(block: ir.Value) -> list[Vector]:
        w0, w1, w2, w3 = philox((wide.count_from(block), second, s0, s1), (k0, k1))
        pair = FORMULAS[distribution](lanes, (lanes.weave(w0, w2), lanes.weave(w1, w3)), **numbers)
        return _in_order(lanes, pair, dtype)

    return values


def _in_order(lanes: VectorLanes, pair: tuple[Vector, Vector], dtype: str) -> list[Vector]:
    """Convert a pair's values to the element type and bring them into the order of memory."""
    if dtype in ("bfloat16", "float16"):
        rounded = to_bfloat16 if dtype == "bfloat16" else to_float16
        even, odd = (rounded(lanes, value) for value in pair)
        return [even | (odd << 16)]
    ordered = lanes.interleave(*pair)
    return [lanes.widen(vector) for vector in ordered] if dtype == "float64" else ordered


def _tile_writer(
    b: ir.IRBuilder, element: ir.Type, tile: int, past_cache: ir.Value
) -> Callable[[list[Vector], ir.Value, ir.Value, ir.Value], None]:
    """Return the function that stores a tile's elements from ``low`` to ``high``; a part goes through the stack."""
    scratch = b.ptrtoint(b.alloca(ir.ArrayType(element, tile)), I64)

    def write(vectors: list[Vector], target: ir.Value, low: ir.Value, high: ir.Value) -> None:
        count = b.sub(high, low)
        with b.if_else(b.icmp_unsigned("==", count, I64(tile))) as (whole, part):
            with whole:
                _store_tile(b, target, vectors, element, past_cache)
            with part:
                _store(b, scratch, vectors, align=_size(element))
                skipped = b.mul(low, I64(_size(element)))
                _copy(b, b.add(target, skipped), b.add(scratch, skipped), count, element)

    return write


def _store_tile(
    b: ir.IRBuilder, address: ir.Value, vectors: list[Vector], element: ir.Type, past_cache: ir.Value
) -> None:
    """Store a whole tile, past the caches if ``past_cache`` is 1 and memory is aligned: only offset 0 is below 1."""
    with b.if_else(b.icmp_unsigned("<", b.and_(address, I64(LINE - 1)), past_cache)) as (past, through):
        with past:
            _store(b, address, vectors, align=LINE, past_cache=True)
        with through:
            _store(b, address, vectors, align=_size(element))


def _store(b: ir.IRBuilder, address: ir.Value, vectors: list[Vector], *, align: int, past_cache: bool = False) -> None:
    """Store vectors one after the other."""
    pointer = b.inttoptr(address, vectors[0].value.type.as_pointer())
    for j, vector in enumerate(vectors):
        store = b.store(vector.value, b.gep(pointer, [I64(j)]), align=align)
        if past_cache:
            store.set_metadata("nontemporal", b.module.add_metadata([I32(1)]))


def _copy(b: ir.IRBuilder, target: ir.Value, source: ir.Value, count: ir.Value, element: ir.Type) -> None:
    """Copy elements one by one."""
    to, origin = (b.inttoptr(address, element.as_pointer()) for address in (target, source))
    with counted(b, count) as j:
        b.store(b.load(b.gep(origin, [j])), b.gep(to, [j]))


def _digested(b: ir.IRBuilder, address: ir.Value, index: ir.Value, count: ir.Value, size: int, width: int) -> ir.Value:
    """Sum the mixed elements of ``count`` vectors; the first element has this index."""
    lanes, element = VectorLanes(b, width), ir.IntType(8 * size)
    kind = ir.VectorType(I64, width)
    with b.goto_entry_block():
        total = b.alloca(kind)
    b.store(ir.Constant(kind, None), total)
    pointer = b.inttoptr(address, ir.VectorType(element, width).as_pointer())
    with counted(b, count) as t:
        loaded = b.load(b.gep(pointer, [t]), align=size)
        bits = b.zext(loaded, kind) if size < 8 else loaded
        numbers = lanes.count_from(b.add(index, b.mul(t, I64(width))))
        b.store(b.add(b.load(total), mix(numbers, Vector(b, bits)).value), total)
    return lanes.total(Vector(b, b.load(total)))


def _smaller(b: ir.IRBuilder, one: ir.Value, other: ir.Value) -> ir.Value:
    return b.select(b.icmp_unsigned("<", one, other), one, other)


def _size(element: ir.Type) -> int:
    return {I16: 2, I32: 4, F32: 4, F64: 8}[element]
