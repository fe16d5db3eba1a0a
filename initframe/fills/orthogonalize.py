"""Orthogonal matrices by QR decomposition, in float64, with the same bits for any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from initframe.stream.threads import BATCH, Task, single_threaded, spread

ROWS = 256
"""Rows of a tile. A thread computes a tile alone, so its bits do not depend on the other threads."""
STRIP = 64
"""Rows of a strip of a triangular matrix: what is on the other side of the diagonal is a small part of it."""
COLUMNS = 1024
"""Columns of a tile at most; four tiles at least beside each other, if they have so many columns."""
MOST = 512
"""Vectors of a block. What one thread does alone grows by the square of it."""
LEAST = 64
"""Vectors that are always made orthogonal together."""
TINY = 1 << 19
"""Multiplications (of one of the products over all vectors) below which LAPACK is faster."""
APART = 8
"""Elements between two rows: rows that are a power of two apart compete for the same lines of a cache."""
SMALL = 1 << 28
"""Multiplications (of one of the products over all vectors) below which one thread decomposes a matrix alone."""
CANCELLED = 1 / 256
"""Share of a vector's square that is left after projection, below which its block is made orthogonal again."""
PASSES = 5
"""Passes that are enough for a block of dependent vectors, too; a Gaussian one takes two at most."""


def orthogonalized(normal: Tensor) -> Tensor:
    """Return the (semi-)orthogonal matrix that a QR decomposition makes of a matrix of N(0, 1), or of several.

    It is Q·sign(diag R) for Q·R = A, or Aᵀ if A is wider than high. This is the only Q whose R has a positive diagonal,
    so it does not depend on the method, which is block Gram-Schmidt and Cholesky-QR, all by matrix products, and again
    where much of a block cancelled (Stathopoulos and Wu 2002; "twice is enough", Giraud et al. 2005). A block has at
    most half as many vectors as their space has dimensions: a Gaussian one is then well conditioned, and Q is as
    orthogonal as Householder's, to 10⁻¹³, for half of the arithmetic.

    Args:
        normal: (…, rows, columns), independent N(0, 1).

    Returns:
        float64 of the same shape, on the same device.

    >>> orthogonalized(torch.tensor([[-2.0, 0.0], [0.0, 3.0]])).tolist()
    [[-1.0, 0.0], [0.0, 1.0]]
    """
    if normal.device.type == "cpu" and normal.ndim > 2:
        return torch.stack([orthogonalized(matrix) for matrix in normal])
    wide = normal.shape[-2] < normal.shape[-1]
    vectors = normal if wide else normal.mT
    with single_threaded() as threads:
        if normal.device.type != "cpu" or _multiplications(*vectors.shape[-2:]) < TINY:
            q, _ = _householder(vectors.double())
        else:
            q = _by_blocks(vectors, 1 if is_small(*vectors.shape) else threads)
    return q if wide else q.mT


def is_small(rows: int, columns: int) -> bool:
    """Tell whether a matrix is decomposed by one thread, next to others."""
    return _multiplications(rows, columns) < SMALL


def _multiplications(rows: int, columns: int) -> int:
    """Count those of one product over all vectors."""
    return rows * columns * min(rows, columns)


