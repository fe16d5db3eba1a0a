"""Sums and products whose operands share numbers, such as n + z·(h − n): a grid that was joined keeps its terms.

Terms are products of grids that are independent of each other, or functions of one normal. So the mean of a product of
two terms is a product of means, one for each normal, and each of these follows from Hermite coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from initframe.signal.correlations import Source
from initframe.signal.grid import Grid, Piece, replace
from initframe.signal.hermite import HERMITE, K, W, evaluated, horner
from initframe.signal.moments import Moments, average, moments_of

KEPT = 4
"""Terms that are carried along at most; where there would be more, an operand counts as one."""

Factors = tuple[Grid, ...]
Terms = Callable[[Grid, Grid], tuple[Piece, ...]]


def pieces_of(grid: Grid) -> tuple[Piece, ...]:
    """The terms of a grid; of one that was not joined, itself."""
    return grid.pieces or ((1.0, (grid,)),)


def summed(one: Grid, other: Grid, sign: float = 1.0) -> tuple[Piece, ...]:
    """The terms of a sum; none if one operand has several classes of positions."""
    if one.classes > 1 or other.classes > 1:
        return ()
    return (*pieces_of(one), *((sign * number, factors) for number, factors in pieces_of(other)))


def difference(one: Grid, other: Grid) -> tuple[Piece, ...]:
    """The terms of a difference; none if one operand has several classes of positions."""
    return summed(one, other, -1.0)


def multiplied(one: Grid, other: Grid) -> tuple[Piece, ...]:
    """The terms of a product; none if one operand has several classes of positions."""
    if one.classes > 1 or other.classes > 1:
        return ()
    return tuple([(a * b, (*x, *y)) for a, x in pieces_of(one) for b, y in pieces_of(other)])


class Settled(NamedTuple):
    """What is known of a sum or product.

    Attributes:
        moments: of the result.
        why: why it is an approximation.
        pieces: its terms.
        apart: whether the operands are independent.
    """

    moments: Moments
    why: str
    pieces: tuple[Piece, ...]
    apart: bool


def settled(one: Grid, other: Grid, apart: Moments, terms: Terms) -> Settled:
    """What is known of a sum or product.

    Args:
        one: an operand.
        other: the other one.
        apart: the moments, if they are independent.
        terms: :func:`summed`, :func:`difference` or :func:`multiplied`.
    """
    why = one.why or other.why
    for ours, theirs in ((one, other), (one, _alone(other)), (_alone(one), other)):
        if related(ours, theirs):
            pieces = terms(ours, theirs)
            if not pieces:
                return Settled(apart, why or "related tensors are taken as independent", (), False)
            return Settled(moments_from(pieces, apart.field), why, pieces if len(pieces) <= KEPT else (), False)
        if not one.pieces and not other.pieces:
            break
    return Settled(apart, why, _kept(one, other, terms), True)


def _kept(one: Grid, other: Grid, terms: Terms) -> tuple[Piece, ...]:
    """The terms of two operands that share no normal, few enough to be carried along."""
    for ours, theirs in ((one, other), (one, _alone(other)), (_alone(one), other)):
        pieces = terms(ours, theirs)
        if len(pieces) <= KEPT:
            return pieces
    return terms(_alone(one), _alone(other))


def _alone(grid: Grid) -> Grid:
    """A grid without its terms."""
    return replace(grid, pieces=())


def related(one: Grid, other: Grid) -> bool:
    """Whether two grids of different sources share a normal.

    >>> from initframe.signal.combine import total
    >>> from initframe.signal.grid import gaussian
    >>> from initframe.signal.layout import Layout
    >>> x, y = (gaussian(moments_of(0.0, 1.0), Layout(())) for _ in range(2))
    >>> related(x, y), related(x, total(x, y, Layout(())))
    (False, True)
    """
    if not one.pieces and not other.pieces:
        return False
    return not _sources(one).isdisjoint(_sources(other))


def _sources(grid: Grid) -> set[Source]:
    return {factor.source for _, factors in pieces_of(grid) for factor in factors if factor.source is not None}


def moments_from(pieces: Sequence[Piece], field: Tensor | None) -> Moments:
    """The moments of a sum of products.

    Args:
        pieces: the terms.
        field: of the same shape as the autocovariance that is wanted, or ``None`` if none is.

    The sum of x and −x/2 is x/2:

    >>> from initframe.signal.grid import gaussian
    >>> from initframe.signal.layout import Layout
    >>> x = gaussian(moments_of(0.0, 4.0, 2.0), Layout(()))
    >>> [round(m, 6) for m in moments_from([(1.0, (x,)), (-0.5, (x,))], None)[1:3]]
    [1.0, 0.5]
    """
    mean = math.fsum(number * _paired(factors, (), None)[0][0] for number, factors in pieces)
    found = [(a * b, *_paired(x, y, field)) for a, x in pieces for b, y in pieces]
    square, same, near, far = (math.fsum(number * means[i] for number, means, _ in found) for i in range(4))
    moments = moments_of(mean, square, same, near, far)
    if field is None:
        return moments
    offsets = [number * own for number, _, own in found if own is not None]
    return moments._replace(field=torch.stack(offsets).sum(0))


def _paired(one: Factors, other: Factors, field: Tensor | None) -> tuple[list[float], Tensor | None]:
    """Mean products of an element of a term with one of another: the same one, and those that moments know.

    Returns:
        The mean products ``square``, ``same``, ``near``, ``far``, and those at each offset of a field.
    """
    ours, theirs = _by_source(one), _by_source(other)
    means, offsets = [1.0] * 4, None if field is None else torch.ones_like(field)
    for source in {**ours, **theirs}:
        f, g = ours.get(source, _ONES), theirs.get(source, _ONES)
        square = torch.dot(f * g, W).item()
        coefficients = [*((HERMITE @ f) * (HERMITE @ g)).tolist(), 0.0]
        of = None if source is None else source.correlations
        pairs = [square] * 3 if of is None else [horner(coefficients, average(c)) for c in of.pairs[:3]]
        means = [x * y for x, y in zip(means, (square, *pairs), strict=True)]
        if offsets is None:
            continue
        if of is None or of.powers is None:
            alike = torch.full_like(offsets, pairs[1])
            alike[0, 0] = square
        else:
            alike = evaluated(coefficients, of.powers).view(offsets.shape)
        offsets = offsets * alike
    return means, offsets


def _by_source(factors: Factors) -> dict[Source | None, Tensor]:
    """The product of the factors that are functions of one normal, on the grid."""
    found: dict[Source | None, Tensor] = {}
    for grid in factors:
        found[grid.source] = found.get(grid.source, _ONES) * grid.values[0]
    return found


_ONES = torch.ones(K, dtype=torch.float64, device="cpu")
