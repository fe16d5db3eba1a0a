"""The dtypes of files: what is written here, and read back."""

from __future__ import annotations

import torch

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""By safetensors' names. Elements that share a byte, quantized ones and complex ones of other widths are not here: the
format has none, or packs them otherwise."""

NAMES = {dtype: name for name, dtype in DTYPES.items()}
"""The same, by torch's dtype."""


def is_readable(dtype: torch.dtype) -> bool:
    """Tell whether values convert to float32: complex ones do not, nor do those that share a byte.

    >>> is_readable(torch.float8_e5m2), is_readable(torch.complex64)
    (True, False)
    """
    if dtype.is_complex:
        return False
    try:
        torch.empty(1, dtype=dtype).float()
    except RuntimeError:
        return False
    return True
