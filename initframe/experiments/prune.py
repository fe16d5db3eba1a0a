"""Pruning: masks of the largest weights, and models that keep to them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Masks = Mapping[str, Tensor]


def largest(model: nn.Module, share: float) -> Masks:
    """Find the largest weights of each matrix and kernel (Frankle & Carbin 2019).

    >>> import torch
    >>> net = nn.Linear(4, 1, bias=False)
    >>> _ = net.weight.data.copy_(torch.tensor([[1.0, -3.0, 2.0, 0.0]]))
    >>> largest(net, 0.5)["weight"].tolist()
    [[False, True, True, False]]
    """
    weights = {name: p.detach().abs() for name, p in model.named_parameters() if p.ndim > 1 and p.requires_grad}
    return {name: size >= _threshold(size.flatten(), share) for name, size in weights.items()}


def _threshold(sizes: Tensor, share: float) -> Tensor:
    kept = max(1, round(share * len(sizes)))
    return sizes.kthvalue(len(sizes) - kept + 1).values


def keep(model: nn.Module, masks: Masks) -> list[RemovableHandle]:
    """Fix at zero what masks leave out: now, and in a training by an optimizer that moves nothing without gradient.

    Args:
        model: the model.
        masks: by the names of its parameters.

    Returns:
        Handles that end it.
    """
    handles = []
    for name, mask in masks.items():
        pruned = model.get_parameter(name)
        pruned.data = pruned.data * mask
        handles.append(pruned.register_hook(mask.mul))  # type: ignore[no-untyped-call]
    return handles
