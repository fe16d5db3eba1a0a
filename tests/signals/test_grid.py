"""Grids: what is left until it is asked for is what it would have been at once."""

import dataclasses

import pytest
import torch

from initframe.signal.borders import Geometry, borders
from initframe.signal.grid import (
    gaussian,
    half,
    independent,
    order_statistics,
    replace,
    reshaped,
    sampled,
    scaled,
    whole,
)
from initframe.signal.layout import Layout
from initframe.signal.moments import moments_of


def normal(field=None):
    return gaussian(moments_of(0.3, 2.0, 0.7, 0.4, 0.2)._replace(field=field), Layout(()))


def numbers(grid):
    return pytest.approx(tuple(grid.moments()[:5]))


def test_a_normal_has_the_moments_that_its_values_have():
    grid = scaled(normal(), 1.5, -0.2)
    by_values = dataclasses.replace(grid, normal=False)
    assert tuple(by_values.moments()[:5]) == pytest.approx(tuple(grid.moments()[:5]), rel=1e-3)
    assert tuple(dataclasses.replace(grid).moments()[:5]) == numbers(grid)


def test_new_values_have_new_moments_and_other_facts_leave_them():
    grid = normal()
    before = tuple(grid.moments()[:5])
    assert tuple(replace(grid, why="rounded", layout=Layout(())).moments()[:5]) == before
    assert tuple(independent(grid).moments()[:5]) == before
    assert independent(grid).source is not grid.source
    assert replace(grid, values=grid.values * 2).moments().square == pytest.approx(4 * before[1])
    assert replace(grid, values=grid.values.relu(), normal=False).moments().mean > before[0]


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
    field = torch.fft.ifft2(torch.fft.fft2(x).abs().square()).real
    torch.testing.assert_close(whole(half(field), field), field)


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
