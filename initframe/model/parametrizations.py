"""Tensors that a layer computes from others: parametrizations, and the hooks that came before them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import _Orthogonal, _SpectralNorm, _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from initframe.model.memory import is_distributed

Writes = tuple[tuple[Tensor, Tensor], ...]

_LENGTH = "weight_norm keeps length and direction apart: what is filled comes back up to rounding"
_SPECTRAL = "spectral_norm divides by the largest singular value: the scale of what is filled is discarded"
_ORTHOGONAL = "orthogonal keeps the orthogonal factor of what is filled"
_POWER_STEPS = 15  # as many as torch takes when it registers a spectral norm


@dataclass(frozen=True)
class Parametrization:
    """How a layer computes one tensor from others, and the way back.

    Attributes:
        originals: the tensors that it is computed from, by their names from the module on.
        read: computes the logical tensor as it is now; changes nothing, not even a power iteration's vectors.
        invert: ``value → writes``: which existing tensor takes which new value, in order, so that the logical tensor
            becomes ``value``; changes nothing, and draws nothing from torch's generators.
        shape: the logical shape.
        dtype: the logical dtype.
        blocked: why there is no way back, if there is none.
        notes: what a reader of the plan should know.
    """

    originals: Mapping[str, Tensor]
    read: Callable[[], Tensor]
    invert: Callable[[Tensor], Writes]
    shape: tuple[int, ...]
    dtype: torch.dtype
    blocked: str | None = None
    notes: tuple[str, ...] = ()


def parametrizations(module: nn.Module) -> dict[str, Parametrization]:
    """Find the tensors that a module computes from others.

    Knows ``torch.nn.utils.parametrize`` (weight_norm, spectral_norm, orthogonal, custom ones), the older forward
    hooks ``torch.nn.utils.weight_norm`` and ``spectral_norm``, and pruning masks.

    Args:
        module: one module; its children are not looked at.

    Returns:
        By the logical name (``weight``): how it is computed.

    >>> layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    >>> list(parametrizations(layer)["weight"].originals)
    ['parametrizations.weight.original0', 'parametrizations.weight.original1']
    """
    found = {}
    registered = module._modules.get("parametrizations")  # noqa: SLF001
    for name, how in registered.named_children() if registered is not None else ():
        if isinstance(how, ParametrizationList):
            found[name] = _registered(name, how)
    for hook in module._forward_pre_hooks.values():  # noqa: SLF001
        if isinstance(hook, WeightNorm):
            found[hook.name] = _weight_norm_hook(module, hook)
        elif isinstance(hook, SpectralNorm):
            found[hook.name] = _spectral_norm_hook(module, hook)
        elif isinstance(hook, BasePruningMethod):
            found[hook._tensor_name] = _pruning_hook(module, hook)  # noqa: SLF001
    return found


def _registered(name: str, how: ParametrizationList) -> Parametrization:
    """Read a tensor that register_parametrization replaced."""
    keys = ["original"] if how.is_tensor else [f"original{i}" for i in range(how.ntensors)]
    originals = {f"parametrizations.{name}.{key}": getattr(how, key) for key in keys}
    steps = nn.ModuleList(how)
    shape, dtype = _computed_form(steps, list(originals.values()))
    return Parametrization(
        originals=originals,
        read=lambda: _forward(_twin(steps), list(originals.values())),
        invert=lambda value: _through_right_inverse(steps, list(originals.values()), value),
        shape=shape,
        dtype=dtype,
        blocked=_no_way_back(steps, originals),
        notes=tuple(_note(step) for step in steps),
    )


def _no_way_back(steps: nn.ModuleList, originals: Mapping[str, Tensor]) -> str | None:
    """Say which step has no right_inverse."""
    for step in steps:
        if not hasattr(step, "right_inverse"):
            return (
                f"is computed by {type(step).__name__}, which has no right_inverse. Give it one, or fill what it "
                f"computes from by a rule that names it: {', '.join(originals)}."
            )
    return None


def _note(step: nn.Module) -> str:
    """Say what a parametrization makes of a fill."""
    for known, note in ((_WeightNorm, _LENGTH), (_SpectralNorm, _SPECTRAL), (_Orthogonal, _ORTHOGONAL)):
        if isinstance(step, known):
            return note
    return f"set through the right_inverse of {type(step).__name__}"


def _computed_form(steps: nn.ModuleList, originals: Sequence[Tensor]) -> tuple[tuple[int, ...], torch.dtype]:
    """Compute the logical shape and dtype on the meta device, where that costs nothing."""
    try:
        value = _forward_meta(steps, originals)
    except Exception:  # noqa: BLE001 - what a custom forward does on meta tensors is anyone's guess
        value = _forward(_twin(steps), originals)
    return tuple(value.shape), value.dtype


def _forward_meta(steps: nn.ModuleList, originals: Sequence[Tensor]) -> Tensor:
    values = tuple(_on_meta(tensor) for tensor in originals)
    for step in steps:
        state = {key: _on_meta(tensor) for key, tensor in _state(step).items()}
        with torch.no_grad():
            values = (functional_call(step, state, values),)
    return values[0]


def _on_meta(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")


def _twin(steps: nn.ModuleList) -> nn.ModuleList:
    """Copy a chain of parametrizations, so that running it changes no model."""
    return copy.deepcopy(steps).eval()


@torch.no_grad()
def _forward(steps: nn.ModuleList, originals: Sequence[Tensor]) -> Tensor:
    """Compute the logical value."""
    values = tuple(_whole(tensor) for tensor in originals)
    for step in steps:
        values = (step(*values),)
    return values[0]


def _whole(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor."""
    whole: Tensor = tensor.full_tensor() if is_distributed(tensor) else tensor.detach()  # type: ignore[attr-defined]
    return whole


