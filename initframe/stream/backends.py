"""Choose the backend of a device: compiled kernels if there are any, torch operations otherwise."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import TypeAlias

import torch

from initframe.stream import eager
from initframe.stream.draws import Draw
from initframe.stream.philox import key
from initframe.stream.threads import COMPILING

logger = logging.getLogger(__name__)

Probe: TypeAlias = tuple[str, tuple[float, ...]]
TRUNCATED: Probe = "truncated_normal", (0.0, 1.0, 3.0, 9.0)
"""Its values come from both branches of the formula. It uses all operations that a backend has but sign flips."""
NORMAL: Probe = "normal", (0.0, 1.0)


def compiled(device: torch.device) -> ModuleType | None:
    """Return the backend of a device that works in tasks: a module with ``prepare`` and ``digest_tasks``."""
    return _cpu() if device.type == "cpu" else None


def launched(device: torch.device) -> ModuleType | None:
    """Return the backend of a device that fills many draws by one launch: a module with ``Table``."""
    if device.type != "cuda" or torch.version.cuda is None or not torch.cuda.is_available():
        return None
    return _cuda(device)


def backend_of(device: torch.device | str) -> str:
    """Return the name of the backend that serves a device: ``llvm``, ``triton`` or ``eager``.

    >>> backend_of("meta")
    'eager'
    """
    device = torch.device(device)
    if compiled(device):
        return "llvm"
    return "triton" if launched(device) else "eager"


@cache
def _cpu() -> ModuleType | None:
    """Return the CPU backend; of several threads that draw first, one loads it, so its notice comes once."""
    with COMPILING:
        return _load_cpu()


@cache
def _load_cpu() -> ModuleType | None:
    """Load the CPU backend and compare a small draw with torch's operations; warn once if it cannot be used."""
    try:
        from initframe.stream import cpu  # noqa: PLC0415 (llvmlite is loaded when numbers are first drawn)

        fact = _difference(cpu.fill, torch.device("cpu"), TRUNCATED)  # a second kernel would take as long again
    except Exception as problem:  # noqa: BLE001 (a compiler may fail in any way)
        fact = f"{type(problem).__name__}: {problem}"
    if fact:
        logger.warning(
            "llvmlite cannot be used (%s): torch operations draw the stream, the same bits at about a sixtieth of the "
            "speed. Install llvmlite to draw with compiled kernels; it needs memory that may be executed.",
            fact,
        )
        return None
    return cpu


@cache
def _cuda(device: torch.device) -> ModuleType | None:
    """Return the CUDA backend, likewise."""
    with COMPILING:
        return _load_cuda(device)


@cache
def _load_cuda(device: torch.device) -> ModuleType | None:
    """Load the CUDA backend and compare small draws; warn once for a device if it cannot be used."""
    try:
        from initframe.stream import cuda  # noqa: PLC0415 (triton is loaded when numbers are first drawn)

        fact = _difference(cuda.fill, device, TRUNCATED, NORMAL)
    except Exception as problem:  # noqa: BLE001 (likewise)
        fact = f"{type(problem).__name__}: {problem}"
    if fact:
        logger.warning(
            "Triton cannot be used for %s (%s): torch operations draw the stream, the same bits at about a "
            "two-hundredth of the speed. Triton comes with torch, and needs a C compiler.",
            device,
            fact,
        )
        return None
    return cuda


def _difference(fill: Callable[[Draw], object], device: torch.device, *probes: Probe) -> str | None:
    """Draw the probes in two ways; return what differs."""
    for distribution, args in probes:
        drawn = torch.empty(2, 2, 16, dtype=torch.float32, device=device)
        for out, way in zip(drawn, (fill, eager.fill), strict=True):
            way(Draw(out, distribution, args, key("probe", 0), 0, 17))
        if not torch.equal(*drawn.view(torch.int32)):
            return f"its {distribution} has other bits than torch's operations give"
    return None
