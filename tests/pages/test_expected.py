"""What a fill promises: shares of values and standard errors, against the numbers that the stream draws."""

import math

import pytest
import torch
from torch import nn

import initframe
from initframe.fills import Blocks, Constant, Fill, Masked, Normal, Orthogonal, TruncatedNormal, Uniform
from initframe.pages.expected import distribution, shares, standard_errors

LAWS = [
    Normal(0.5, 2.0),
    Uniform(-1.0, 3.0),
    TruncatedNormal(0.0, 1.0, -2.0, 2.0),
    TruncatedNormal(0.3, 1.0, -0.5, 4.0),
    TruncatedNormal(0.0, 1.0, 1.0, 3.0),
]


def drawn(fill: Fill, count: int) -> torch.Tensor:
    return initframe.fill_(torch.empty(count), fill, name="w", seed=0)


@pytest.mark.parametrize("fill", LAWS, ids=str)
def test_shares_are_those_of_the_drawn_numbers(fill):
    count, edges = 200_000, [-9.0, -1.0, -0.25, 0.0, 0.4, 1.5, 2.5, 9.0]
    values = drawn(fill, count)
    planned = shares(distribution(fill), edges)
    assert math.fsum(planned) == pytest.approx(1.0, abs=1e-4)
    for low, high, share in zip(edges, edges[1:], planned, strict=False):
        found = ((values >= low) & (values < high)).float().mean().item()
        assert abs(found - share) <= 5 * math.sqrt(share * (1 - share) / count) + 1e-9


@pytest.mark.parametrize("fill", LAWS, ids=str)
def test_standard_errors_are_those_of_repeated_draws(fill):
    count, repeats = 200, 2000
    values = drawn(fill, count * repeats).reshape(repeats, count).double()
    mean, std = standard_errors(fill, count)
    for found, planned in ((values.mean(1), mean), (values.std(1, correction=0), std)):
        assert found.std().item() == pytest.approx(planned, rel=6 / math.sqrt(2 * repeats))


def test_mixtures_have_the_fills_own_moments():
    mixed = Masked(Blocks((Normal(1.0, 2.0), Uniform(0.0, 4.0)), (3, 1)), (8, 5), (0,), 7.0)
    parts = distribution(mixed)
    mean = math.fsum(share * fill.mean for share, fill in parts)
    second = math.fsum(share * (fill.std**2 + fill.mean**2) for share, fill in parts)
    assert math.fsum(share for share, _ in parts) == pytest.approx(1.0)
    assert mean == pytest.approx(mixed.mean)
    assert math.sqrt(second - mean**2) == pytest.approx(mixed.std)


@pytest.mark.parametrize(
    "fill", [Constant(1.0), Orthogonal((64, 64)), Masked(Normal(), (4,), (0,)), Normal(0.0, 0.0)], ids=str
)
def test_no_standard_errors_where_elements_are_not_independent_draws(fill):
    assert standard_errors(fill, 1000) is None


def test_elements_of_wide_orthogonal_matrices_are_nearly_normal():
    fill = Orthogonal((128, 128))
    values = initframe.reinit(nn.Linear(128, 128, bias=False), {"rules": {"*": "orthogonal"}}, seed=0)
    weight = values.model.weight.detach() * math.sqrt(128)
    planned = shares(distribution(fill), [x / math.sqrt(128) for x in (-9, -1, 0, 1, 9)])
    found = torch.histogram(weight, torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0])).hist / weight.numel()
    assert found.tolist() == pytest.approx(planned, abs=0.01)
    assert distribution(Orthogonal((4, 4))) is None
