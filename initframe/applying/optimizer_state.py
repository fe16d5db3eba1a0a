"""What a new initialization leaves behind in an optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from initframe.applying.draw import index_on
from initframe.applying.locate import Write
from initframe.applying.placements import held
from initframe.errors import Problem, ResolveError
from initframe.fills import Partial
from initframe.model.memory import footprint, is_composite

Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]

WEIGHTS = frozenset({"z", "x0", "slow_buffer", "slow_param", "lookahead_slow_buff", "master_param"})
"""Under which optimizers keep a copy of the weights: Schedule-Free, MADGRAD, Ranger, Lookahead, Transformer Engine."""


def check_optimizers(given: object) -> list[torch.optim.Optimizer]:
    """List the optimizers that were given, one or several; refuse what keeps no state by parameter.

    Args:
        given: an optimizer, a list of them, or ``None``.

    Raises:
        ResolveError: something is no torch optimizer.

    >>> check_optimizers(None)
    []
    """
    listed: list[Any] = list(given) if isinstance(given, list | tuple) else [] if given is None else [given]
    fix = "Pass the one that holds the parameters, or a list of several."
    problems = [
        Problem("optimizer", f"got {type(one).__name__}, which is no torch.optim.Optimizer.", fix=fix)
        for one in listed
        if not isinstance(one, torch.optim.Optimizer)
    ]
    if problems:
        raise ResolveError(*problems)
    return listed


def clear_state(optimizers: Iterable[torch.optim.Optimizer], touched: Iterable[Tensor]) -> int:
    """Forget what optimizers have gathered about tensors that were reinitialized; the rest stays.

    A parameter is known by its memory, so that a state_dict's tensors will do. What an optimizer wraps
    (ZeroRedundancyOptimizer, Lookahead) forgets, too. LBFGS has one history of all its parameters, which is of no use
    after one of them has changed.

    Args:
        optimizers: their ``state`` is changed in place; parameter groups are not.
        touched: the tensors that were written.

    Returns:
        For how many parameters there was state to clear.

    >>> layer = torch.nn.Linear(2, 2)
    >>> adam = torch.optim.Adam(layer.parameters())
    >>> layer(torch.ones(2)).sum().backward()
    >>> _ = adam.step()
    >>> clear_state([adam], [layer.weight]), layer.bias in adam.state
    (1, True)
    """
    written = set(map(footprint, touched))
    forgotten: dict[int, Tensor] = {}
    for inner in with_wrapped(optimizers):
        mine = [tensor for tensor in _with_state(inner) if footprint(tensor) in written]
        if mine and isinstance(inner, torch.optim.LBFGS):
            inner.state.clear()
        for tensor in mine:
            inner.state.pop(tensor, None)
        if mine and isinstance(inner, torch.optim.Adagrad):
            # In older versions of torch it has state from the beginning, and no step works without.
            inner.state.update(torch.optim.Adagrad(mine, **inner.defaults).state)
        forgotten |= {id(tensor): tensor for tensor in mine}
    return len(forgotten)


def _with_state(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """List the parameters that an optimizer has state of."""
    if not isinstance(optimizer, torch.optim.LBFGS):
        return [tensor for tensor, state in optimizer.state.items() if state]
    if not any(optimizer.state.values()):
        return []
    return [tensor for group in optimizer.param_groups for tensor in group["params"]]


def with_wrapped(optimizers: Iterable[torch.optim.Optimizer]) -> Iterator[torch.optim.Optimizer]:
    """Yield each optimizer once, and those that it wraps, however deep."""
    waiting = list({id(optimizer): optimizer for optimizer in optimizers}.values())
    seen = set(map(id, waiting))
    while waiting:
        inner = waiting.pop()
        yield inner
        held = [*vars(inner).values()]
        held += [item for one in held if isinstance(one, list | tuple) for item in one]
        wrapped = [one for one in held if isinstance(one, torch.optim.Optimizer) and id(one) not in seen]
        seen |= set(map(id, wrapped))
        waiting += wrapped


def clear_units(optimizers: Sequence[torch.optim.Optimizer], tensor: Tensor, dim: int, units: Sequence[int]) -> bool:
    """Forget what an optimizer has gathered about some units of a tensor; step counts, and all other units, stay.

    Copies of the weights (:data:`WEIGHTS`) follow the weights. If the state has no units (the history of LBFGS, codes
    of 8-bit optimizers), all of the tensor's is forgotten.

    Args:
        optimizers: their ``state`` is changed in place.
        tensor: of which units were written.
        dim: the dimension along which they are counted.
        units: their indices, ascending.

    Returns:
        Whether there was state to clear.

    >>> layer = torch.nn.Linear(2, 2)
    >>> adam = torch.optim.Adam(layer.parameters())
    >>> layer(torch.ones(2)).sum().backward()
    >>> _ = adam.step()
    >>> clear_units([adam], layer.bias, 0, [1])
    True
    >>> (adam.state[layer.bias]["exp_avg"] == 0).tolist()
    [False, True]
    """
    mine = footprint(tensor)
    found = False
    for inner in with_wrapped(optimizers):
        for known in [one for one in _with_state(inner) if footprint(one) == mine]:
            found = True
            state = inner.state.get(known, {})
            kept = {key: value for key, value in state.items() if isinstance(value, Tensor) and value.ndim}
            if isinstance(inner, torch.optim.LBFGS) or any(map(_is_coded, kept.values())):
                clear_state([inner], [known])
                continue
            for key, value in kept.items():
                if (along := _units_of(key, value, tensor, dim)) is not None:
                    _begin_again(inner, known, key, along, units)
    return found


def _begin_again(optimizer: torch.optim.Optimizer, parameter: Tensor, key: str, dim: int, units: Sequence[int]) -> None:
    """Set some units of a tensor of an optimizer's state to the weights if it is a copy of them, else to the start."""
    memory, region = held(optimizer.state[parameter][key])
    rows = region.units(dim, units)[1]
    here = index_on(memory.device, rows)
    if key in WEIGHTS:
        weights = held(parameter)[0].detach()
        memory.index_copy_(dim, here, weights.index_select(dim, index_on(weights.device, rows)).to(memory))
    else:
        memory.index_fill_(dim, here, _beginning(optimizer, parameter, key))


