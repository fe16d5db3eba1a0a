"""What a new initialization leaves behind elsewhere: optimizer state, and averaged copies of the old weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from initframe.errors import ResolveError

_AVERAGING = ("AveragedModel", "ModelEma", "ModelEmaV2", "ModelEmaV3", "EMA", "EMAModel", "ExponentialMovingAverage")
"""Class names of averaged copies: torch's, timm's, and what others call theirs."""


def check_optimizer(optimizer: object) -> None:
    """Refuse what keeps no state by parameter, before anything is written.

    Raises:
        ResolveError: it is no torch optimizer.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        kind = type(optimizer).__name__
        raise ResolveError(
            f"optimizer= takes a torch.optim.Optimizer, got {kind}. Pass the one that holds the parameters."
        )


def clear_state(optimizer: torch.optim.Optimizer, touched: Iterable[Tensor]) -> int:
    """Forget what an optimizer has gathered about tensors that were reinitialized; the rest stays.

    Args:
        optimizer: its ``state`` is changed in place; parameter groups are not.
        touched: the parameter objects that were written.

    Returns:
        For how many parameters there was state to clear.

    >>> layer = nn.Linear(2, 2)
    >>> adam = torch.optim.Adam(layer.parameters())
    >>> layer(torch.ones(2)).sum().backward()
    >>> _ = adam.step()
    >>> clear_state(adam, [layer.weight]), layer.bias in adam.state
    (1, True)
    """
    forgotten = [tensor for tensor in touched if optimizer.state.pop(tensor, None) is not None]
    if forgotten and isinstance(optimizer, torch.optim.Adagrad):
        # In older versions of torch it has state from the beginning, and no step works without.
        optimizer.state.update(torch.optim.Adagrad(forgotten, **optimizer.defaults).state)
    return len(forgotten)


def stale_copies(model: object, touched: Iterable[Tensor]) -> tuple[str, ...]:
    """Averaged copies inside a model that still hold the weights from before.

    Args:
        model: as it was given, wrappers included; anything but a module has none.
        touched: the parameter objects that were written.

    Returns:
        Names of the copies, as they stand in the model.
    """
    written = {id(tensor) for tensor in touched}
    if not written or not isinstance(model, nn.Module):
        return ()
    copies = ((name, module) for name, module in model.named_modules() if name and type(module).__name__ in _AVERAGING)
    return tuple(name for name, copy in copies if written.isdisjoint(map(id, copy.parameters())))
