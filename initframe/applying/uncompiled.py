"""Keep torch.compile out of code that writes to a model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function run as it is where torch.compile meets it: dynamo crashes while it traces writes to views.

    Nothing is imported: without ``torch._dynamo``, nothing is compiled.

    >>> @uncompiled
    ... def twice(x):
    ...     return 2 * x
    >>> twice(3)
    6
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        run = _disabled(function) if "torch._dynamo" in sys.modules else function
        return run(*args, **kwargs)

    return call


@cache
def _disabled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function once by torch.compiler.disable."""
    import torch.compiler  # noqa: PLC0415  # it is loaded

    disabled: Callable[..., Any] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return disabled
