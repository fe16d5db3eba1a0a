"""Sums and products whose operands share numbers, such as n + z·(h − n): a grid that was joined keeps its terms.

Terms are products of grids that are independent of each other, or functions of one normal. So the mean of a product of
two terms is a product of means, one for each normal, and each of these follows from Hermite coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from initframe.signal.correlations import Four, Source
from initframe.signal.grid import Grid, Piece, gaussian, replace
from initframe.signal.hermite import HERMITE, K, W, evaluated, horner
from initframe.signal.kinship import linked_by
from initframe.signal.moments import Moments, average, moments_of

KEPT = 4
"""Terms that are carried along at most; where there would be more, an operand counts as one."""

Factors = tuple[Grid, ...]
Terms = Callable[[Grid, Grid], tuple[Piece, ...]]
UNKNOWN = "related tensors are taken as independent"
ROUGH = "places are taken as any two of them"


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
                return Settled(apart, why or UNKNOWN, (), False)
            why = why or ("" if _are_sure(ours, theirs) else ROUGH)
            return Settled(moments_from(pieces, apart.field), why, pieces if len(pieces) <= KEPT else (), False)
        if not one.pieces and not other.pieces:
            break
    return Settled(apart, why, _kept(one, other, terms), True)


def _kept(one: Grid, other: Grid, terms: Terms) -> tuple[Piece, ...]:
    """The terms of two operands that share no normal, few enough to be carried along."""
    every = terms(one, other)
    if len(every) <= KEPT:
        return every
    if terms is not multiplied and (found := _with_fixed(every, one)):
        return found
    for ours, theirs in ((one, _alone(other)), (_alone(one), other)):
        pieces = terms(ours, theirs)
        if len(pieces) <= KEPT:
            return pieces
    return terms(_alone(one), _alone(other))


def _with_fixed(every: tuple[Piece, ...], like: Grid) -> tuple[Piece, ...]:
    """The terms that are the same for all inputs, such as coordinates, and all others as one; nothing without any."""
    fixed = tuple([piece for piece in every if len(piece[1]) == 1 and _is_fixed(piece[1][0])])
    if not fixed or len(fixed) >= KEPT:
        return ()
    rest = [piece for piece in every if piece not in fixed]
    return (*fixed, (1.0, (gaussian(moments_from(rest, None), like.layout),)))


def _is_fixed(grid: Grid) -> bool:
    """Whether numbers were not drawn and are the same for all inputs."""
    m = grid.moments()
    return not grid.weight and grid.source is not None and average(m.same) >= (1 - 1e-9) * average(m.square)


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
        return one.source is not None and other.source is not None and one.source.root is other.source.root
    return not {source.root for source in _sources(one)}.isdisjoint(source.root for source in _sources(other))


def _sources(grid: Grid) -> set[Source]:
    return {factor.source for _, factors in pieces_of(grid) for factor in factors if factor.source is not None}


def _are_sure(one: Grid, other: Grid) -> bool:
    """Whether it is known how each normal of a grid agrees with each of another one."""
    theirs = _sources(other)
    return all(linked_by(a, b)[1] for a in _sources(one) for b in theirs if a is not b and a.root is b.root)


def agreement(one: Grid, other: Grid) -> Four:
    """Mean products of the elements of two grids, each of one class: as the moments ``square``, ``same``, and so on."""
    if not related(one, other) and one.source is not other.source:
        mean = average(one.moments().mean) * average(other.moments().mean)
        return mean, mean, mean, mean
    found = [(a * b, _paired(x, y, None)[0]) for a, x in pieces_of(one) for b, y in pieces_of(other)]
    own, same, near, far = (math.fsum(number * means[i] for number, means in found) for i in range(4))
    return own, same, near, far


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
    for kin in _families({**ours, **theirs}):
        if len(kin) == 1:
            own, alike = _of_one(kin[0], ours.get(kin[0], _ONES), theirs.get(kin[0], _ONES), field)
        else:
            own, alike = _of_kin([one for one in kin if one], ours, theirs), None
        means = [x * y for x, y in zip(means, own, strict=True)]
        if offsets is None:
            continue
        if alike is None:
            alike = torch.full_like(offsets, own[2])
            alike[0, 0] = own[0]
        offsets = offsets * alike
    return means, offsets


def _families(sources: Iterable[Source | None]) -> Iterable[list[Source | None]]:
    """The sources, those of one root together."""
    found: dict[Source | None, list[Source | None]] = {}
    for source in sources:
        found.setdefault(source and source.root, []).append(source)
    return found.values()


def _of_one(source: Source | None, f: Tensor, g: Tensor, field: Tensor | None) -> tuple[list[float], Tensor | None]:
    """Mean products of two functions of one normal."""
    square = torch.dot(f * g, W).item()
    of = None if source is None else source.correlations
    if of is None:
        return [square, square, square, square], None if field is None else torch.full_like(field, square)
    coefficients = [*((HERMITE @ f) * (HERMITE @ g)).tolist(), 0.0]
    means = [square, *(horner(coefficients, average(c)) for c in of.pairs[:3])]
    if field is None or of.powers is None:
        return means, None
    return means, evaluated(coefficients, of.powers).view(field.shape)


def _of_kin(kin: list[Source], ours: Mapping[Any, Tensor], theirs: Mapping[Any, Tensor]) -> list[float]:
    """Mean products of functions of several related normals: exact for two of them.

    Of more, which the pairs of two products are, what any two of them share is counted as of normal elements.
    """
    together = [(source, ours.get(source, _ONES) * theirs.get(source, _ONES), 0) for source in kin]
    found = [_closed(together, 0)]
    apart = [(source, side[source], i) for i, side in enumerate((ours, theirs)) for source in kin if source in side]
    return found + [_closed(apart, which) for which in (1, 2, 3)]


def _closed(functions: Sequence[tuple[Source, Tensor, int]], which: int) -> float:
    """The mean of a product of functions of related normals, each of one of two elements.

    Args:
        functions: the normal, the function on its grid, and the number of the element.
        which: how the two elements are related, as the moments ``square``, ``same``, ``near`` and ``far`` are.
    """
    if not functions:
        return 1.0
    (source, f, of), *rest = functions
    total = torch.dot(f, W).item() * _closed(rest, which)
    for i, (other, g, its) in enumerate(rest):
        correlation = linked_by(source, other)[0][which if of != its else 0]
        shared = horner([0.0, *((HERMITE @ f) * (HERMITE @ g)).tolist()[1:]], correlation)
        if shared:
            total += shared * _closed([*rest[:i], *rest[i + 1 :]], which)
    return total


def _by_source(factors: Factors) -> dict[Source | None, Tensor]:
    """The product of the factors that are functions of one normal, on the grid."""
    found: dict[Source | None, Tensor] = {}
    for grid in factors:
        found[grid.source] = found.get(grid.source, _ONES) * grid.values[0]
    return found


_ONES = torch.ones(K, dtype=torch.float64, device="cpu")
