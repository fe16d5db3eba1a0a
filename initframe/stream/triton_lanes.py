"""Lines of a Triton kernel as lanes: operators and operations write source code."""

from __future__ import annotations

from collections.abc import Callable

from initframe.stream.lanes import Operand

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
