"""Which backend serves a device: compiled kernels where there are some, torch operations everywhere else."""

from __future__ import annotations

import logging
import os
import threading
from functools import cache
from types import ModuleType

import torch

from initframe.stream import eager

OPT_IN = "INITFRAME_TRITON"
"""The environment variable whose value 1 draws in CUDA memory by Triton's kernels."""
logger = logging.getLogger(__name__)
_loading = threading.Lock()


def compiled(device: torch.device) -> ModuleType | None:
    """Give the backend of a device that works in tasks, a module with ``fill_tasks`` and ``digest_tasks``."""
    if device.type != "cpu":
        return None
    with _loading:  # threads that draw first together are told once
        return _cpu()


def immediate(device: torch.device) -> ModuleType:
    """Give the backend that fills a device's memory where it is called, a module with ``fill``."""
    if device.type == "cuda" and os.environ.get(OPT_IN) == "1":
        from initframe.stream import cuda  # noqa: PLC0415 (triton is loaded when it is asked for)

        return cuda
    return eager


def backend_of(device: torch.device | str) -> str:
    """Name the backend that serves a device, for reports: ``llvm``, ``triton`` or ``eager``.

    >>> backend_of("meta")
    'eager'
    """
    device = torch.device(device)
    if compiled(device):
        return "llvm"
    return "eager" if immediate(device) is eager else "triton"


@cache
def _cpu() -> ModuleType | None:
    """Load the CPU backend; say once where it cannot be had."""
    try:
        from initframe.stream import cpu  # noqa: PLC0415 (llvmlite is loaded when numbers are first drawn)
    except (ImportError, OSError) as problem:
        logger.warning(
            "llvmlite cannot be loaded (%s): the stream is drawn by torch operations, the same bits at about a "
            "sixtieth of the speed. Install llvmlite to draw it compiled.",
            problem,
        )
        return None
    return cpu
