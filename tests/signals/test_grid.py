"""Grids: what is left until it is asked for is what it would have been at once."""

import pytest
import torch

from initframe.signal.borders import Geometry, borders
from initframe.signal.combine import mixture, product, total
from initframe.signal.fields import of_windows, strided, whole
from initframe.signal.grid import constant, gaussian, independent, remarked, replace, reshaped, sampled, scaled, without
from initframe.signal.hermite import W
from initframe.signal.laws import Table
from initframe.signal.layout import Layout
from initframe.signal.moments import moments_of
from initframe.signal.quantiles import order_statistics
from initframe.signal.rectified import Rectified
from initframe.signal.remarks import Remark


def normal(field=None):
    return gaussian(moments_of(0.3, 2.0, 0.7, 0.4, 0.2)._replace(field=field), Layout(()))


def by_values(grid):
    """The moments that follow from a grid's values and correlations alone."""
    return tuple(Table(grid.values).moments(grid.source.correlations)[:5])


def test_a_normal_has_the_moments_that_its_values_have():
    grid = scaled(normal(), 1.5, -0.2)
    assert by_values(grid) == pytest.approx(tuple(grid.moments()[:5]), rel=1e-3)


def rectified():
    return replace(normal(), law=Table(normal().values.relu()))


JOINTS = {
    "sum": lambda: total(rectified(), normal(), Layout(())),
    "difference": lambda: total(normal(), rectified(), Layout(()), -1.0),
    "product": lambda: product(rectified(), normal(), Layout(())),
    "mixture": lambda: mixture([(0.3, rectified()), (0.7, scaled(normal(), 2.0))], Layout(())),
    "scaled": lambda: scaled(product(rectified(), normal(), Layout(())), -3.0, 0.5),
}


@pytest.mark.parametrize("make", JOINTS.values(), ids=JOINTS)
def test_what_is_told_of_joined_grids_is_what_their_values_have(make):
    grid = make()
    told, higher = tuple(grid.moments()[:5]), grid.law.powers[2:]
    assert told == pytest.approx(by_values(grid), rel=1e-4)
    assert higher == pytest.approx(Table(grid.values).powers[2:], rel=0.03)  # pairs of values are coarse, and end at 6


def test_the_fourth_power_of_a_sum_and_a_product_is_that_of_all_pairs():
    one, other = rectified(), scaled(normal(), -1.3, 0.4)
    pairs = W[:, None] * W
    for joined, values in (
        (total(one, other, Layout(())), one.values[0][:, None] + other.values[0]),
        (product(one, other, Layout(())), one.values[0][:, None] * other.values[0]),
    ):
        expected = [(values.pow(n) * pairs).sum().item() for n in (3, 4)]
        assert joined.law.powers[2:] == pytest.approx(expected, rel=1e-9)


def test_a_product_is_zero_where_either_is():
    one = rectified()
    share = one.law.share_of(0.0)
    assert 0 < share < 1
    assert product(one, normal(), Layout(())).law.share_of(0.0) == pytest.approx(share)
    assert product(one, rectified(), Layout(())).law.share_of(0.0) == pytest.approx(1 - (1 - share) ** 2)
    assert total(one, rectified(), Layout(())).law.share_of(0.0) == pytest.approx(share**2)
    assert mixture([(0.25, one), (0.75, normal())], Layout(())).law.share_of(0.0) == pytest.approx(0.25 * share)


@pytest.mark.parametrize("leak", [0.0, 0.2])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.4, 1.3), (-2.0, 0.5)])
def test_a_rectified_normal_is_what_a_fine_grid_says(mean, std, leak):
    law = Rectified(mean, std, leak)
    z = torch.linspace(-9, 9, 2_000_001, dtype=torch.float64)
    density = torch.exp(-z * z / 2)
    density /= density.sum()
    x = law.at(z)
    polynomials = [torch.ones_like(z), z, (z**2 - 1) / 2**0.5, (z**3 - 3 * z) / 6**0.5, (z**4 - 6 * z**2 + 3) / 24**0.5]
    coefficients, _ = law.series()
    assert coefficients[:5] == pytest.approx([torch.dot(x * h, density).item() for h in polynomials], abs=1e-8)
    powers = law.powers[1:]
    assert powers == pytest.approx([torch.dot(x**n, density).item() for n in (2, 3, 4)], abs=1e-8)
    assert law.share_of(0.0) == pytest.approx(torch.dot((x == 0).double(), density).item(), abs=1e-5)
    ends = coefficients[-2:]
    assert ends == pytest.approx(Table(law.values).series()[0][-2:], abs=3e-4 * std)  # a grid's error across a kink


def test_zeros_can_be_joined():
    zero = constant(0.0, Layout(()))
    for joined in (
        total(zero, zero, Layout(())),
        product(zero, normal(), Layout(())),
        mixture([(1.0, zero)], Layout(())),
    ):
        assert joined.moments().square == joined.spread == 0
        assert joined.law.share_of(0.0) == 1


def test_views_of_a_joined_grid_have_one_normal():
    joined = product(rectified(), normal(), Layout(()))
    assert replace(joined, layout=Layout(())).source is joined.source
    assert independent(joined).source is not joined.source
    assert independent(joined).source.correlations is joined.source.correlations


