"""float32 on the host, without arrays: rounding, bits, neighbours."""

from __future__ import annotations

import ctypes
import struct

F32_MAX = 3.4028234663852886e38
_INT, _FLOAT = struct.Struct("<i"), struct.Struct("<f")
_FLOATS = [struct.Struct(f"{count}f") for count in range(16)]


def f32(x: float) -> float:
    """Round to float32, ties to even; a value that is too large becomes infinite.

    >>> f32(0.1)
    0.10000000149011612
    """
    return ctypes.c_float(x).value


def f32s(*values: float) -> tuple[float, ...]:
    """Round several numbers to float32, ties to even, faster than one by one.

    Raises:
        OverflowError: one is finite and too large.

    >>> f32s(0.1, 0.5)
    (0.10000000149011612, 0.5)
    """
    floats = _FLOATS[len(values)]
    return floats.unpack(floats.pack(*values))


def bits_of(x: float) -> int:
    """Return the bits of a float32 as an integer in [0, 2**32).

    >>> hex(bits_of(-1.5))
    '0xbfc00000'
    """
    return int.from_bytes(struct.pack("<f", x), "little")


def hex_bits(x: float) -> str:
    """Return the bits of a float32 as 8 hexadecimal digits.

    >>> hex_bits(-1.5)
    'bfc00000'
    """
    return f"{bits_of(x):08x}"


def below(x: float) -> float:
    """Return the largest float32 below a float32.

    >>> below(1.0), below(0.0)
    (0.9999999403953552, -1.401298464324817e-45)
    """
    (bits,) = _INT.unpack(_FLOAT.pack(x))
    bits = -0x7FFFFFFF if x == 0 else bits - 1 if x > 0 else bits + 1
    return float(_FLOAT.unpack(_INT.pack(bits))[0])
