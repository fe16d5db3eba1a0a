"""Constructors that need their parameters' values: whether there is memory for them, and how it is given back."""

from __future__ import annotations

import os

from torch import Tensor, nn

from initframe.construction.record import Twins
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
                f"the constructor fails without memory ({type(error).__name__}: {error}). It was not tried with memory: "
                f"that takes {size / 2**30:.0f} GiB or more, and {most / 2**30:.0f} are allowed here.",
                "",
                "If it fails by itself, mend that; else trace a smaller configuration of the same model.",
            )
        ) from error


def without_memory(model: nn.Module) -> None:
    """Take the memory of a model's parameters away; one object stays one, and so does shared memory.

    Args:
        model: changed in place.
    """
    twins, recorder = Twins(), Recorder()
    for module in model.modules():
        for name, parameter in module._parameters.items():  # noqa: SLF001
            if isinstance(parameter, Tensor) and not parameter.is_meta and nn.Parameter in type(parameter).__mro__:
                module._parameters[name] = twins.of(parameter, recorder)  # noqa: SLF001
