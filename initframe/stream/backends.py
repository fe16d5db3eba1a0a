"""Which backend serves a device: compiled kernels where there are some, torch operations everywhere else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import TypeAlias

import torch

from initframe.stream import eager
from initframe.stream.compiling import COMPILING
from initframe.stream.draws import Draw
from initframe.stream.philox import key

logger = logging.getLogger(__name__)

Probe: TypeAlias = tuple[str, tuple[float, ...]]
TRUNCATED: Probe = "truncated_normal", (0.0, 1.0, 3.0, 9.0)
"""Values from both branches of the formula. It takes all operations that a backend has but a normal's on signs."""
NORMAL: Probe = "normal", (0.0, 1.0)


def compiled(device: torch.device) -> ModuleType | None:
    """Give the backend of a device that works in tasks, a module with ``fill_tasks`` and ``digest_tasks``."""
    if device.type != "cpu":
        return None
    with COMPILING:  # threads that draw first together are told once
        return _cpu()


def immediate(device: torch.device) -> ModuleType:
    """Give the backend that fills a device's memory where it is called, a module with ``fill``."""
    if device.type != "cuda" or torch.version.cuda is None or not torch.cuda.is_available():
        return eager
    with COMPILING:
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
    """Load the CPU backend and let it draw a little; say once where it cannot."""
    try:
        from initframe.stream import cpu  # noqa: PLC0415 (llvmlite is loaded when numbers are first drawn)

        fact = _difference(cpu.fill, torch.device("cpu"), TRUNCATED)  # a second kernel would take as long again
    except Exception as problem:  # noqa: BLE001 (a compiler that others ship, on a machine that is not ours)
        fact = f"{type(problem).__name__}: {problem}"
    if fact:
        logger.warning(
            "llvmlite cannot be used (%s): the stream is drawn by torch operations, the same bits at about a sixtieth "
            "of the speed. Install llvmlite to draw it compiled; it needs memory that may be executed.",
            fact,
        )
        return None
    return cpu


@cache
def _cuda(device: torch.device) -> ModuleType | None:
    """Load the CUDA backend and let it draw a little; say once for a device where it cannot."""
    try:
        from initframe.stream import cuda  # noqa: PLC0415 (triton is loaded when numbers are first drawn)

        fact = _difference(cuda.fill, device, TRUNCATED, NORMAL)
    except Exception as problem:  # noqa: BLE001 (likewise)
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


def _difference(fill: Callable[[Draw], object], device: torch.device, *probes: Probe) -> str | None:
    """Draw a little in two ways, and say whether the bits differ."""
    for law, args in probes:
        drawn = torch.empty(2, 2, 16, dtype=torch.float32, device=device)
        for out, way in zip(drawn, (fill, eager.fill), strict=True):
            way(Draw(out, law, args, key("probe", 0), 0, 17))
        if not torch.equal(*drawn.view(torch.int32)):
            return f"its {law} has other bits than that of torch's operations"
    return None