def _householder(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Make rows orthonormal by LAPACK, or on a GPU by its library; R's diagonal, too, as LAPACK signs it."""
    q, r = torch.linalg.qr(vectors.mT)
    diagonal = r.diagonal(dim1=-2, dim2=-1)
    return q.mT.mul_(diagonal.sign().unsqueeze_(-1)), diagonal


def _by_blocks(vectors: Tensor, threads: int) -> Tensor:
    """Make the rows of a matrix orthonormal, in their order."""
    count, size = vectors.shape
    q = torch.empty(count, size + APART, dtype=torch.float64)[:, :size]

    def copy(columns: slice) -> None:  # rows from columns: in tiles that fit a cache
        q[:, columns] = vectors[:, columns]

    _run(threads, copy, _parts(size, ROWS))
    begin = 0
    while begin < count:
        end = min(begin + max(min((size - begin) // 2, MOST), LEAST), count)
        for _ in range(PASSES):
            if _orthonormalize(q[begin:end], q[:begin], threads) > CANCELLED:
                break
        begin = end
    return q


def _orthonormalize(block: Tensor, done: Tensor, threads: int) -> float:
    """Make the rows of a block orthogonal to those that are done, and orthonormal, in place.

    Returns:
        The smallest share of a row's square that was left after projection to the rows before it.
    """
    squares = torch.linalg.vector_norm(block, dim=1).square_()
    _project(block, done, threads)
    crowded = 2 * len(block) > block.shape[1] - len(done)  # ill conditioned
    lower = None if crowded else _cholesky(_products(block, threads))
    if lower is None:
        block[:], diagonal = _householder(block)
        return float((diagonal.square() / squares).min())
    inverse = _inverse(lower)
    rows = _parts(len(block), STRIP)

    def scale(columns: slice) -> None:
        for own in reversed(rows):  # each from itself and those before it, which are still as they were
            block[own, columns] = inverse[own, : own.stop] @ block[: own.stop, columns]

    _run(threads, scale, _tiles(block.shape[1]))
    return float((lower.diagonal().square() / squares).min())


def _project(block: Tensor, done: Tensor, threads: int) -> None:
    """Subtract from the rows of a block their parts along orthonormal rows."""
    if not len(done):
        return
    shares = block.new_empty(len(block), len(done))
    rows = _parts(len(block), ROWS)

    def measure(tile: tuple[slice, slice]) -> None:
        own, theirs = tile
        torch.mm(block[own], done[theirs].mT, out=shares[own, theirs])

    def subtract(tile: tuple[slice, slice]) -> None:
        own, columns = tile
        block[own, columns].addmm_(shares[own], done[:, columns], alpha=-1)

    _run(threads, measure, [(own, theirs) for theirs in _tiles(len(done)) for own in rows])
    _run(threads, subtract, [(own, columns) for columns in _tiles(block.shape[1]) for own in rows])


def _products(block: Tensor, threads: int) -> Tensor:
    """Multiply every row with those before it and itself; what is above the diagonal is not computed."""
    products = block.new_zeros(len(block), len(block))
    rows = _parts(len(block), STRIP)

    def multiply(own: slice) -> None:
        torch.mm(block[own], block[: own.stop].mT, out=products[own, : own.stop])

    _run(threads, multiply, reversed(rows))  # the longest first
    return products


def _cholesky(products: Tensor) -> Tensor | None:
    """Decompose the products of rows with each other; ``None`` if the rows are all but dependent."""
    lower, failed = torch.linalg.cholesky_ex(products)
    return None if failed else lower


def _inverse(lower: Tensor) -> Tensor:
    """Invert a lower triangular matrix, by halves."""
    size = len(lower)
    if size <= LEAST:
        solved: Tensor = torch.linalg.solve_triangular(lower, torch.eye(size, dtype=lower.dtype), upper=False)
        return solved
    half = size // 2
    inverse = torch.zeros_like(lower)
    inverse[:half, :half] = first = _inverse(lower[:half, :half])
    inverse[half:, half:] = second = _inverse(lower[half:, half:])
    inverse[half:, :half] = (second @ lower[half:, :half] @ first).neg_()
    return inverse


def _tiles(size: int) -> list[slice]:
    """Cut columns; where, depends on nothing but their number."""
    return _parts(size, min(max(size // 4, ROWS), COLUMNS))


def _parts(size: int, length: int) -> list[slice]:
    return [slice(i, min(i + length, size)) for i in range(0, size, length)]


def _run(threads: int, function: Callable[[Any], None], parts: Iterable[Any]) -> None:
    """Call a function for every part, on threads."""

    def task(part: Any) -> int:
        function(part)
        return 1

    for _ in spread((Task(partial(task, part), BATCH) for part in parts), threads):
        pass