@torch.no_grad()
def _through_right_inverse(steps: nn.ModuleList, originals: Sequence[Tensor], value: Tensor) -> Writes:
    """Run a chain backwards on a copy; what changed there is what is to be written here."""
    twin = _twin(steps)
    news: Tensor | Sequence[Tensor] = value
    with _own_generator(value.device):
        for step in reversed(twin):
            news = step.right_inverse(news)  # type: ignore[operator]
            if isinstance(step, _SpectralNorm) and isinstance(news, Tensor) and news.ndim > 1:
                step._u, step._v = _leading_vectors(step._reshape_weight_to_matrix(news), step._u.dtype)  # noqa: SLF001
    news = [news] if isinstance(news, Tensor) else news
    pairs = tuple(zip(originals, news, strict=True))
    _demand_same_form(pairs)
    _demand_finite(_forward(twin, news))
    return (*(_as_held(*pair) for pair in pairs), *_changed(steps, twin))


@contextmanager
def _own_generator(device: torch.device) -> Iterator[None]:
    """Give a right_inverse that draws (orthogonal completes bases) the same numbers always, and torch its own back."""
    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            yield
    else:
        with torch.random.fork_rng(devices=[device], device_type=device.type):
            torch.get_device_module(device).manual_seed(0)
            yield


def _as_held(original: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """Give a new value the placements of its original, where that is a DTensor; every process has the whole value."""
    if not is_distributed(original):
        return original, new
    from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415 - loaded already, or there were no DTensor

    mesh, placements = original.device_mesh, original.placements  # type: ignore[attr-defined]
    return original, distribute_tensor(new, mesh, placements, src_data_rank=None)


def _demand_same_form(pairs: Writes) -> None:
    """Refuse what a right_inverse returns in another shape or dtype than its original has."""
    for original, new in pairs:
        if new.shape != original.shape or new.dtype != original.dtype:
            raise ValueError(
                f"right_inverse returns {new.dtype} of shape {tuple(new.shape)} for an original that is "
                f"{original.dtype} of shape {tuple(original.shape)}"
            )


def _demand_finite(back: Tensor) -> None:
    """Refuse a value that the layer cannot hold: one of norm zero, where it divides by norms."""
    if not bool(back.isfinite().all()):
        raise ValueError("the layer makes nan or inf of it, as a layer does that divides by a norm of zero")


def _changed(steps: nn.ModuleList, twin: nn.ModuleList) -> Writes:
    """Pair the state of a chain with its copy's, where they differ."""
    old, new = _state(steps), _state(twin)
    return tuple((old[key], new[key].detach()) for key in old if not torch.equal(old[key], new[key]))


def _state(steps: nn.Module) -> dict[str, Tensor]:
    return {**dict(steps.named_parameters()), **dict(steps.named_buffers())}


def _leading_vectors(matrix: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Estimate the singular vectors of the largest singular value, from the matrix alone.

    spectral_norm keeps them and improves them by one step per forward pass in training, by none in evaluation, so
    that those of the old weight would leave the new one with a norm far from one.
    """
    matrix = matrix.to(torch.float64)
    v = matrix[matrix.norm(dim=1).argmax()]
    for _ in range(_POWER_STEPS):
        u = nn.functional.normalize(matrix @ v, dim=0)
        v = nn.functional.normalize(matrix.T @ u, dim=0)
    return u.to(dtype), v.to(dtype)


def _weight_norm_hook(module: nn.Module, hook: WeightNorm) -> Parametrization:
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
        notes=(_LENGTH,),
    )


def _spectral_norm_hook(module: nn.Module, hook: SpectralNorm) -> Parametrization:
    """Read a tensor that the older spectral_norm recomputes before each forward pass."""
    name, original = hook.name, getattr(module, f"{hook.name}_orig")
    estimates = getattr(module, f"{name}_u"), getattr(module, f"{name}_v")

    def invert(value: Tensor) -> Writes:
        matrix = hook.reshape_weight_to_matrix(value)
        u, v = _leading_vectors(matrix, estimates[0].dtype)
        shown = _shown(module, name, value / (u @ matrix @ v))
        return (*shown, (original, value), *zip(estimates, (u, v), strict=True))

    return _around(name, original, invert, _SPECTRAL, lambda: hook.compute_weight(module, do_power_iteration=False))


def _pruning_hook(module: nn.Module, hook: BasePruningMethod) -> Parametrization:
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
    _demand_finite(value)
    shown = vars(module).get(name)
    if isinstance(shown, Tensor) and shown.shape == value.shape and not shown.is_inference():
        return ((shown, value),)
    return ()
