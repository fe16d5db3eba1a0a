"""Huge pages for fresh memory: its first write then costs one page fault per 2 MiB, not per 4 KiB."""

from __future__ import annotations

import ctypes
import mmap
from functools import cache
from typing import Any

from torch import Tensor

WORTHWHILE = 4 << 20
"""Bytes from which memory holds a whole huge page, whatever its address."""


def prefer_huge_pages(tensor: Tensor) -> None:
    """Ask the system to use huge pages for the part of a tensor's memory that was never written.

    Draws on a CPU ask for themselves; other fills of fresh memory gain by it too. It is advice: no value depends on
    it, and nothing happens if the system has no such pages.

    Args:
        tensor: any tensor; small tensors and memory of other devices are left alone.

    >>> import torch
    >>> prefer_huge_pages(torch.empty(1 << 20))
    """
    if tensor.nbytes < WORTHWHILE or tensor.device.type != "cpu":
        return
    if advise := _madvise():
        span = 1 + sum((n - 1) * abs(step) for n, step in zip(tensor.shape, tensor.stride(), strict=True))
        begin = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        end = tensor.data_ptr() + span * tensor.element_size()
        advise(begin, end - begin, mmap.MADV_HUGEPAGE)


@cache
def _madvise() -> Any | None:
    """Return the system call, if there is one."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return madvise
