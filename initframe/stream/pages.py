"""Fresh memory in huge pages: its first writing costs a page fault per 2 MiB, not per 4 KiB."""

from __future__ import annotations

import ctypes
import mmap
from functools import cache
from typing import Any

from torch import Tensor

WORTHWHILE = 4 << 20
"""Bytes from which memory holds a huge page wherever it begins."""


def prefer_huge_pages(tensor: Tensor) -> None:
    """Ask the system to back a tensor's memory, as far as it is still untouched, by huge pages.

    What is drawn on a CPU asks by itself; other fills of fresh memory gain by it too. It is advice: values
    never depend on it, and where a system has no such pages or the memory is not its own, nothing happens.

    Args:
        tensor: any tensor; other memory than a CPU's and small tensors are left alone.

    >>> import torch
    >>> prefer_huge_pages(torch.empty(1 << 20))
    """
    if tensor.device.type != "cpu" or tensor.numel() * tensor.element_size() < WORTHWHILE:
        return
    if advise := _madvise():
        span = 1 + sum((n - 1) * abs(step) for n, step in zip(tensor.shape, tensor.stride(), strict=True))
        begin = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        end = tensor.data_ptr() + span * tensor.element_size()
        advise(begin, end - begin, mmap.MADV_HUGEPAGE)


@cache
def _madvise() -> Any | None:
    """Find the system call, where there is one."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return madvise
