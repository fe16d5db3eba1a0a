"""The forward hooks by which torch computed tensors before there were parametrizations, and still prunes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from initframe.model.computed import LENGTH, SPECTRAL, Parametrization, Writes, demand_finite, leading_vectors


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
    for hook in module._forward_pre_hooks.values():  # noqa: SLF001
        if isinstance(hook, WeightNorm):
            found[hook.name] = _weight_norm(module, hook)
        elif isinstance(hook, SpectralNorm):
            found[hook.name] = _spectral_norm(module, hook)
        elif isinstance(hook, BasePruningMethod):
            found[hook._tensor_name] = _pruning(module, hook)  # noqa: SLF001
    return found


def _weight_norm(module: nn.Module, hook: WeightNorm) -> Parametrization:
    """Read a tensor that the older weight_norm recomputes before each forward pass."""
    length, direction = f"{hook.name}_g", f"{hook.name}_v"
    originals = {length: getattr(module, length), direction: getattr(module, direction)}

    def invert(value: Tensor) -> Writes:
        news = (torch.norm_except_dim(value, 2, hook.dim), value)
        shown = _shown(module, hook.name, torch._weight_norm(value, news[0], hook.dim))  # noqa: SLF001
        return (*shown, *zip(originals.values(), news, strict=True))

    return Parametrization(
        originals=originals,
        read=torch.no_grad()(lambda: hook.compute_weight(module)),
        invert=torch.no_grad()(invert),
        shape=tuple(originals[direction].shape),
        dtype=originals[direction].dtype,
        notes=(LENGTH,),
    )


def _spectral_norm(module: nn.Module, hook: SpectralNorm) -> Parametrization:
    """Read a tensor that the older spectral_norm recomputes before each forward pass."""
    name, original = hook.name, getattr(module, f"{hook.name}_orig")
    estimates = getattr(module, f"{name}_u"), getattr(module, f"{name}_v")

    def invert(value: Tensor) -> Writes:
        matrix = hook.reshape_weight_to_matrix(value)
        u, v = leading_vectors(matrix, estimates[0].dtype)
        shown = _shown(module, name, value / (u @ matrix @ v))
        return (*shown, (original, value), *zip(estimates, (u, v), strict=True))

    return _around(name, original, invert, SPECTRAL, lambda: hook.compute_weight(module, do_power_iteration=False))


def _pruning(module: nn.Module, hook: BasePruningMethod) -> Parametrization:
    """Read a tensor that pruning recomputes before each forward pass."""
    name: str = hook._tensor_name  # noqa: SLF001
    original, mask = getattr(module, f"{name}_orig"), getattr(module, f"{name}_mask")

    def invert(value: Tensor) -> Writes:
        return (*_shown(module, name, value * mask.to(value.dtype)), (original, value))

    note = "pruned: where the mask is zero, what is filled stays hidden"
    return _around(name, original, invert, note, lambda: hook.apply_mask(module))  # type: ignore[no-untyped-call]


def _around(
    name: str, original: Tensor, invert: Callable[[Tensor], Writes], note: str, read: Callable[[], Tensor]
) -> Parametrization:
    """Describe a hook that keeps one original of the logical shape."""
    return Parametrization(
        originals={f"{name}_orig": original},
        read=torch.no_grad()(read),
        invert=torch.no_grad()(invert),
        shape=tuple(original.shape),
        dtype=original.dtype,
        notes=(note,),
    )


def _shown(module: nn.Module, name: str, value: Tensor) -> Writes:
    """Pair the plain attribute that shows the value until the next forward pass; first, as it may share memory."""
    demand_finite(value)
    shown = vars(module).get(name)
    if isinstance(shown, Tensor) and shown.shape == value.shape and not shown.is_inference():
        return ((shown, value),)
    return ()
