"""The forward hooks by which torch computed tensors before there were parametrizations, and still prunes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from initframe.model.computed import (
    LENGTH,
    SPECTRAL,
    Copies,
    Parametrization,
    demand_finite,
    itself_computed,
    leading_vectors,
    own_tensor,
)
from initframe.model.memory import whole


def hooked(module: nn.Module) -> dict[str, Parametrization]:
    """Find the tensors that a module's own hooks recompute before each forward pass.

    Knows ``torch.nn.utils.weight_norm`` and ``spectral_norm``, and ``torch.nn.utils.prune``.

    Args:
        module: one module; its children are not looked at.

    Returns:
        By the logical name (``weight``): how it is computed.

    >>> list(hooked(torch.nn.utils.spectral_norm(nn.Linear(2, 3)))["weight"].originals)
    ['weight_orig']
    """
    found = {}
    for name, hook, kind in _hooks(module):
        suffixes, read = _KNOWN[kind]
        found[name] = _read(module, hook, name, [name + suffix for suffix in suffixes], read)
    return found


def shown_by_hooks(module: nn.Module) -> list[str]:
    """Name the tensors that a module's own hooks recompute before each forward pass, and nothing more of them.

    >>> shown_by_hooks(torch.nn.utils.spectral_norm(nn.Linear(2, 3)))
    ['weight']
    """
    return [name for name, _, _ in _hooks(module)]


def _hooks(module: nn.Module) -> Iterator[tuple[str, Any, Any]]:
    """Give the hooks of a module that compute a tensor, with its name and their kind."""
    for hook in module._forward_pre_hooks.values():  # noqa: SLF001
        for kind in _KNOWN:
            if isinstance(hook, kind):
                name: str = getattr(hook, "_tensor_name" if kind is BasePruningMethod else "name")
                if own_tensor(module, name) is None:  # else the hook was left behind
                    yield name, hook, kind


def _read(module: nn.Module, hook: Any, name: str, keys: Sequence[str], read: Reader) -> Parametrization:
    """Read a hook; a tensor that the module no longer holds itself is computed by another hook or a parametrization."""
    held = {key: tensor for key in keys if (tensor := own_tensor(module, key)) is not None}
    taken = tuple(key for key in keys if key not in held)
    if not taken:
        return read(module, hook, name, tuple(held.values()))
    shown = vars(module).get(name, next(iter(held.values()), torch.empty(0)))
    return Parametrization(
        owner=hook,
        originals=held,
        read=lambda: shown,
        invert=lambda _: (),
        shape=tuple(shown.shape),
        dtype=shown.dtype,
        state=taken,
        blocked=itself_computed(taken),
    )


def _weight_norm(module: nn.Module, hook: WeightNorm, name: str, own: Sequence[Tensor]) -> Parametrization:
    """Read a tensor that the older weight_norm recomputes before each forward pass."""
    length, direction = own

    def invert(value: Tensor) -> Copies:
        news = torch.norm_except_dim(value, 2, hook.dim)
        shown = _shown(module, name, torch._weight_norm(value, news, hook.dim))  # noqa: SLF001
        return (*shown, (length, news), (direction, value))

    return Parametrization(
        owner=hook,
        originals={f"{name}_g": length, f"{name}_v": direction},
        read=torch.no_grad()(lambda: hook.compute_weight(_gathered(module, name, "_g", "_v"))),
        invert=torch.no_grad()(invert),
        shape=tuple(direction.shape),
        dtype=direction.dtype,
        exact=True,
        linear=True,
        notes=(LENGTH,),
    )


def _spectral_norm(module: nn.Module, hook: SpectralNorm, name: str, own: Sequence[Tensor]) -> Parametrization:
    """Read a tensor that the older spectral_norm recomputes before each forward pass."""
    original, *estimates = own

    def invert(value: Tensor) -> Copies:
        matrix = hook.reshape_weight_to_matrix(value)
        u, v = leading_vectors(matrix, estimates[0].dtype)
        shown = _shown(module, name, value / (u @ matrix @ v))
        return (*shown, (original, value), *zip(estimates, (u, v), strict=True))

    return Parametrization(
        owner=hook,
        originals={f"{name}_orig": original},
        read=torch.no_grad()(
            lambda: hook.compute_weight(_gathered(module, name, "_orig", "_u", "_v"), do_power_iteration=False)
        ),
        invert=torch.no_grad()(invert),
        shape=tuple(original.shape),
        dtype=original.dtype,
        state=(f"{name}_u", f"{name}_v"),
        renewed=tuple(estimates),
        notes=(SPECTRAL,),
    )


def _pruning(module: nn.Module, hook: BasePruningMethod, name: str, own: Sequence[Tensor]) -> Parametrization:
    """Read a tensor that pruning recomputes before each forward pass."""
    original, mask = own

    def invert(value: Tensor) -> Copies:
        return (*_shown(module, name, value * mask.to(value.dtype)), (original, value))

    return Parametrization(
        owner=hook,
        originals={f"{name}_orig": original},
        read=torch.no_grad()(lambda: hook.apply_mask(_gathered(module, name, "_orig", "_mask"))),  # type: ignore[no-untyped-call]
        invert=torch.no_grad()(invert),
        shape=tuple(original.shape),
        dtype=original.dtype,
        state=(f"{name}_mask",),
        linear=True,
        notes=("pruned: values are hidden where the mask is zero",),
    )


def _gathered(module: nn.Module, name: str, *suffixes: str) -> Any:
    """Stand in for a module before a hook that reads it: the same tensors, put together where they are sharded."""
    return SimpleNamespace(**{name + suffix: whole(getattr(module, name + suffix)) for suffix in suffixes})


def _shown(module: nn.Module, name: str, value: Tensor) -> Copies:
    """Pair the plain attribute that shows the value until the next forward pass; first, as it may share memory."""
    demand_finite(value)
    shown = vars(module).get(name)
    if isinstance(shown, Tensor) and shown.shape == value.shape and not shown.is_inference():
        return ((shown, value),)
    return ()


Reader = Callable[[nn.Module, Any, str, Sequence[Tensor]], Parametrization]
_KNOWN: dict[type, tuple[tuple[str, ...], Reader]] = {
    WeightNorm: (("_g", "_v"), _weight_norm),
    SpectralNorm: (("_orig", "_u", "_v"), _spectral_norm),
    BasePruningMethod: (("_orig", "_mask"), _pruning),
}
"""The classes of hooks, what they append to a tensor's name for what they compute it from, and how they are read."""
