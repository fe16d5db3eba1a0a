"""Which backend serves a device: compiled kernels where there are some, torch operations everywhere else."""

from __future__ import annotations

import logging
import threading
from functools import cache
from types import ModuleType

import torch

from initframe.stream import eager
from initframe.stream.draws import Draw
from initframe.stream.philox import key

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
    if device.type != "cuda" or torch.version.cuda is None or not torch.cuda.is_available():
        return eager
    with _loading:
        return _cuda(device) or eager


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


@cache
def _cuda(device: torch.device) -> ModuleType | None:
    """Load the CUDA backend and let it draw a little; say once for a device where it cannot."""
    words = torch.empty(2, 1, 8, dtype=torch.int32, device=device)
    try:
        from initframe.stream import cuda  # noqa: PLC0415 (triton is loaded when numbers are first drawn)

        for out, fill in zip(words, (cuda.fill, eager.fill), strict=True):
            fill(Draw(out, "bits", (), key("probe", 0)))
        fact = None if torch.equal(words[0], words[1]) else "it gives other bits than torch's operations"
    except Exception as problem:  # noqa: BLE001 (a compiler that others ship, on a machine that is not ours)
        fact = f"{type(problem).__name__}: {problem}"
    if fact:
        logger.warning(
            "Triton cannot be used for %s (%s): the stream is drawn by torch operations, the same bits at about a "
            "two-hundredth of the speed. Triton comes with torch, and needs a C compiler.",
            device,
            fact,
        )
        return None
    return cuda
