"""Which backend serves a device: a compiled one where there is one, torch operations everywhere else."""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType

import torch

logger = logging.getLogger(__name__)


def compiled(device: torch.device) -> ModuleType | None:
    """Give the compiled backend of a device, a module with ``fill_tasks`` and ``digest_tasks``, or None."""
    return _cpu() if device.type == "cpu" else None


@cache
def _cpu() -> ModuleType | None:
    """Load the CPU backend; say once where it cannot be had."""
    try:
        from initframe.stream import cpu  # noqa: PLC0415 (llvmlite is loaded when numbers are first drawn)
    except (ImportError, OSError) as problem:
        logger.warning(
            "llvmlite cannot be loaded (%s): the stream is drawn by torch operations, the same bits at about a "
            "thirtieth of the speed. Install llvmlite to draw it compiled.",
            problem,
        )
        return None
    return cpu
