"""Keep torch.compile and torch.func out of code that writes to a model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

_DISABLED: dict[Callable[..., Any], Callable[..., Any]] = {}
"""Functions as torch.compiler.disable wraps them. A dictionary, because dynamo warns of functools.cache."""


def uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function run as it is, also inside torch.compile and inside torch.func's transforms.

    Dynamo crashes while it traces writes to views. Inside ``grad``, new tensors have no memory that could be written
    to. Nothing is imported: without ``torch._dynamo``, nothing is compiled.

    >>> @uncompiled
    ... def twice(x):
    ...     return 2 * x
    >>> twice(3)
    6
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if "torch._dynamo" not in sys.modules:
            is_plain = torch._C._functorch.peek_interpreter_stack() is None  # noqa: SLF001
            return function(*args, **kwargs) if is_plain else untransformed(*args, **kwargs)
        if untransformed not in _DISABLED:
            _DISABLED[untransformed] = torch.compiler.disable(untransformed)  # type: ignore[no-untyped-call]
        return _DISABLED[untransformed](*args, **kwargs)  # type: ignore[no-any-return]

    @wraps(function)
    def untransformed(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch._C._functorch.peek_interpreter_stack() is None:  # noqa: SLF001
            return function(*args, **kwargs)
        from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack  # noqa: PLC0415  # it is loaded

        with temporarily_clear_interpreter_stack():
            return function(*args, **kwargs)

    return call
