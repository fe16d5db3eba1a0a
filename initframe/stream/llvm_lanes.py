"""LLVM's vectors as lanes: operators and operations write instructions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llvmlite import ir

from initframe.stream.lanes import Operand

I16, I32, I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
F32, F64 = ir.FloatType(), ir.DoubleType()


INTEGER = {
    "add": "add", "sub": "sub", "mul": "mul", "and": "and_", "or": "or_", "xor": "xor", "shl": "shl", "shr": "ashr",
}  # fmt: skip
FLOATING = {"add": "fadd", "sub": "fsub", "mul": "fmul", "neg": "fneg"}
COMPARISONS = {"lt": "<", "gt": ">"}


class Vector(Operand):
    """A vector in a function that is being generated."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder, self.value = builder, value

    def write(self, operation: str, *operands: Vector | float) -> Vector:
        """Write LLVM's instruction for the lanes' type."""
        kind, b = self.value.type, self.builder
        values = [v.value if isinstance(v, Vector) else Splat(kind, v) for v in operands]
        floating = kind.element == F32
        if operation in COMPARISONS:
            compare = b.fcmp_ordered if floating else b.icmp_signed
            return Vector(b, compare(COMPARISONS[operation], *values))
        name = (FLOATING if floating else INTEGER)[operation]
        # The upper halves of 64 bits are garbage, and few processors can shift them arithmetically.
        name = "lshr" if name == "ashr" and kind.element == I64 else name
        return Vector(b, getattr(b, name)(*values))


class VectorLanes:
    """The operations that have no operator."""

    def __init__(self, builder: ir.IRBuilder, width: int) -> None:
        self.builder, self.width = builder, width

    def splat(self, scalar: ir.Value) -> Vector:
        """Repeat a scalar in every lane."""
        undefined = ir.Constant(ir.VectorType(scalar.type, self.width), ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, self.width), None)
        return Vector(self.builder, self.builder.shuffle_vector(first, undefined, zeros))

    def count_from(self, scalar: ir.Value) -> Vector:
        """Return a scalar and the numbers that follow it, one per lane."""
        numbers = ir.Constant(ir.VectorType(scalar.type, self.width), list(range(self.width)))
        return self.splat(scalar) + Vector(self.builder, numbers)

    def to_float(self, word: Vector) -> Vector:
        """Convert to the nearest float32."""
        return self._convert("sitofp", word, F32)

    def bits(self, value: Vector) -> Vector:
        """Read as i32."""
        return self._convert("bitcast", value, I32)

    def from_bits(self, word: Vector) -> Vector:
        """Read as float32."""
        return self._convert("bitcast", word, F32)

    def weave(self, even: Vector, odd: Vector) -> Vector:
        """Alternate the lower halves of two 64-bit vectors of half the lanes: even's first, then odd's."""
        a, b = (self._convert("bitcast", wide, I32) for wide in (even, odd))
        return self._shuffle(a, b, [k + j * self.width for k in range(0, self.width, 2) for j in (0, 1)])

    def widen(self, value: Vector) -> Vector:
        """Convert float32 to float64."""
        return self._convert("fpext", value, F64)

    def _convert(self, name: str, vector: Vector, element: ir.Type) -> Vector:
        return Vector(self.builder, getattr(self.builder, name)(vector.value, ir.VectorType(element, self.width)))

    def sqrt(self, value: Vector) -> Vector:
        """Take the square root; LLVM's is correctly rounded."""
        kind, name = value.value.type, f"llvm.sqrt.v{self.width}f32"
        module = self.builder.module
        root = module.globals.get(name) or ir.Function(module, ir.FunctionType(kind, [kind]), name)
        return Vector(self.builder, self.builder.call(root, [value.value]))

    def select(self, mask: Vector, chosen: Vector | float, other: Vector | float) -> Vector:
        """Choose lane by lane; one of the two may be a number."""
        kind = next(v.value.type for v in (chosen, other) if isinstance(v, Vector))
        values = [v.value if isinstance(v, Vector) else Splat(kind, v) for v in (chosen, other)]
        return Vector(self.builder, self.builder.select(mask.value, *values))

    def select_rarely(self, mask: Vector, chosen: Vector, other: Callable[[], Vector]) -> Vector:
        """Choose lane by lane; skip the other if all lanes are chosen."""
        b, lanes = self.builder, ir.IntType(self.width)
        some = b.icmp_unsigned("!=", b.bitcast(mask.value, lanes), lanes(-1))
        before = b.block
        with b.if_then(some, likely=False):
            mixed = self.select(mask, chosen, other()).value
            after = b.block
        result = b.phi(chosen.value.type)
        result.add_incoming(chosen.value, before)
        result.add_incoming(mixed, after)
        return Vector(b, result)

    def total(self, value: Vector) -> ir.Value:
        """Add the lanes up."""
        element, name = value.value.type.element, f"llvm.vector.reduce.add.v{self.width}i64"
        module = self.builder.module
        add = module.globals.get(name) or ir.Function(module, ir.FunctionType(element, [value.value.type]), name)
        return self.builder.call(add, [value.value])

    def interleave(self, a: Vector, b: Vector) -> list[Vector]:
        """Alternate the lanes of two vectors; return the lower half of the result, then the upper."""
        order = [lane for k in range(self.width) for lane in (k, k + self.width)]
        return [self._shuffle(a, b, order[: self.width]), self._shuffle(a, b, order[self.width :])]

    def _shuffle(self, a: Vector, b: Vector, order: list[int]) -> Vector:
        indices = ir.Constant(ir.VectorType(I32, self.width), order)
        return Vector(self.builder, self.builder.shuffle_vector(a.value, b.value, indices))


class Splat(ir.Constant):  # type: ignore[misc]  # llvmlite has no types
    """A number in every lane. It is formatted once, because kernels have hundreds of long vectors."""

    def __init__(self, kind: ir.VectorType, number: float) -> None:
        super().__init__(kind, None)
        self.lane = str(ir.Constant(kind.element, number))

    def get_reference(self) -> str:
        """Return the constant in LLVM's syntax."""
        return f"<{', '.join([self.lane] * self.type.count)}>"


@contextmanager
def counted(builder: ir.IRBuilder, count: ir.Value) -> Iterator[ir.Value]:
    """Write a loop whose body runs ``count`` times; the context is its counter."""
    head, body, done = (builder.append_basic_block(name) for name in ("head", "body", "done"))
    before = builder.block
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(count.type)
    index.add_incoming(count.type(0), before)
    builder.cbranch(builder.icmp_unsigned("<", index, count), body, done)
    builder.position_at_end(body)
    yield index
    index.add_incoming(builder.add(index, count.type(1)), builder.block)
    builder.branch(head)
    builder.position_at_end(done)
