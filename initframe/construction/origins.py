"""Which line of which file wrote a tensor."""

from __future__ import annotations

import copy
import os
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

import torch
from torch import Tensor

from initframe.fills.constructed import Origin

_TORCH = str(Path(torch.__file__).parent) + os.sep
_COPY = copy.__file__
_HERE = str(Path(__file__).parent) + os.sep


class SourceLine(NamedTuple):
    """A line that was running."""

    code: CodeType
    line: int

    def origin(self, overwritten: int = 0) -> Origin:
        """The line as data."""
        return Origin(relative(self.code.co_filename), self.line, self.code.co_qualname, overwritten)


@lru_cache(maxsize=4096)
def is_torch(file: str) -> bool:
    """Tell torch's own files, and those of this folder, and copy.py's, from everybody else's.

    >>> is_torch(torch.nn.__file__), is_torch("model.py")
    (True, False)
    """
    return file.startswith((_TORCH, _HERE, _COPY, "<frozen"))


def caller(frame: FrameType | None) -> SourceLine | None:
    """Find the innermost frame that is not torch's own, nor that of a function which stands in for one of torch's.

    Args:
        frame: where to begin.
    """
    found: FrameType | None = None
    while frame is not None and (is_torch(frame.f_code.co_filename) or _stands_in(frame.f_code)):
        if not is_torch(frame.f_code.co_filename):
            found = frame
        frame = frame.f_back
    found = frame or found
    return SourceLine(found.f_code, found.f_lineno) if found else None


@lru_cache(maxsize=4096)
def _stands_in(code: CodeType) -> bool:
    """Tell functions that libraries call like torch's own: transformers' ``normal_``, timm's ``trunc_normal_``.

    Whoever asks where a tensor is written wants the line that calls them.
    """
    name = code.co_name.lstrip("_")
    if not name.endswith("_") or code.co_qualname != code.co_name:
        return False
    return hasattr(torch.nn.init, name) or hasattr(Tensor, name)


@lru_cache(maxsize=4096)
def relative(file: str) -> str:
    """Name a file from its package on; a file of no package by its bare name.

    >>> relative(torch.nn.__file__)
    'torch/nn/__init__.py'
    """
    path = Path(file)
    top = path
    while (top.parent / "__init__.py").exists() and top.parent != top.parent.parent:
        top = top.parent
    return path.name if top is path else path.relative_to(top.parent).as_posix()
