"""``generator="torch"``: fills drawn with torch.nn.init, for people who must reproduce an older script bit for bit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

from initframe.errors import Problem, ResolveError
from initframe.fills import Blocks, Copied, Fill, Fixed, Keep, Mapped, Masked, OnCurrent, Partial, Stacked
from initframe.fills.fill import TORCH_FUNCTIONS
from initframe.model.slot import Slot
from initframe.plan import Assignment, Plan
from initframe.resolver.problems import named

_INIT = dict(vars(nn.init))
"""torch.nn.init as it was when this was imported: libraries replace its functions by others that do nothing while they
build or load a model."""

DTYPES = {"orthogonal_": (torch.float32, torch.float64)}
"""The dtypes of functions of torch.nn.init that do not take them all."""

_COMPOSED = (Keep, OnCurrent, Mapped, Fixed, Blocks, Masked, Stacked, Partial, Copied)
"""What is written here without a function of torch.nn.init, or with those of its parts."""


_ONE_THREAD = RLock()
"""Held while numbers come from torch's generators, which are the process's."""


def _unlock() -> None:
    """Begin anew in a forked child: it has none of the threads that were drawing."""
    global _ONE_THREAD  # noqa: PLW0603
    _ONE_THREAD = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


@contextmanager
def seeded(seed: int | None, devices: Iterable[torch.device] = ()) -> Iterator[None]:
    """Draw as after ``torch.manual_seed(seed)``, then put torch's generators back; without a seed, just draw on.

    One thread at a time: others wait. A thread that draws from torch's generators by itself does not.

    Args:
        seed: what a script would give to ``torch.manual_seed``, or ``None``.
        devices: where numbers are drawn besides the CPU. Generators of other devices are not touched:
            ``torch.manual_seed`` would start, or leave a note for, every GPU there is.
    """
    with ExitStack() as stack:
        stack.enter_context(_ONE_THREAD)
        if seed is None:
            yield
            return
        stack.enter_context(torch.random.fork_rng(devices=[]))
        torch.default_generator.manual_seed(seed)
        for device in devices:
            if device.type not in ("cpu", "meta"):
                stack.enter_context(torch.random.fork_rng(devices=[device], device_type=device.type))
                _seed(device, seed)
        yield


def _seed(device: torch.device, seed: int) -> None:
    """Seed the generator of one device."""
    module = torch.get_device_module(device)
    with getattr(module, "device", nullcontext)(device):  # of several CUDA devices, the current one is seeded
        module.manual_seed(seed)


def as_torch_leaves_it(plan: Plan) -> Plan:
    """Return the plan with rows of padding drawn like the others: torch.nn.init does not know them."""
    return replace(plan, assignments=tuple(replace(a, fill=_without_padding(a.fill)) for a in plan.assignments))


def _without_padding(fill: Fill) -> Fill:
    return fill.fill if isinstance(fill, Masked) and fill.padding else fill


def refusals(targets: Iterable[tuple[Assignment, Slot]]) -> list[Problem]:
    """Say which fills torch.nn.init cannot make, one problem for all tensors of a rule.

    Args:
        targets: assignments, each with the slot that it would be written to.

    >>> from initframe import resolve
    >>> plan = resolve({"rules": {"w": "orthogonal"}}, {"w": torch.zeros(2, 2, dtype=torch.float16)})
    >>> print(*refusals((a, a.slot) for a in plan.assignments))
    rule 'w' on w [2, 2]: torch.nn.init.orthogonal_ does not take torch.float16. Use generator: stream.
    """
    refused: dict[tuple[str, Problem], list[Slot]] = {}
    for a, slot in targets:
        if found := refusal(a.fill, slot.dtype):
            refused.setdefault((a.rule.describe(), found), []).append(slot)
    return [problem.on(f"{rule} on {named(slots)}") for (rule, problem), slots in refused.items()]


def refusal(fill: Fill, dtype: torch.dtype) -> Problem | None:
    """Say why torch.nn.init cannot make a fill.

    Args:
        fill: what a tensor will hold.
        dtype: the tensor's.

    Returns:
        The problem; ``None`` if torch.nn.init can.

    >>> from initframe.fills import Orthogonal
    >>> print(refusal(Orthogonal((2, 2)), torch.bfloat16))
    torch.nn.init.orthogonal_ does not take torch.bfloat16. Use generator: stream.
    """
    for part in fill.parts():
        if function := _replaced(part):
            fact = f"torch.nn.init.{function} was replaced by another library before initframe was imported."
            return Problem("", fact, fix="Import initframe first, or use generator: stream.")
        if part.torch_init is None:
            if not isinstance(part, _COMPOSED):
                return Problem("", f"torch.nn.init has no {part.kind}.", fix="Use generator: stream.")
        elif dtype not in DTYPES.get(part.torch_init[0], (dtype,)):
            fact = f"torch.nn.init.{part.torch_init[0]} does not take {dtype}."
            return Problem("", fact, fix="Use generator: stream.")
    return None


def _replaced(fill: Fill) -> str:
    """Name the function that draws a fill if it is not torch's own; an empty text if it is."""
    drawn = [TORCH_FUNCTIONS.get(fill.draws[0], "")] if isinstance(fill, Mapped) else []
    for name in [fill.torch_init[0]] if fill.torch_init else drawn:
        code = getattr(_INIT.get(name), "__code__", None)
        if code is None or code.co_filename != nn.init.__file__:
            return name
    return ""


