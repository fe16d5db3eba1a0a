import pytest
import torch

from initframe.fills import orthogonalize
from initframe.fills.orthogonalize import CHUNK, PANEL, orthogonalized

TALL = 2 * PANEL + 1, PANEL - 1
SHAPES = [(1, 1), (1, 7), (5, 5), (PANEL, 3 * PANEL), TALL, (3 * PANEL, 3 * PANEL), (40, CHUNK + 3)]


@pytest.fixture
def by_panels(monkeypatch):
    """Decompose even the smallest matrix in panels, in many pieces."""
    monkeypatch.setattr(orthogonalize, "SMALL", 0)
    monkeypatch.setattr(orthogonalize, "CHUNK", 50)


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
def test_panels_give_what_householder_gives(by_panels, shape):
    normal = gaussian(*shape)
    q = orthogonalized(normal)
    assert q.dtype == torch.float64
    assert float((q - householder(normal)).abs().max()) < 1e-12
    assert departure(q) < 1e-14


@pytest.mark.parametrize("shape", [(3 * PANEL, 3 * PANEL), (PANEL, 3 * PANEL + 1), (30, 30)])
@pytest.mark.parametrize("small", [0, 1 << 60], ids=["by panels", "by LAPACK"])
def test_the_number_of_threads_does_not_matter(monkeypatch, shape, small):
    monkeypatch.setattr(orthogonalize, "SMALL", small)
    monkeypatch.setattr(orthogonalize, "CHUNK", 50)
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


def test_large_matrices_are_orthogonal_in_float64():
    normal = gaussian(500, 1000)
    assert normal.numel() * 500 > orthogonalize.SMALL
    q = orthogonalized(normal)
    assert float((q - householder(normal)).abs().max()) < 1e-12
    assert departure(q) < 1e-14


def test_several_matrices_are_decomposed_one_by_one(by_panels):
    normal = gaussian(3, 8, 5)
    expected = torch.stack([householder(one) for one in normal])
    assert float((orthogonalized(normal) - expected).abs().max()) < 1e-12


def test_rows_that_are_all_but_dependent_are_made_orthonormal_too(by_panels):
    normal = gaussian(2 * PANEL, 3 * PANEL).double()
    normal[PANEL + 5] = normal[3] + 1e-9 * normal[PANEL + 5]  # the second panel's is all but one of the first's
    normal[2] = normal[1] + 1e-12 * normal[2]  # Cholesky's decomposition of the first fails
    before = normal.clone()
    q = orthogonalized(normal)
    assert departure(q) < 1e-13
    assert torch.equal(normal, before)
