"""Normals that are not independent: of parts of one tensor, and of what was computed from it.

Two parts along the batch, or along positions, are the same channels: their elements agree as two inputs do, or two
places. So a difference of two halves, or the products of one half with the other, hold what inputs have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Set

from initframe.signal.correlations import Four, Link, Source
from initframe.signal.grid import Grid, independent, remarked, replace
from initframe.signal.layout import Role
from initframe.signal.moments import average


def part_of(grid: Grid, apart: Set[str], taken: Hashable = None) -> Grid:
    """Elements of a grid that differ from those with the same index only in their input or place.

    They are the same functions of other normals, which are related as inputs and places are. Parts along channels are
    independent.

    Args:
        grid: what the elements are taken from.
        apart: the roles of the dimensions along which they are taken.
        taken: what was taken, so that the same part again is the same tensor; ``None`` if nobody can tell.
    """
    if grid.source is None:
        return grid
    if not apart or "channel" in apart:
        return independent(grid)
    new = remarked(replace(grid, source=_part_of(grid.source, apart, taken)), *independent(grid).remarks)
    if len(grid.pieces) <= 2:
        new.__dict__["pieces"] = tuple(
            [(number, tuple([_factor(one, apart, taken) for one in factors])) for number, factors in grid.pieces]
        )
    return new


def _factor(grid: Grid, apart: Set[str], taken: Hashable) -> Grid:
    """The part of a factor of a term."""
    return grid if grid.source is None else replace(grid, source=_part_of(grid.source, apart, taken))


def _part_of(source: Source, apart: Set[str], taken: Hashable) -> Source:
    known = None if taken is None else source.parts.get(taken)
    if known is None:
        known = Source(source.correlations, Link(source, frozenset(apart)))
        if taken is not None:
            source.parts[taken] = known
    return known


def follows(grid: Grid, source: Source, apart: Set[str] = frozenset(), found: Callable[[], Four] | None = None) -> Grid:
    """The grid with a normal that follows from another one.

    Args:
        grid: whose normal is not linked yet.
        source: the other normal.
        apart: as of :class:`~initframe.signal.correlations.Link`.
        found: likewise.
    """
    if grid.source is None:
        return grid
    known = Source(grid.source.correlations, Link(source, frozenset(apart), found))
    return remarked(replace(grid, source=known), *grid.remarks)


def crossed(grids: Mapping[str, Grid], dims: int) -> dict[str, Grid]:
    """The operands of an elementwise operation, those apart that are one tensor broadcast along different dimensions.

    Args:
        grids: by argument.
        dims: of the result.
    """
    found: dict[str, Grid] = {}
    for name, grid in grids.items():
        first = next((one for one in found.values() if one.source is grid.source), None)
        shape = () if first is None else _aligned(grid, dims)
        if first is None or grid.source is None or shape == _aligned(first, dims):
            found[name] = grid
            continue
        apart: set[Role] = set()
        for d, (one, other) in enumerate(zip(_aligned(first, dims), shape, strict=True)):
            if one != other:
                layout = (first if one > 1 else grid).layout
                apart |= layout.roles(d - dims)
        found[name] = replace(part_of(grid, apart), why=grid.why or PAIRED)
    return found


PAIRED = "pairs of a tensor's elements: an element with itself counts as any other pair"


def _aligned(grid: Grid, dims: int) -> tuple[int, ...]:
    shape = grid.layout.shape
    return (1,) * (dims - len(shape)) + shape


def linked_by(one: Source, other: Source) -> tuple[Four, bool]:
    """The correlations of z between elements of two sources that have the same root, and whether they are sure.

    >>> from initframe.signal.correlations import Correlations, Pairs
    >>> x = Source(Correlations(lambda: Pairs(0.5, 0.25, 0.125)))
    >>> first, second = (Source(x.correlations, Link(x, frozenset(["batch"]))) for _ in range(2))
    >>> linked_by(x, x)[0], linked_by(first, second)[0]
    ((1.0, 0.5, 0.25, 0.125), (0.5, 0.5, 0.125, 0.125))
    """
    others = list(_line(other))
    common = next(source for source in _line(one) if any(source is same for same in others))
    links = [source.link for start in (one, other) for source in _until(start, common)]
    apart = {role for link in links if link for role in link.apart}
    computed = [link.found for link in links if link and link.found]
    if len(computed) > 1:
        return (0.0, 0.0, 0.0, 0.0), False
    if computed:
        return apart_by(computed[0](), apart), True
    same, near, far, field = common.correlations.pairs
    four = (1.0, average(same), average(near), average(far))
    return apart_by(four, apart), field is None or "position" not in apart  # neighbours agree more than other places


def apart_by(four: Four, apart: Collection[str]) -> Four:
    """What is true of two elements that are of other inputs or places, besides what their indices say.

    >>> apart_by((1.0, 0.5, 0.25, 0.125), {"position"})
    (0.25, 0.125, 0.25, 0.125)
    """
    own, same, near, far = four
    if "batch" in apart:
        own, near = same, far
    if "position" in apart:
        own, same = near, far
    return own, same, near, far


def _line(source: Source) -> Iterator[Source]:
    """A source, and what it follows from."""
    yield source
    while source.link is not None:
        source = source.link.to
        yield source


def _until(source: Source, end: Source) -> Iterator[Source]:
    """A source, and what it follows from, up to one of them."""
    while source is not end and source.link is not None:
        yield source
        source = source.link.to
