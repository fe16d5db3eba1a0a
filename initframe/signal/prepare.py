"""A plan's model and a batch without memory, with what is known of each tensor: what a prediction walks."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map

from initframe.applying.locate import demand_plan
from initframe.errors import InitframeError, Problem
from initframe.fills import Fill
from initframe.model.memory import whole
from initframe.model.parts import Parts, parts_of
from initframe.plan import Plan
from initframe.signal.batch import modes_as_before, refusal
from initframe.signal.computed import assumed, computed_by, drawn, originals
from initframe.signal.fields import mean_products, on_torus, white
from initframe.signal.functions import Functions
from initframe.signal.grid import Grid, constant, gaussian, sampled
from initframe.signal.layout import channels, usual
from initframe.signal.moments import moments_of
from initframe.signal.rules import RULES
from initframe.signal.shapes import Shapes, storage
from initframe.signal.states import Rule, States, distribution
from initframe.signal.walk import Walk
from initframe.signal.wrapped import away, placeless, undivided
from initframe.stream.threads import single_threaded


@dataclass(frozen=True)
class Prepared:
    """A model without memory, and what is known of its tensors.

    Attributes:
        model: the plan's.
        parts: of it.
        state: fake parameters and buffers, named as its own.
        names: canonical names of parameters by storage, as plans have them.
        states: of all of them, and of the batch.
        fake: the mode that they belong to.
        rules: by operation.
        positional: the batch's arguments, fake.
        keywords: likewise.
    """

    model: nn.Module
    parts: Parts
    state: Mapping[str, Tensor]
    names: Mapping[int, str]
    states: States
    fake: FakeTensorMode
    rules: Mapping[str, Rule]
    positional: tuple[Any, ...]
    keywords: Mapping[str, Any]

    def run(self, walk: Walk) -> None:
        """Call the model under a walk, with one thread: what is computed is small, and threads would wait for it."""
        with ExitStack() as stack:
            stack.enter_context(modes_as_before(self.parts))
            stack.enter_context(undivided(self.parts))
            for context in (torch.no_grad(), _composed(), _unlogged(), single_threaded()):
                stack.enter_context(context)
            with _disable_current_modes(), Functions(walk), walk:
                functional_call(self.model, dict(self.state), self.positional, dict(self.keywords), tie_weights=False)
                walk.flush()


def prepare(plan: Plan, batch: Any) -> Prepared:
    """Make fake parameters, buffers and inputs of a plan's model, each with its state.

    Raises:
        InitframeError: there is no model to run, or no batch to run it on.
    """
    demand_plan(plan, "predict")
    model = plan.model
    if not isinstance(model, nn.Module):
        fact = (
            "it has no model." if model is None else "it was resolved against a state_dict, which has no forward pass."
        )
        raise InitframeError(Problem("plan", fact, "", "Resolve the recipe against the model."))
    parts = parts_of(model)
    if problems := [*refusal(parts, batch), *placeless(parts, predicted=True), *away(plan, parts)]:
        raise InitframeError(*problems)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    states = States()
    with _disable_current_modes(), torch.no_grad(), single_threaded():
        state, names = _model_states(plan, parts, fake, states)
        positional, keywords = _faked_batch(parts, batch, fake, states)
    return Prepared(model, parts, state, names, states, fake, RULES, positional, keywords)


@contextmanager
def _composed() -> Iterator[None]:
    """Have torch run encoder layers by their parts, not by one fused operation."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _unlogged() -> Iterator[None]:
    """Have torch not log shapes that do not fit: the error that is raised says it."""
    logger = logging.getLogger(fake_tensor.__name__)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _model_states(
    plan: Plan, parts: Parts, fake: FakeTensorMode, states: States
) -> tuple[dict[str, Tensor], dict[int, str]]:
    """Fake parameters and buffers by name, their states, and the names of parameters by storage."""
    fills = {name: a.fill for a in plan.assignments for name in (a.slot.name, *a.slot.aliases)}
    made: dict[int, Tensor] = {}
    shapes = Shapes(fake)
    state: dict[str, Tensor] = {}
    names: dict[int, str] = {}
    there = set(map(parts.planned, parts.parameters))
    computed = computed_by(parts.modules[""], {name: f for name, f in fills.items() if name not in there})
    fills |= originals(computed)
    unsure = assumed(computed, states)
    for name, tensor in [*parts.parameters.items(), *parts.buffers.items()]:
        if id(tensor) in made:
            state[name] = made[id(tensor)]
            continue
        stand_in = shapes.empty(tensor.shape, tensor.stride(), tensor.dtype)
        made[id(tensor)] = state[name] = stand_in
        is_parameter = name in parts.parameters
        planned = parts.planned(name)
        found = unsure.get(planned) or _state(tensor, fills.get(planned), is_parameter, name)
        if found is not None:
            states.put(stand_in, found)
            if isinstance(found, Grid) and planned in fills:
                states.drawn(found, fills[planned])
        if is_parameter:
            names[storage(stand_in)] = planned
    return state, names