def _is_coded(value: Tensor) -> bool:
    """Whether the numbers of a state's tensor stand for others, so that none of them is known to mean zero."""
    return is_composite(value) or (value.dtype.itemsize == 1 and value.dtype != torch.bool)


def _units_of(key: str, value: Tensor, tensor: Tensor, dim: int) -> int | None:
    """Return the dimension along which a tensor of an optimizer's state has the units; ``None`` if it has none.

    Adafactor's second moments are one per row and one per column: torch's have a dimension of size 1 instead of the
    other, those of transformers and timm leave it out.
    """
    shape = tensor.shape
    if value.ndim == tensor.ndim:
        fits = all(own in (1, whole) for own, whole in zip(value.shape, shape, strict=True))
        return dim if fits and value.shape[dim] == shape[dim] else None
    last = tensor.ndim - 1
    if key.endswith(("col", "_c")):
        return value.ndim - 1 if dim == last and value.shape == (*shape[:-2], shape[-1]) else None
    return dim if dim < last and value.shape == shape[:-1] else None


def _beginning(optimizer: torch.optim.Optimizer, parameter: Tensor, key: str) -> float:
    """The number with which an optimizer begins: 0, but for Adagrad's sums and Rprop's steps."""
    groups: list[dict[str, Any]] = optimizer.param_groups
    own = next((group for group in groups if any(one is parameter for one in group["params"])), groups[0])
    if key == "sum":
        return float(own.get("initial_accumulator_value", 0.0))
    return float(own["lr"]) if key == "step_size" else 0.0


def forget(optimizers: Sequence[torch.optim.Optimizer], writes: Sequence[Write]) -> int:
    """Forget what optimizers have gathered about the tensors that were written, or about the units of them that were.

    Args:
        optimizers: their ``state`` is changed in place.
        writes: what was written.

    Returns:
        For how many parameters there was state to clear.
    """
    whole = [tensor for write in writes if not isinstance(write.fill, Partial) for tensor in write.place.held]
    count = clear_state(optimizers, whole)
    for write in writes:
        if isinstance(write.fill, Partial):
            dim, size = write.fill.dim, write.slot.shape[write.fill.dim]
            own = [tensor for tensor in write.place.held if dict(enumerate(tensor.shape)).get(dim) == size]
            count += sum(clear_units(optimizers, tensor, dim, write.fill.units) for tensor in own)
    return count
