"""Tensors that a layer computes from others, registered with torch.nn.utils.parametrize."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import _Orthogonal, _SpectralNorm, _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.overrides import TorchFunctionMode

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
from initframe.model.hooks import hooked
from initframe.model.memory import whole
from initframe.model.obstacles import Obstacle
from initframe.model.parts import parts_of

ORTHOGONAL = "orthogonal keeps the orthogonal factor of what is filled"


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
    if "parametrizations" in module._modules:  # noqa: SLF001
        children = module.get_submodule("parametrizations").named_children()
        found = {name: _registered(name, how) for name, how in children if isinstance(how, ParametrizationList)}
    return found | hooked(module) if module._forward_pre_hooks else found  # noqa: SLF001


def logical_name(module: str) -> str:
    """Name the tensor that a list of parametrizations computes.

    Args:
        module: the list's own name.

    >>> logical_name("0.parametrizations.weight"), logical_name("parametrizations.weight")
    ('0.weight', 'weight')
    """
    owner, _, name = module.rpartition(".")
    return owner.removesuffix("parametrizations") + name


def _registered(name: str, how: ParametrizationList) -> Parametrization:
    """Read a tensor that register_parametrization replaced."""
    keys = ["original"] if how.is_tensor else [f"original{i}" for i in range(how.ntensors)]
    held = {f"parametrizations.{name}.{key}": own_tensor(how, key) for key in keys}
    originals = {key: tensor for key, tensor in held.items() if tensor is not None}
    taken = [key for key in held if key not in originals]
    steps, values = nn.ModuleList(how), list(originals.values())
    shape, dtype, failure = (None, values[0].dtype if values else torch.float32, None)
    if not taken:
        shape, dtype, failure = _computed_form(steps, values)
    return Parametrization(
        owner=how,
        originals=originals,
        read=lambda: _forward(_twin(steps), values),
        invert=lambda value: _through_right_inverse(steps, values, value),
        shape=shape,
        dtype=dtype,
        renewed=tuple(vector for step in steps if isinstance(step, _SpectralNorm) for vector in step.buffers()),
        blocked=itself_computed(taken) if taken else failure or _no_inverse(steps, originals),
        exact=all(isinstance(step, _WeightNorm) for step in steps),
        linear=all(isinstance(step, _WeightNorm) for step in steps),
        notes=tuple(_note(step) for step in steps),
    )


def _no_inverse(steps: nn.ModuleList, originals: Mapping[str, Tensor]) -> Obstacle | None:
    """Say which step has no right_inverse."""
    for step in steps:
        if not hasattr(step, "right_inverse"):
            return Obstacle(
                f"is computed by {type(step).__name__}, which has no right_inverse.",
                f"Give it one, or fill what it computes from by a rule that names it: {', '.join(originals)}.",
            )
    return None


def _note(step: nn.Module) -> str:
    """Say what a parametrization makes of a fill."""
    for known, note in ((_WeightNorm, LENGTH), (_SpectralNorm, SPECTRAL), (_Orthogonal, ORTHOGONAL)):
        if isinstance(step, known):
            return note
    kind = type(step).__name__
    return f"set through the right_inverse of {kind}; the result depends on the forward of {kind}"


def _computed_form(
    steps: nn.ModuleList, originals: Sequence[Tensor]
) -> tuple[tuple[int, ...] | None, torch.dtype, Obstacle | None]:
    """Compute the logical shape and dtype, on the meta device if possible, or say what failed."""
    for forward in (_forward_meta, lambda steps, originals: _forward(_twin(steps), originals)):
        try:
            value = forward(steps, originals)
            return tuple(value.shape), value.dtype, None
        except Exception as error:  # noqa: BLE001 - a custom forward may raise anything
            problem = f"{type(error).__name__}: {error}".rstrip(".")
    fact = f"is computed by {' after '.join(type(step).__name__ for step in steps)}, which fails with {problem}."
    return None, originals[0].dtype, Obstacle(fact, "Make the parametrization ready first, or remove it.")


def _forward_meta(steps: nn.ModuleList, originals: Sequence[Tensor]) -> Tensor:
    values = tuple(_on_meta(tensor) for tensor in originals)
    for step in steps:
        parts = parts_of(step)
        state = {key: _on_meta(tensor) for key, tensor in (parts.parameters | parts.buffers).items()}
        with torch.no_grad():
            values = (functional_call(step, state, values, tie_weights=False),)
    return values[0]


def _on_meta(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")


def _twin(steps: nn.ModuleList) -> nn.ModuleList:
    """Copy a chain of parametrizations, so that running it changes no model."""
    return copy.deepcopy(steps).eval()


@torch.no_grad()
def _forward(steps: nn.ModuleList, originals: Sequence[Tensor]) -> Tensor:
    """Compute the logical value."""
    values = tuple(map(whole, originals))
    for step in steps:
        values = (step(*values),)
    return values[0]


@torch.no_grad()
def _through_right_inverse(steps: nn.ModuleList, originals: Sequence[Tensor], value: Tensor) -> Copies:
    """Run a chain backwards on a copy; what changed there is what is to be written here."""
    twin = _twin(steps)
    news: Tensor | Sequence[Tensor] = value
    with _OwnGenerator():
        for step in reversed(twin):
            news = step.right_inverse(news)  # type: ignore[operator]
            if isinstance(step, _SpectralNorm) and isinstance(news, Tensor) and news.ndim > 1:
                step._u, step._v = leading_vectors(step._reshape_weight_to_matrix(news), step._u.dtype)  # noqa: SLF001
    news = [news] if isinstance(news, Tensor) else news
    pairs = tuple(zip(originals, news, strict=True))
    _demand_same_form(pairs)
    back = _forward(twin, news)
    demand_finite(back)
    if any(isinstance(step, _Orthogonal) for step in steps):
        _demand_full_rank(back)
    return (*pairs, *_changed(steps, twin))


class _OwnGenerator(TorchFunctionMode):
    """Give a right_inverse that draws (orthogonal completes bases) the same numbers always, in this thread only.

    They are those of torch's generator after ``torch.manual_seed(0)``, which itself is neither read nor changed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.generators: dict[torch.device, torch.Generator] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        given = dict(kwargs or {})
        if getattr(func, "__name__", "") in _DRAWING and given.get("generator") is None:
            tensors = [value for value in (*args, *given.values()) if isinstance(value, Tensor)]
            device = tensors[0].device if tensors else given.get("device") or torch.get_default_device()
            given["generator"] = self._of(torch.device(device))
        return func(*args, **given)

    def _of(self, device: torch.device) -> torch.Generator:
        """Give the generator of a device, seeded at its first use."""
        if device not in self.generators:
            self.generators[device] = torch.Generator(device).manual_seed(0)
        return self.generators[device]