def _state(tensor: Tensor, fill: Fill | None, is_parameter: bool, name: str) -> Any:
    """The state of a parameter or buffer: its fill, or the values that it keeps."""
    layout = channels(tensor.shape)
    if fill is not None and not math.isnan(fill.std):
        return drawn(fill, tensor.shape)
    if tensor.is_meta:
        if is_parameter:
            return None
        last = name.rpartition(".")[2]  # statistics of a model that has seen nothing
        return constant(1.0 if last == "running_var" else 0.0, layout) if last.startswith("running_") else None
    if not is_parameter:
        return tensor.clone()
    values = whole(tensor).double()
    mean, square = values.mean().item(), values.square().mean().item()
    if square == mean**2 or float(values.std(correction=0) if values.numel() > 1 else 0) == 0:
        return constant(mean, layout, weight=True)
    return gaussian(moments_of(mean, square, mean**2, mean**2, mean**2), layout, weight=True)


def _faked_batch(
    parts: Parts, batch: Any, fake: FakeTensorMode, states: States
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The batch as fake tensors with their states."""
    shapes = Shapes(fake)

    def stand_in(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        tensor = shapes.empty(value.shape, value.stride(), value.dtype)
        if value.is_floating_point():
            last = value.ndim >= 4 and channels_last(parts, value.shape)
            states.put(tensor, _assumed(value, last) if value.is_meta else observed(value, last))
        elif not value.is_meta:
            states.put(tensor, value.detach().cpu().clone())
        return tensor

    faked = tree_map(stand_in, batch if isinstance(batch, Mapping | tuple | list) else (batch,))
    return ((), dict(faked)) if isinstance(faked, Mapping) else (tuple(faked), {})


def channels_last(parts: Parts, shape: tuple[int, ...]) -> bool:
    """Whether an image has its channels in the last dimension: no layer convolves, and one takes so many features."""
    layers = parts.modules.values()
    if any(isinstance(one, nn.modules.conv._ConvNd) for one in layers):  # noqa: SLF001  # the class of all convolutions
        return False
    return any(isinstance(one, nn.Linear) and one.in_features == shape[-1] for one in layers)


def _assumed(value: Tensor, last: bool) -> Grid:
    """Independent N(0, 1) numbers."""
    moments, layout = moments_of(0.0, 1.0), usual(value.shape, channels_last=last)
    return gaussian(moments._replace(field=white(1.0, 0.0)) if value.ndim == 4 else moments, layout)


def observed(value: Tensor, last: bool = False) -> Grid:
    """The grid of a real input: its distribution, and how alike its inputs and places are.

    Args:
        value: the input.
        last: whether it is an image with its channels in the last dimension.
    """
    layout = usual(value.shape, channels_last=last)
    own = value.detach().cpu()
    own = own.movedim(-1, 1) if last else own
    x = own.double()
    if x.ndim < 2 or not x.numel():
        return distribution(x, layout)
    inputs = x.shape[0]
    total, every = x.sum(0), _squares(x)
    mean, square = total.sum().item() / x.numel(), every / x.numel()
    same = (_squares(total) - every) / max(x.numel() * (inputs - 1), 1) if inputs > 1 else mean**2
    places = x.reshape(inputs, x.shape[1], -1) if x.ndim >= 4 else x.reshape(inputs, -1, x.shape[-1]).transpose(1, 2)
    count = places.shape[-1]
    sums = places.sum(-1)
    near = (_squares(sums) - every) / max(x.numel() * (count - 1), 1) if count > 1 else mean**2
    pairs = x.shape[0] * (inputs - 1) * sums.shape[1] * count * max(count - 1, 1)
    across = _squares(sums.sum(0)) - _squares(sums) - same * inputs * (inputs - 1) * sums.shape[1] * count
    far = across / pairs if inputs > 1 and count > 1 else mean**2
    field = _field_of(own, near) if x.ndim == 4 else None
    moments = moments_of(mean, square, same, near, far)._replace(field=field)
    return sampled(own.reshape(-1)[:: max(x.numel() // 65536, 1)], moments, gaussian(moments, layout))


def _squares(x: Tensor) -> float:
    """The sum of the squares; a product with itself needs no memory for them."""
    flat = x.reshape(-1)
    return torch.dot(flat, flat).item()


def _field_of(x: Tensor, near: float) -> Tensor:
    """Mean products of two places at each offset, over all inputs and channels."""
    products = mean_products(x.float()).double()
    return on_torus(products, near, [side - 1 for side in x.shape[-2:]])
