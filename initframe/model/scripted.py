"""Modules of TorchScript, read as the modules that they were made of."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


def is_scripted(module: nn.Module) -> bool:
    """Tell whether a module was scripted, traced or loaded by ``torch.jit``.

    >>> is_scripted(nn.Linear(2, 3))
    False
    """
    return isinstance(module, torch.jit.ScriptModule)


def python_class(module: nn.Module) -> type:
    """Give the class that a module was made of; its own, unless it is scripted and the class is loaded here.

    >>> python_class(nn.Linear(2, 3)) is nn.Linear
    True
    """
    own: type = type(module)
    if not is_scripted(module):
        return own
    parts = [part for part in _qualified_name(module).split(".") if not part.startswith("___torch_mangle_")]
    cls = getattr(sys.modules.get(".".join(parts[1:-1]) or "__main__"), parts[-1], None)  # the first is __torch__
    return cls if isinstance(cls, type) and issubclass(cls, nn.Module) else own


def attributes(module: nn.Module) -> Mapping[str, Any]:
    """Give the attributes of a module, tensors and modules excepted where it is scripted.

    >>> attributes(nn.Linear(2, 3))["in_features"]
    2
    """
    if not is_scripted(module):
        return vars(module)
    how: Any = vars(module).get("_concrete_type")
    if how is None:
        return {}
    return {name: getattr(module, name, None) for name in (*how.get_constants(), *how.get_attributes())}


def _qualified_name(module: Any) -> str:
    """Give a scripted module's type, as ``__torch__.torch.nn.modules.linear.Linear``."""
    inner = vars(module).get("_actual_script_module", module)  # a traced module wraps it
    name: str = inner._c._type().qualified_name()  # noqa: SLF001
    return name
