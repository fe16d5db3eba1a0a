"""Constructors that need their parameters' values: whether there is memory for them, and how it is given back."""

from __future__ import annotations

import os

from torch import nn

from initframe.construction.record import Twins, can_be_deferred, is_plain
from initframe.construction.recorder import Recorder
from initframe.errors import Problem, ResolveError

SHARE = 0.125
"""Of the machine's memory, what a constructor may take."""


def demand_memory(twins: Twins, error: Exception) -> None:
    """Refuse to run a constructor with memory if what it had registered before it failed is too much of it.

    Args:
        twins: what was registered without memory.
        error: what it failed by.

    Raises:
        ResolveError: there is too little memory.
    """
    if not hasattr(os, "sysconf"):
        return
    size = sum(base.tensor.numel() * base.tensor.itemsize for base in twins.memory.values())
    most = SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > most:
        raise ResolveError(
            Problem(
                "trace",
                f"the constructor fails without memory ({type(error).__name__}: {error}). It was not tried with it: "
                f"that takes {size / 2**30:.0f} GiB or more, and {most / 2**30:.0f} are allowed here.",
                "",
                "If it fails by itself, mend that; else trace a smaller configuration of the same model.",
            )
        ) from error


def without_memory(model: nn.Module) -> None:
    """Take the memory of a model's parameters away; one object stays one, and so does shared memory.

    Parameters that share a buffer's memory keep it, as the buffer does.

    Args:
        model: changed in place.
    """
    twins, recorder = Twins(), Recorder()
    for buffer in model.buffers():
        if is_plain(buffer):
            twins.buffer(buffer, recorder)
    for module in model.modules():
        for name, parameter in module._parameters.items():  # noqa: SLF001
            if can_be_deferred(parameter) and not twins.is_of_buffer(parameter):  # type: ignore[arg-type]
                module._parameters[name] = twins.of(parameter, recorder)  # type: ignore[arg-type]  # noqa: SLF001
