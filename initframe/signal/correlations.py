"""The normal variables behind elements, and how those of two elements are correlated."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from initframe.signal.hermite import evaluated, powers
from initframe.signal.moments import Moments, Number, average
from initframe.signal.quantiles import place


class Pairs(NamedTuple):
    """Correlations of z between two elements; the fields are those of :class:`~initframe.signal.moments.Moments`."""

    same: Number
    near: Number
    far: Number
    field: Tensor | None = None


class Correlations:
    """Correlations of z between two elements, found when they are asked for; compared by identity.

    Args:
        find: finds them.

    Attributes:
        known: the moments of laws under these correlations, so far; parts and views of a tensor ask again for the same.
    """

    def __init__(self, find: Callable[[], Pairs]) -> None:
        self._find = find
        self.known: dict[object, Moments] = {}

    @cached_property
    def pairs(self) -> Pairs:
        """Of each kind of pairs."""
        return self._find()

    @cached_property
    def powers(self) -> Tensor | None:
        """The powers of the field: several functions of a normal ask."""
        return None if self.pairs.field is None else powers(self.pairs.field)


Four = tuple[float, float, float, float]
"""Correlations with an element: of the same place, of another input, of another place, and of both."""


class Link(NamedTuple):
    """How a normal variable follows from another one, which it is not independent of.

    Attributes:
        to: the other one.
        apart: what an element differs in from that of the same index there: ``"batch"``, ``"position"``, or both.
        found: the correlations of z, if the variable is no part of the other one but computed from it.
    """

    to: Source
    apart: frozenset[str]
    found: Callable[[], Four] | None = None


class Source:
    """A normal variable per element; compared by identity.

    Args:
        correlations: between elements; those of other elements may be the same.
        link: how it follows from another one; without it, it is independent of all others.

    Attributes:
        root: the source at the end of the links.
        parts: the sources of its parts, by what was taken, so that the same part has the same source.
    """

    def __init__(self, correlations: Correlations, link: Link | None = None) -> None:
        self.correlations, self.link = correlations, link
        self.root: Source = self if link is None else link.to.root
        self.parts: dict[Hashable, Source] = {}


def matching(series: tuple[list[float], float], moments: Moments) -> Pairs:
    """The correlations at which a function of a normal has the given moments.

    Args:
        series: the function's Hermite coefficients and its mean square.
        moments: of one class of positions.
    """
    squares = [a * a for a in series[0]]
    squares.append(max(series[1] - sum(squares), 0.0))
    curve = evaluated(squares, _POWERS).cummax(0).values
    targets, field = torch.tensor([*map(average, moments[2:5])], dtype=torch.float64, device="cpu"), moments.field
    if field is not None:
        targets = torch.cat([targets, field.reshape(-1)])
    found = place(targets, curve).mul_(2 / (len(curve) - 1)).sub_(1)
    same, near, far = found[:3].tolist()
    return Pairs(same, near, far, None if field is None else found[3:].view(field.shape))


_POWERS = powers(torch.linspace(-1, 1, 401, dtype=torch.float64, device="cpu"))
"""Of evenly spaced correlations: what gives the curve from them to a mean product, which is read backwards."""