def write(fill: Fill, tensor: Tensor) -> None:
    """Fill a tensor as torch.nn.init does.

    Args:
        fill: what the tensor will hold.
        tensor: changed in place.

    Raises:
        ResolveError: torch.nn.init has no such fill; :func:`refusal` tells beforehand.
    """
    if fill.torch_init:
        _call(tensor, *fill.torch_init)
        return
    match fill:
        case Keep():
            pass
        case Mapped():
            tensor.copy_(fill.transform(_drawn(tensor, *fill.draws)))
        case OnCurrent():
            wide = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
            tensor.copy_(fill.apply(wide, lambda: torch.randn(tensor.shape, device=tensor.device)))
        case Fixed():
            tensor.copy_(fill.values())
        case Blocks(fills, sizes, dim):
            for part, block in zip(fills, torch.split(tensor, list(sizes), dim), strict=True):
                write(part, block)
        case Partial(inner, units, dim):
            beside = tensor.clone()
            write(inner, beside)
            index = torch.tensor(units, device=tensor.device)
            tensor.index_copy_(dim, index, beside.index_select(dim, index))
        case Stacked():
            for place in fill.places(tensor.shape):
                _write_member(fill, place, tensor)
        case Masked(inner, index=index, value=value):
            write(inner, tensor)
            tensor[index] = value
        case _:
            raise ResolveError(*filter(None, [refusal(fill, tensor.dtype)]))


def _write_member(fill: Stacked, place: tuple[tuple[int, int], ...], tensor: Tensor) -> None:
    """Fill one of several stacked weights: on memory of its own layout, then copied."""
    own = tensor
    for dim, index in place:
        own = own.narrow(dim, index, 1)
    member = torch.empty(fill.inner_shapes(tuple(own.shape))[0], dtype=tensor.dtype, device=tensor.device)
    write(fill.fill, member)
    own.copy_(fill.from_member(member, tuple(own.shape)))


def _call(tensor: Tensor, function: str, args: Sequence[Any]) -> None:
    """Call a function of torch.nn.init; those that view their tensor as a matrix get dense memory."""
    dense = tensor if tensor.is_contiguous() or function not in DTYPES else tensor.new_empty(tensor.shape)
    _INIT[function](dense, *args)
    if dense is not tensor:
        tensor.copy_(dense)


def _drawn(tensor: Tensor, distribution: str, args: tuple[float, ...]) -> Tensor:
    """Draw float32 numbers like torch.nn.init, one for each element of a tensor."""
    drawn = torch.empty(tensor.shape, dtype=torch.float32, device=tensor.device)
    _INIT[TORCH_FUNCTIONS[distribution]](drawn, *args)
    # The stream's uniforms are in (0, 1), so that a logarithm can be taken; torch's can be 0.
    return drawn.clamp_(min=2**-25) if (distribution, args) == ("uniform", (0.0, 1.0)) else drawn
