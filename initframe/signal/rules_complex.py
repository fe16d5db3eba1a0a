"""Rules of complex numbers: a complex tensor has the grid of its parts, real and imaginary, which are alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from initframe.signal.combine import mixture, spread_over, total
from initframe.signal.combine import product as product_of
from initframe.signal.dependence import related
from initframe.signal.grid import Grid, constant, independent, remarked, replace
from initframe.signal.layout import Factor, Layout
from initframe.signal.remarks import Remark
from initframe.signal.rules_views import Parts, same
from initframe.signal.states import Operation, Rule, State, distribution, related_over


@dataclass(frozen=True, eq=False)
class Halves(Remark):
    """Of a complex tensor whose real and imaginary parts differ: their grids."""

    outlives = frozenset(("layout",))

    real: Grid
    imaginary: Grid


def halves(grid: Grid) -> tuple[Grid, Grid]:
    """The grids of the real and of the imaginary parts of a complex tensor."""
    known = grid.remark(Halves)
    return (grid, independent(grid)) if known is None else (known.real, known.imaginary)


def complex_of(real: Grid, imaginary: Grid) -> Grid:
    """The grid of a complex tensor, from those of its parts."""
    return remarked(mixture([(0.5, real), (0.5, imaginary)], real.layout), Halves(real, imaginary))


def joined(op: Operation) -> State:
    """Pairs of real numbers as complex ones."""
    grid = op.grid("self")
    return grid and replace(grid, layout=Layout(grid.layout.dims[:-1]))


def taken_apart(op: Operation) -> State:
    """Complex numbers as pairs of real ones."""
    grid = op.grid("self")
    if grid is None:
        return None
    pair = (Factor("channel", 2),)
    out = replace(grid, layout=Layout((*grid.layout.dims, pair)))
    if grid.remark(Halves) is None:
        return out
    each = tuple(replace(one, layout=Layout((*grid.layout.dims, (Factor("channel", 1),)))) for one in halves(grid))
    return remarked(out, Parts(len(grid.layout.dims), (1, 1), each))


def put_together(op: Operation) -> State:
    """Complex numbers of two real tensors."""
    real, imaginary = op.grid("real"), op.grid("imag")
    return None if real is None or imaginary is None else complex_of(real, imaginary)


def elementwise(op: Operation, run: Callable[[Operation], State]) -> State:
    """An elementwise operation with complex numbers: what is linear runs on the parts, a product has a rule here.

    Args:
        op: the operation.
        run: the rule of elementwise operations.
    """
    if not op.out.is_complex() or op.name not in ("add", "sub", "neg", "mul"):
        return None
    operands = [one for one in (op["self"], op.given.get("other")) if isinstance(one, Tensor)]
    if op.name == "mul" and len(operands) == 2 and all(one.is_complex() for one in operands):
        return product(op)
    found = run(op)
    grids = [op.states.grid(one) for one in operands]
    if isinstance(found, Grid) and any(grid is not None and grid.remark(Halves) for grid in grids):
        return replace(found, why=found.why or "real and imaginary parts are taken as alike")
    return found


def product(op: Operation) -> State:
    """A product with known complex numbers, as rotary embeddings have: a·c − b·d for the real part, and its like."""
    for name, other in (("self", "other"), ("other", "self")):
        known = op.known(other)
        grid = op.states.get(op[name]) if isinstance(op[name], Tensor) else None
        if known is None or not known.is_complex() or not isinstance(grid, Grid):
            continue
        layout = grid.layout.fitted(op.shape)
        parts = [related_over(part, distribution(part), layout) for part in (known.real, known.imag)]
        one, two = (product_of(g, part, layout) for g, part in zip((grid, independent(grid)), parts, strict=True))
        return total(one, two, layout)
    return _of_both(op)


def _of_both(op: Operation) -> State:
    """A product of two tensors that are known by their distributions: a·c − b·d and a·d + b·c."""
    one, other = op.grid("self"), op.grid("other")
    if one is None or other is None or one.source is None or other.source is None or related(one, other):
        return None
    if one.source is other.source or one.classes > 1 or other.classes > 1:
        return None  # a power: its parts share numbers
    lead = one if math.prod(one.layout.shape) >= math.prod(other.layout.shape) else other
    layout = lead.layout.fitted(op.shape)
    (a, b), (c, d) = ([spread_over(half, layout) for half in halves(grid)] for grid in (one, other))
    real = total(product_of(a, c, layout), product_of(b, d, layout), layout, -1.0)
    imaginary = total(product_of(a, d, layout), product_of(b, c, layout), layout)
    return complex_of(real, independent(imaginary))


def cast(op: Operation) -> State:
    """The same elements as another kind of numbers; real ones have no imaginary part."""
    found = same(op)
    if isinstance(found, Grid) and op.out.is_complex() and not op["self"].is_complex():
        return complex_of(found, constant(0.0, found.layout))
    return found


RULES: dict[str, Rule] = {
    "view_as_complex": joined,
    "view_as_real": taken_apart,
    "complex": put_together,
    "_to_copy": cast,
}
