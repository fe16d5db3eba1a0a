"""Rules of spectral norm: the power iteration of a random weight ends at a known singular value.

A matrix of independent elements has singular values up to σ·(√rows + √columns) (Marchenko & Pastur 1967). What a finite
number of steps finds is a little less: the root of a ratio of two moments of their distribution. Small matrices end
below that limit, too (by about their size to the power of −2/3), so for these the iteration itself is run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.nn import functional

from initframe.fills import Fill, Orthogonal
from initframe.fills.composed import Around
from initframe.signal.grid import Grid, constant, gaussian, remarked
from initframe.signal.layout import channels
from initframe.signal.moments import average
from initframe.signal.remarks import Remark
from initframe.signal.rules_linear import summed
from initframe.signal.states import Operation, Rule, State

STEPS = 15
"""Steps that torch, and a write to such a weight, take before the first forward pass."""


DRAWN = 2**18
"""Up to how many elements a matrix is drawn to run the iteration."""
SAMPLE = 8
"""How many are drawn."""


@dataclass(frozen=True, eq=False)
class Singular(Remark):
    """Of a vector that a power iteration makes, the singular value that it has found."""

    outlives = frozenset(("law", "source", "layout", "elements"))

    value: float


def matrix_vector(op: Operation) -> State:
    """A matrix times a vector; a weight times a vector that the model keeps is a step of a power iteration."""
    weight, x = op.grid("self"), op.grid("vec")
    if weight is None or x is None:
        return None
    rows, columns = op["self"].shape
    y = gaussian(summed(x.moments(), weight, columns), channels(op.shape), why=x.why)
    if not weight.weight or (x.remark(Singular) is None and op.known("vec") is None):
        return y
    return remarked(y, Singular(largest(weight, op.states.fill(weight), rows, columns)))


def inner(op: Operation) -> State:
    """The product of two vectors; at the end of a power iteration, the singular value."""
    grids = [op.grid("self"), op.grid("other" if "other" in op.given else "tensor")]
    found = next((known for one in grids if one and (known := one.remark(Singular))), None)
    return None if found is None else constant(found.value, channels(op.shape), weight=True)


def largest(weight: Grid, fill: Fill | None, rows: int, columns: int) -> float:
    """The largest singular value that a power iteration finds.

    Args:
        weight: the matrix.
        fill: that it stands for: orthogonal ones have equal singular values.
        rows: of the matrix.
        columns: of the matrix.
    """
    root = math.sqrt(average(weight.moments().square))
    while isinstance(fill, Around):
        fill = fill.fill
    if isinstance(fill, Orthogonal):
        return root * math.sqrt(max(rows, columns))
    short, long = sorted((rows, columns))
    return root * (iterated(short, long) if short * long <= DRAWN else math.sqrt(long * edge(short / long)))


@lru_cache(maxsize=256)
def iterated(rows: int, columns: int) -> float:
    """The singular value that is found in N(0, 1) matrices of this size, on average.

    >>> iterated(1, 1) < 1 < iterated(2, 2)
    True
    """
    generator = torch.Generator(device="cpu")
    generator.manual_seed(0)
    matrices = torch.randn(SAMPLE, rows, columns, generator=generator, device="cpu")
    v = matrices[:, 0, :, None]
    for _ in range(STEPS):
        u = functional.normalize(matrices @ v, dim=1)
        v = functional.normalize(matrices.transpose(1, 2) @ u, dim=1)
    return (u.transpose(1, 2) @ matrices @ v).reciprocal().mean().reciprocal().item()


@lru_cache(maxsize=256)
def edge(ratio: float) -> float:
    """The eigenvalue of W·Wᵀ over columns that is found, for elements of variance 1; the limit is (1 + √ratio)².

    Args:
        ratio: of the shorter to the longer side.

    >>> edge(1.0) < 4.0 and round(edge(1.0), 1)
    3.8
    """
    low, high = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    angle = (torch.arange(4096, dtype=torch.float64, device="cpu") + 0.5) * (math.pi / 4096)
    x = (low + high) / 2 + (high - low) / 2 * angle.cos()
    density = angle.sin().square() / x  # of Marchenko and Pastur, in the angle
    powers = (x / high).pow(2 * STEPS) * density
    return ((powers * x).sum() / powers.sum()).item()


RULES: dict[str, Rule] = {"mv": matrix_vector, "vdot": inner, "dot": inner}
