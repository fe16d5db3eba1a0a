"""Lanes, the values that formulas compute with: they have operators, and a few operations by name.

A lane is an element of a torch tensor, of an LLVM vector or of a Triton block. Words are signed 32-bit
integers that wrap: ``>>`` copies the sign, and a logical shift is a shift and a mask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self, TypeAlias

Word: TypeAlias = Any
"""Lanes of int32 with the operators + - & | ^ << >> < >."""
Float: TypeAlias = Any
"""Lanes of float32 with the operators + - * < > and unary minus; Python floats mix in as constants."""
Wide: TypeAlias = Any
"""Lanes of 64 bits with the operators + * & ^ >>; for a key also a plain int."""
Mask: TypeAlias = Any
"""Lanes that are true or false."""
Pair: TypeAlias = tuple[Any, Any]


class Lanes(Protocol):
    """The operations for which Python has no operator."""

    def to_float(self, word: Word) -> Float:
        """Convert signed integers to the nearest float32, ties to even."""

    def bits(self, value: Float) -> Word:
        """Read float32 as the word of the same bits."""

    def from_bits(self, word: Word) -> Float:
        """Read words as the float32 of the same bits."""

    def sqrt(self, value: Float) -> Float:
        """Take the correctly rounded square root."""

    def select(self, mask: Mask, chosen: Float, other: Float) -> Float:
        """Choose lane by lane."""

    def select_rarely(self, mask: Mask, chosen: Float, other: Callable[[], Float]) -> Float:
        """Choose lane by lane; if every lane is chosen, which is likely, the other need not be computed."""


class Operand:
    """A value in code that is being generated: each operator writes an instruction."""

    def write(self, operation: str, *operands: Self | float) -> Self:
        """Write an instruction of one or two operands; return its result."""
        raise NotImplementedError

    def __add__(self, other: Self | float) -> Self:
        return self.write("add", self, other)

    def __sub__(self, other: Self | float) -> Self:
        return self.write("sub", self, other)

    def __rsub__(self, other: float) -> Self:
        return self.write("sub", other, self)

    def __mul__(self, other: Self | float) -> Self:
        return self.write("mul", self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Self:
        return self.write("neg", self)

    def __and__(self, other: Self | int) -> Self:
        return self.write("and", self, other)

    def __or__(self, other: Self | int) -> Self:
        return self.write("or", self, other)

    def __xor__(self, other: Self | int) -> Self:
        return self.write("xor", self, other)

    def __lshift__(self, count: int) -> Self:
        return self.write("shl", self, count)

    def __rshift__(self, count: int) -> Self:
        return self.write("shr", self, count)

    def __lt__(self, other: Self | float) -> Self:
        return self.write("lt", self, other)

    def __gt__(self, other: Self | float) -> Self:
        return self.write("gt", self, other)
