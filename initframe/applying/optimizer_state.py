"""What a new initialization leaves behind elsewhere: optimizer state, and averaged copies of the old weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Any

import torch
from torch import Tensor, nn

from initframe.errors import Problem, ResolveError
from initframe.model.memory import footprint
from initframe.model.names import unwrap

_AVERAGING = ("AveragedModel", "ModelEma", "ModelEmaV2", "ModelEmaV3", "EMA", "EMAModel", "ExponentialMovingAverage")
"""Class names of averaged copies: torch's, timm's, and what others call theirs."""


Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]


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

    >>> layer = nn.Linear(2, 2)
    >>> adam = torch.optim.Adam(layer.parameters())
    >>> layer(torch.ones(2)).sum().backward()
    >>> _ = adam.step()
    >>> clear_state([adam], [layer.weight]), layer.bias in adam.state
    (1, True)
    """
    written = set(map(footprint, touched))
    forgotten: dict[int, Tensor] = {}
    for inner in _with_wrapped(optimizers):
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


def _with_wrapped(optimizers: Iterable[torch.optim.Optimizer]) -> Iterator[torch.optim.Optimizer]:
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


def stale_copies(model: object, touched: Iterable[Tensor]) -> tuple[str, ...]:
    """Name the averaged copies inside a model that still hold weights from before.

    A copy is known by its class, and its source by class and names: the copy is stale if a parameter of such a module
    was written, and its own of the same name was not.

    Args:
        model: as it was given, wrappers included; anything but a module has none.
        touched: the parameter objects that were written.

    Returns:
        Names of the copies, as they stand in the model.
    """
    written = set(map(id, touched))
    if not written or not isinstance(model, nn.Module):
        return ()
    if not any(type(module).__name__ in _AVERAGING for module in model.modules()):
        return ()
    copies = {name: module for name, module in model.named_modules() if name and type(module).__name__ in _AVERAGING}
    inside = {id(module) for copy in copies.values() for module in copy.modules()}
    others = [module for module in model.modules() if id(module) not in inside]
    return tuple(name for name, copy in copies.items() if _is_behind(copy, others, written))


def _is_behind(copy: nn.Module, others: Iterable[nn.Module], written: Set[int]) -> bool:
    """Whether a parameter was written, and the same one of a copy of its module was not."""
    inner = unwrap(copy)
    for net in [inner] if inner is not copy else copy.children():
        own = dict(net.named_parameters())
        for other in others:
            if type(other) is type(net):
                theirs = dict(other.named_parameters())
                pairs = [(own[name], theirs[name]) for name in own.keys() & theirs.keys()]
                if any(id(source) in written and id(mine) not in written for mine, source in pairs):
                    return True
    return False
