"""Rules of complex numbers: a complex tensor has the grid of its parts, real and imaginary, which are alike."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from initframe.signal.combine import product as product_of
from initframe.signal.combine import total
from initframe.signal.grid import Grid, independent, replace
from initframe.signal.layout import Factor, Layout
from initframe.signal.states import Operation, Rule, State, distribution, related_over


def joined(op: Operation) -> State:
    """Pairs of real numbers as complex ones."""
    grid = op.grid("self")
    return grid and replace(grid, layout=Layout(grid.layout.dims[:-1]))


def taken_apart(op: Operation) -> State:
    """Complex numbers as pairs of real ones."""
    grid = op.grid("self")
    return grid and replace(grid, layout=Layout((*grid.layout.dims, (Factor("channel", 2),))))


def elementwise(op: Operation, run: Callable[[Operation], State]) -> State:
    """An elementwise operation with complex numbers: what is linear runs on the parts, a product has a rule here.

    Args:
        op: the operation.
        run: the rule of elementwise operations.
    """
    if not op.out.is_complex() or op.name not in ("add", "sub", "neg", "mul"):
        return None
    both = all(isinstance(one, Tensor) and one.is_complex() for one in (op["self"], op.given.get("other")))
    return product(op) if op.name == "mul" and both else run(op)


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
    return None


RULES: dict[str, Rule] = {"view_as_complex": joined, "view_as_real": taken_apart}
