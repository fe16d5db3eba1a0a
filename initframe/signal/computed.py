"""Weights that weight norm, spectral norm, pruning and other parametrizations compute, as a plan fills them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from initframe.fills import Constant, Fill, Whole
from initframe.model.computed import Parametrization
from initframe.model.names import walk
from initframe.model.parametrizations import ORTHOGONAL, parametrizations
from initframe.signal.grid import Grid, constant, gaussian, replace
from initframe.signal.layout import channels
from initframe.signal.moments import moments_of
from initframe.signal.states import States


class Computed(NamedTuple):
    """A weight that weight_norm, spectral_norm, pruning or the like computes.

    Attributes:
        name: of the weight.
        prefix: the name of its module.
        fill: what the plan fills it with.
        how: how it is computed.
    """

    name: str
    prefix: str
    fill: Fill
    how: Parametrization

    def originals(self) -> dict[str, Tensor]:
        """The tensors that it is computed from, by name."""
        return {".".join(filter(None, (self.prefix, key))): tensor for key, tensor in self.how.originals.items()}


def computed_by(model: nn.Module, fills: Mapping[str, Fill]) -> list[Computed]:
    """Find how tensors are computed that are no parameters.

    Args:
        model: any module.
        fills: theirs, by name.
    """
    found = []
    modules = dict(walk(model)) if fills else {}
    for name, fill in fills.items():
        prefix, dot, own = name.rpartition(".")
        how = parametrizations(modules[prefix + dot]).get(own)
        if how is not None:
            found.append(Computed(name, prefix, fill, how))
    return found


def originals(computed: Sequence[Computed]) -> dict[str, Fill]:
    """The fills of what weight_norm, spectral_norm and pruning compute tensors from."""
    found: dict[str, Fill] = {}
    for one in computed:
        originals, fill = one.originals(), one.fill
        if one.how.exact and len(originals) == 2:  # lengths, directions
            (lengths, g), (directions, v) = originals.items()
            square = fill.std**2 + fill.mean**2
            found |= {directions: fill, lengths: Constant(math.sqrt(square * v.numel() / max(g.numel(), 1)))}
        elif len(originals) == 1 and (one.how.renewed or one.how.state):
            found |= dict.fromkeys(originals, fill)
    return found


def assumed(computed: Sequence[Computed], states: States) -> dict[str, Grid]:
    """Assume that other parametrizations give back what is filled, as far as their right_inverse is one.

    Args:
        computed: weights that are computed.
        states: are told what is assumed of them.

    Returns:
        What is assumed of the tensors that they are computed from, by name.
    """
    found: dict[str, Grid] = {}
    for one in computed:
        how, shape = one.how, one.how.shape
        if how.linear or how.renewed or shape is None or math.isnan(one.fill.std) or len(shape) < 2:
            continue
        if how.notes == (ORTHOGONAL,):
            states.assumed[one.name] = gaussian(moments_of(0.0, 1 / max(shape[-2:])), channels(shape), weight=True)
            continue
        state = drawn(one.fill, shape)
        states.assumed[one.name] = replace(state, why=RETURNED)
        found |= {name: replace(drawn(one.fill, tuple(t.shape)), why=RETURNED) for name, t in one.originals().items()}
    return found


RETURNED = "a parametrization is taken to give back what the plan fills"


def drawn(fill: Fill, shape: Sequence[int]) -> Grid:
    """The state of a tensor that a plan fills."""
    layout = channels(shape)
    if isinstance(fill, Constant) or fill.std == 0:
        return constant(fill.mean, layout, weight=True)
    mean = 0.0 if isinstance(fill, Whole) else fill.mean
    square = fill.std**2 + fill.mean**2
    return gaussian(moments_of(mean, square, mean**2, mean**2, mean**2), layout, weight=True)
