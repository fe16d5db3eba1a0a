"""An initializer's tensor, from its shape."""

import torch
from torch import nn

import initframe
from initframe.initializers import get


def slot_of(shape, name="w.weight", **facts):
    """A slot with the fans of a layer whose weight has this shape."""
    fans = {}
    if len(shape) > 1:
        fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(torch.empty(shape, device="meta"))
        fans = {"fan_in": fan_in, "fan_out": fan_out}
    return initframe.Slot(name, tuple(shape), **fans | facts)


def fill_of(init, shape, name="w.weight", **arguments):
    return get(init)(slot_of(shape, name), **arguments)


def drawn(init, shape, name="w.weight", seed=0, **arguments):
    """What the initializer puts into a tensor of the shape."""
    fill = fill_of(init, shape, name, **arguments)
    return initframe.fill_(torch.empty(shape), fill, name=name, seed=seed)