def test_new_laws_have_new_moments_and_other_facts_leave_them():
    grid = normal()
    before = tuple(grid.moments()[:5])
    assert tuple(replace(grid, why="rounded", layout=Layout(())).moments()[:5]) == before
    assert tuple(independent(grid).moments()[:5]) == before
    assert independent(grid).source is not grid.source
    assert replace(grid, law=Table(grid.values * 2)).moments().square == pytest.approx(4 * before[1])
    assert rectified().moments().mean > before[0]


@pytest.mark.parametrize(
    "values",
    [
        torch.randn(9000),
        torch.randn(9000).relu(),
        torch.ones(9000),
        torch.cat([torch.randn(8999), torch.tensor([1e30])]),
        torch.randint(0, 256, (9000,)) / 255,
        torch.randn(30).double(),
    ],
    ids=["normal", "rectified", "equal", "outlier", "bytes", "few"],
)
def test_order_statistics_are_those_of_the_sorted_values(values):
    ranks = torch.randint(0, values.numel(), (500,))
    assert torch.equal(order_statistics(values, ranks), values.sort().values[ranks])


def test_values_that_weigh_the_same_need_no_weights():
    x = torch.randn(9000).double()
    like = normal()
    moments = moments_of(0.3, 2.0, 0.7, 0.4, 0.2)
    with_weights = reshaped(x, torch.ones_like(x), moments, like)
    torch.testing.assert_close(sampled(x, moments, like).values, with_weights.values, rtol=1e-9, atol=1e-9)


def test_half_of_an_autocovariance_is_all_of_it():
    x = torch.randn(32, 32, dtype=torch.float64)
    table = torch.fft.ifft2(torch.fft.fft2(x).abs().square()).real
    torch.testing.assert_close(whole(table[:17]), table)


@pytest.mark.parametrize("stride", [(2, 2), (1, 3), (4, 1)])
def test_behind_a_stride_offsets_are_multiples(stride):
    table = torch.randn(17, 32, dtype=torch.float64)
    found = strided(table, stride, 9.0)
    for dy in range(17):
        for dx in range(-16, 16):
            inside = dy * stride[0] < 16 and abs(dx * stride[1]) < 16
            expected = table[dy * stride[0], dx * stride[1]] if inside else 9.0
            assert found[dy, dx] == expected


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
def test_taps_are_counted_as_a_convolution_of_ones_counts_them(stride, padding):
    before = torch.rand(7, 9, dtype=torch.float64) + 0.5
    before /= before.mean()
    kernel = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    counted = torch.nn.functional.conv2d(before[None, None], kernel, stride=stride, padding=padding)[0, 0]
    found = borders(Geometry((7, 9), (3, 3), (stride,) * 2, (padding,) * 2, (1, 1), False, (0, 0)), before)
    torch.testing.assert_close(found.profile * found.share, counted)


def test_a_kernel_of_one_tap_leaves_the_profile():
    profile = torch.rand(5, 5, dtype=torch.float64)
    assert borders(Geometry((5, 5), (1, 1), (1, 1), (0, 0), (1, 1), False, (0, 0)), profile).profile is profile


def test_every_place_of_an_image_in_windows_has_the_others_of_its_window():
    """Over all offsets, the share of places in the same window adds up to a window without the place itself."""
    field = whole(of_windows(4.0, 2.0, 1.0, 4, 7)) - 1
    assert field.sum().item() - 3 == pytest.approx(4 * 7 - 1)


class Everlasting(Remark):
    outlives = frozenset(("law", "source", "layout", "elements"))


class OfTheLayout(Remark):
    outlives = frozenset(("layout",))


class Halved(Remark):
    def scaled(self, factor, shift):
        return self if factor == 0.5 and not shift else None


CHANGES = {
    "law": lambda grid: replace(grid, law=grid.law.scaled(2.0, 0.0)),
    "source": lambda grid: replace(grid, source=gaussian(moments_of(0.0, 1.0), grid.layout).source),
    "layout": lambda grid: replace(grid, layout=grid.layout.fitted((2, 3))),
    "elements": independent,
}


@pytest.mark.parametrize("change", CHANGES)
def test_remarks_outlive_what_they_say(change):
    plain = gaussian(moments_of(0.0, 1.0), Layout(()))
    for kind in (Everlasting, OfTheLayout, Halved):
        found = CHANGES[change](remarked(plain, kind()))
        assert (found.remark(kind) is not None) == (change in kind.outlives)


def test_remarks_say_what_a_scale_leaves_of_them():
    plain = gaussian(moments_of(0.0, 1.0), Layout(()))
    grid = remarked(plain, Everlasting(), OfTheLayout(), Halved())
    assert set(map(type, scaled(grid, 0.5).remarks)) == {Everlasting, Halved}
    assert set(map(type, scaled(grid, 2.0).remarks)) == {Everlasting}
    assert set(map(type, scaled(grid, 0.5, 1.0).remarks)) == {Everlasting}


def test_a_grid_has_one_remark_of_a_class():
    first, second = Halved(), Halved()
    grid = remarked(remarked(gaussian(moments_of(0.0, 1.0), Layout(())), first, Everlasting()), second)
    assert grid.remark(Halved) is second
    assert grid.remark(OfTheLayout) is None
    assert set(map(type, without(grid, Halved).remarks)) == {Everlasting}
