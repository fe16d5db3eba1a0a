"""``generator="torch"``: fills drawn with torch.nn.init, for people who must reproduce an older script bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from initframe.errors import ResolveError
from initframe.fills import (
    Blocks,
    Constant,
    Dirac,
    Elementwise,
    Fill,
    Identity,
    Keep,
    Masked,
    Normal,
    OnCurrent,
    Orthogonal,
    Sparse,
    TruncatedNormal,
    Uniform,
    Whole,
)
from initframe.fills.fixed import Fixed
from initframe.fills.pretrained import Stored
from initframe.model.slot import Slot
from initframe.plan import Assignment, Plan
from initframe.resolver.problems import named


@contextmanager
def seeded(seed: int | None, devices: Iterable[torch.device] = ()) -> Iterator[None]:
    """Draw as after ``torch.manual_seed(seed)``, then put torch's generators back; without a seed, just draw on.

    Args:
        seed: what a script would hand to ``torch.manual_seed``, or ``None``.
        devices: where numbers are drawn besides the CPU. Generators of other devices are not touched at all:
            ``torch.manual_seed`` would start, or leave a note for, every GPU there is.
    """
    if seed is None:
        yield
        return
    with ExitStack() as stack:
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
    """The plan with rows of padding drawn like the others: torch.nn.init knows nothing of them."""
    return replace(plan, assignments=tuple(replace(a, fill=_without_padding(a.fill)) for a in plan.assignments))


def _without_padding(fill: Fill) -> Fill:
    return fill.fill if isinstance(fill, Masked) and fill.padding else fill


def refusals(asked: Iterable[tuple[Assignment, Slot]]) -> list[str]:
    """Say which fills torch.nn.init cannot make, one message for all tensors of a rule.

    Args:
        asked: assignments, each with the slot that it would be written to.

    >>> from initframe import resolve
    >>> plan = resolve({"rules": {"w": "orthogonal"}}, {"w": torch.zeros(2, 2, dtype=torch.float16)})
    >>> refusals((a, a.slot) for a in plan.assignments)
    ["rule 'w' on w [2, 2]: torch.nn.init.orthogonal_ knows no torch.float16. Use generator: stream."]
    """
    refused: dict[tuple[str, str], list[Slot]] = {}
    for a, slot in asked:
        if fact := refusal(a.fill, slot.dtype):
            refused.setdefault((a.rule.describe(), fact), []).append(slot)
    return [f"{rule} on {named(slots)}: {fact}" for (rule, fact), slots in refused.items()]


def refusal(fill: Fill, dtype: torch.dtype) -> str | None:
    """Say why torch.nn.init cannot make a fill.

    Args:
        fill: what a tensor will hold.
        dtype: the tensor's.

    Returns:
        A sentence with the fact and a fix, or ``None``.

    >>> refusal(Orthogonal((2, 2)), torch.bfloat16)
    'torch.nn.init.orthogonal_ knows no torch.bfloat16. Use generator: stream.'
    """
    for part in fill.parts():
        if isinstance(part, Whole) and not isinstance(part, Dirac | Identity | Orthogonal | Sparse | Fixed | Stored):
            return f"torch.nn.init has no {part.kind}. Use generator: stream."
        if isinstance(part, Orthogonal) and dtype not in (torch.float32, torch.float64):
            return f"torch.nn.init.orthogonal_ knows no {dtype}. Use generator: stream."
    return None


def write(fill: Fill, tensor: Tensor) -> None:
    """Fill a tensor as torch.nn.init does.

    Args:
        fill: what the tensor will hold.
        tensor: changed in place.

    Raises:
        ResolveError: torch.nn.init has no such fill; :func:`refusal` tells beforehand.
    """
    match fill:
        case Keep():
            pass
        case Constant(value):
            tensor.fill_(value)
        case Uniform(low, high):
            nn.init.uniform_(tensor, low, high)
        case Normal(mean, std):
            nn.init.normal_(tensor, mean, std)
        case TruncatedNormal(loc, scale, low, high):
            nn.init.trunc_normal_(tensor, loc, scale, low, high)
        case Elementwise(fn):
            tensor.copy_(fn(torch.rand(tensor.shape, device=tensor.device).clamp_(min=2**-25)))
        case OnCurrent():
            wide = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
            tensor.copy_(fill.apply(wide, lambda: torch.randn(tensor.shape, device=tensor.device)))
        case Whole():
            _write_whole(fill, tensor)
        case Blocks(fills, sizes, dim):
            for part, block in zip(fills, torch.split(tensor, list(sizes), dim), strict=True):
                write(part, block)
        case Masked(inner, index=index, value=value):
            write(inner, tensor)
            tensor[index] = value
        case _:
            raise ResolveError(f"torch.nn.init has no {fill.kind}. Use generator: stream.")


def _write_whole(fill: Whole, tensor: Tensor) -> None:
    match fill:
        case Orthogonal():
            dense = tensor if tensor.is_contiguous() else tensor.new_empty(tensor.shape)
            nn.init.orthogonal_(dense, fill.gain)  # which views its tensor as a matrix
            if dense is not tensor:
                tensor.copy_(dense)
        case Identity():
            nn.init.eye_(tensor)
        case Dirac():
            nn.init.dirac_(tensor, fill.groups)
        case Sparse():
            nn.init.sparse_(tensor, fill.sparsity, fill.scale)
        case Fixed():
            tensor.copy_(fill.values())
        case Stored():
            tensor.copy_(fill.read())
        case _:
            raise ResolveError(f"torch.nn.init has no {fill.kind}. Use generator: stream.")