_IN_PLACE = ("normal_", "uniform_", "bernoulli_", "exponential_", "random_", "cauchy_", "log_normal_", "geometric_")
_LIKE = ("rand_like", "randn_like", "randint_like")
_DRAWING = {*_IN_PLACE, *_LIKE, "rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial"}
"""The functions of torch that draw numbers, from a generator if one is given."""


def _demand_same_form(pairs: Copies) -> None:
    """Refuse what a right_inverse returns in another shape or dtype than its original has."""
    for original, new in pairs:
        if new.shape != original.shape or new.dtype != original.dtype:
            raise ValueError(
                f"right_inverse returns {new.dtype} of shape {tuple(new.shape)} for an original that is "
                f"{original.dtype} of shape {tuple(original.shape)}"
            )


def _demand_full_rank(back: Tensor) -> None:
    """Refuse a matrix without an orthogonal factor: columns of the one that comes out have then no length."""
    rank = min(back.shape[-2:]) * math.prod(back.shape[:-2])
    if abs(float(back.double().square().sum()) / rank - 1) > 0.01:
        raise ValueError("orthogonal makes no orthogonal matrix of it, as of none without full rank")


def _changed(steps: nn.ModuleList, twin: nn.ModuleList) -> Copies:
    """Pair those tensors of a chain's state that differ from its copy's."""
    old, new = _state(steps), _state(twin)
    return tuple((old[key], new[key].detach()) for key in old if not torch.equal(old[key], new[key]))


def _state(steps: nn.Module) -> dict[str, Tensor]:
    return {**dict(steps.named_parameters()), **dict(steps.named_buffers())}
