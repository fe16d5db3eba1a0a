import pytest
import torch

from initframe.fills import orthogonalize
from initframe.fills.orthogonalize import orthogonalized

SHAPES = [(1, 1), (1, 7), (5, 5), (9, 9), (60, 200), (131, 59), (200, 200), (40, 403)]


@pytest.fixture
def by_blocks(monkeypatch):
    """Decompose even the smallest matrix in blocks, in many tiles, on several threads."""
    for name, value in {"TINY": 0, "SMALL": 0, "MOST": 48, "LEAST": 8, "ROWS": 16, "STRIP": 7, "COLUMNS": 50}.items():
        monkeypatch.setattr(orthogonalize, name, value)


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def householder(normal):
    """What LAPACK makes of it, with the signs of a positive diagonal."""
    wide = normal.shape[-2] < normal.shape[-1]
    q, r = torch.linalg.qr((normal.mT if wide else normal).double())
    q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return q.mT if wide else q


def departure(q):
    """The largest element of QᵀQ − I, of the smaller side."""
    q = q.mT if q.shape[-2] < q.shape[-1] else q
    return float((q.mT @ q - torch.eye(q.shape[-1], dtype=q.dtype)).abs().max())


@pytest.mark.parametrize("shape", SHAPES)
def test_blocks_give_what_householder_gives(by_blocks, shape):
    normal = gaussian(*shape)
    q = orthogonalized(normal)
    assert q.dtype == torch.float64
    assert float((q - householder(normal)).abs().max()) < 1e-12
    assert departure(q) < 2e-14


@pytest.mark.parametrize("shape", [(300, 300), (100, 301), (301, 100), (30, 30)])
@pytest.mark.parametrize("small", [0, 1 << 60], ids=["by blocks", "by LAPACK"])
def test_the_number_of_threads_does_not_matter(by_blocks, monkeypatch, shape, small):
    monkeypatch.setattr(orthogonalize, "TINY", small)
    before, drawn = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            drawn.append(orthogonalized(gaussian(*shape)))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("shape", [(500, 1000), (700, 700), (1000, 64), (2, 300000)])
def test_large_matrices_are_orthogonal_in_float64(shape):
    normal = gaussian(*shape)
    assert normal.numel() * min(shape) > orthogonalize.TINY
    q = orthogonalized(normal)
    assert float((q - householder(normal)).abs().max()) < 1e-12
    assert departure(q) < 4e-14


def test_several_matrices_are_decomposed_one_by_one(by_blocks):
    normal = gaussian(3, 8, 5)
    expected = torch.stack([householder(one) for one in normal])
    assert float((orthogonalized(normal) - expected).abs().max()) < 1e-12


def test_rows_that_are_all_but_dependent_are_made_orthonormal_too(by_blocks):
    normal = gaussian(90, 150).double()
    normal[60] = normal[3] + 1e-9 * normal[60]  # the second block's is all but one of the first's
    normal[2] = normal[1] + 1e-12 * normal[2]  # Cholesky's decomposition of the first fails
    before = normal.clone()
    q = orthogonalized(normal)
    assert departure(q) < 1e-13
    assert torch.equal(normal, before)


@pytest.mark.parametrize("seed", range(3))
def test_dependent_rows_and_columns_give_an_orthogonal_matrix(seed):
    matrix = torch.randn(300, 300, generator=torch.Generator().manual_seed(seed))
    matrix[-1], matrix[:, -1] = matrix[0], matrix[:, 0]
    found = orthogonalized(matrix)
    assert float((found @ found.mT - torch.eye(300)).abs().max()) < 1e-13
