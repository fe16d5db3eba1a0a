import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from initframe.stream import digest, draw, eager, key

from . import oracle

KEY = key("w", 0)
DTYPES = [
    torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.int8, torch.bool,
    torch.uint8, torch.complex64, torch.float8_e4m3fn,
]  # fmt: skip


def test_the_vectors_of_version_1():
    for v in oracle.VECTORS:
        x = torch.tensor([int(bits, 16) for bits in v["float32"]], dtype=torch.uint32)
        assert f"{digest(x, v['start']):016x}" == v["digest"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_elements_count_by_their_own_bits(dtype):
    x = draw("normal", (0.0, 9.0), KEY, 0, 77).to(dtype)
    assert digest(x, 5) == oracle.digest(x, range(5, 82))


def test_places_count():
    x = draw("normal", (0.0, 1.0), KEY, 0, 77)
    assert len({digest(x), digest(x.flip(0)), digest(x, 1), digest(x[:76]), digest(x.to(torch.float16))}) == 5


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(0, 40), columns=st.integers(0, 40), r=st.integers(0, 40), c=st.integers(0, 40))
def test_digests_of_shards_add_up(rows, columns, r, c):
    x = draw("normal", (0.0, 1.0), KEY, 0, rows * columns).view(rows, columns)
    r, c = min(r, rows), min(c, columns)
    by_rows = digest(x[:r]) + digest(x[r:], r * columns)
    assert by_rows % 2**64 == digest(x)
    if columns:
        by_columns = digest(x[:, :c], 0, columns) + digest(x[:, c:], c, columns)
        assert by_columns % 2**64 == digest(x)


@pytest.mark.parametrize("shape", [(), (0,), (5, 0, 2), (3, 4, 5, 6), (300, 700)])
def test_layout_does_not_matter(shape):
    x = draw("normal", (0.0, 1.0), KEY, 0, int(torch.Size(shape).numel())).view(shape)
    expected = digest(x.clone())
    for dims in (tuple(range(len(shape)))[::-1], tuple(sorted(range(len(shape)), key=lambda d: d % 2))):
        back = [dims.index(d) for d in range(len(shape))]
        assert digest(x.permute(dims).contiguous().permute(back)) == expected
    assert digest(torch.stack([x, x], -1)[..., 0]) == expected


def test_rows_may_lie_anywhere_in_memory():
    x = draw("normal", (0.0, 1.0), KEY, 0, 12 * 50).view(12, 50)
    expected = oracle.digest(x[:, 7:30], [3 + 90 * r + c for r in range(12) for c in range(23)])
    for rows in (x[:, 7:30], x[:, 7:30].clone(), x.t().contiguous().t()[:, 7:30]):
        assert digest(rows, 3, 90) == expected


def test_a_large_tensor_is_the_sum_of_its_parts():
    x = draw("uniform", (0.0, 1.0), KEY, 0, (1 << 20) + 77)
    parts = [digest(part, i) for i, part in ((0, x[:99]), (99, x[99:70_000]), (70_000, x[70_000:]))]
    assert sum(parts) % 2**64 == digest(x)


def test_what_has_no_digest_is_refused():
    with pytest.raises(ValueError, match="complex128"):
        digest(torch.zeros(2, dtype=torch.complex128))
    with pytest.raises(ValueError, match="2-D"):
        digest(torch.zeros(2), 0, 3)
    for place in ((-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="must not be negative"):
            digest(torch.zeros(3, 4), *place)
    for start, stride in (((1 << 64) - 11, 0), ((1 << 64) - 11, 4), (5, (1 << 63) - 3)):
        with pytest.raises(ValueError, match=r"2\*\*64 - 1"):
            digest(torch.zeros(3, 4), start, stride)


@pytest.mark.parametrize("way", [digest, lambda *place: eager.digest(*place) % 2**64])
@pytest.mark.parametrize(("start", "stride"), [((1 << 64) - 20, 6), ((1 << 63) - 5, 8), (3, (1 << 63) - 9)])
def test_indices_count_up_to_the_last(way, start, stride):
    x = draw("normal", (0.0, 1.0), KEY, 0, 12).view(3, 4)
    assert way(x, start, stride) == oracle.digest(x, [start + r * stride + c for r in range(3) for c in range(4)])


def test_views_that_are_conjugated_or_negated_when_read_count_as_what_they_are():
    z = torch.view_as_complex(draw("normal", (0.0, 1.0), KEY, 0, 40).view(20, 2))
    for view in (z.conj(), z.conj().imag, z.conj()[3:9]):
        assert digest(view) == digest(view.resolve_conj().resolve_neg().clone())
    assert digest(z.conj()) != digest(z)
