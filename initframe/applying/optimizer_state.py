"""What a new initialization leaves behind elsewhere: optimizer state, and averaged copies of the old weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

import torch
from torch import Tensor, nn

from initframe.errors import Problem, ResolveError
from initframe.model.memory import footprint
from initframe.model.names import unwrap

_AVERAGING = ("AveragedModel", "ModelEma", "ModelEmaV2", "ModelEmaV3", "EMA", "EMAModel", "ExponentialMovingAverage")
"""Class names of averaged copies: torch's, timm's, and what others call theirs."""


def check_optimizer(optimizer: object) -> None:
    """Refuse what keeps no state by parameter, before anything is written.

    Raises:
        ResolveError: it is no torch optimizer.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        kind = type(optimizer).__name__
        fact, fix = f"got {kind}, which is no torch.optim.Optimizer.", "Pass the one that holds the parameters."
        raise ResolveError(Problem("optimizer", fact, fix=fix))


def clear_state(optimizer: torch.optim.Optimizer, touched: Iterable[Tensor]) -> int:
    """Forget what an optimizer has gathered about tensors that were reinitialized; the rest stays.

    A parameter is known by its memory, so that a state_dict's tensors will do. What an optimizer wraps
    (ZeroRedundancyOptimizer, Lookahead) forgets, too.

    Args:
        optimizer: its ``state`` is changed in place; parameter groups are not.
        touched: the tensors that were written.

    Returns:
        For how many parameters there was state to clear.

    >>> layer = nn.Linear(2, 2)
    >>> adam = torch.optim.Adam(layer.parameters())
    >>> layer(torch.ones(2)).sum().backward()
    >>> _ = adam.step()
    >>> clear_state(adam, [layer.weight]), layer.bias in adam.state
    (1, True)
    """
    written = set(map(footprint, touched))
    forgotten: dict[int, Tensor] = {}
    for inner in with_wrapped(optimizer):
        mine = [tensor for tensor, state in inner.state.items() if state and footprint(tensor) in written]
        for tensor in mine:
            del inner.state[tensor]
        if mine and isinstance(inner, torch.optim.Adagrad):
            # In older versions of torch it has state from the beginning, and no step works without.
            inner.state.update(torch.optim.Adagrad(mine, **inner.defaults).state)
        forgotten |= {id(tensor): tensor for tensor in mine}
    return len(forgotten)


def with_wrapped(optimizer: torch.optim.Optimizer) -> Iterator[torch.optim.Optimizer]:
    """Give an optimizer and those that it wraps, however deep."""
    waiting, seen = [optimizer], {id(optimizer)}
    while waiting:
        inner = waiting.pop()
        yield inner
        wrapped = [w for w in vars(inner).values() if isinstance(w, torch.optim.Optimizer) and id(w) not in seen]
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
