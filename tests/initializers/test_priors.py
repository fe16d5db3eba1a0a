"""A classifier says its prior at first."""

import math

import pytest
import torch

import initframe
from initializers.drawing import drawn, fill_of


@pytest.mark.parametrize("prior", [0.01, 0.5, 0.9])
def test_a_sigmoid_says_the_prior(prior):
    bias = drawn("bias_prior", (80,), prior=prior)
    torch.testing.assert_close(bias.sigmoid(), torch.full((80,), prior))


def test_a_softmax_of_even_classes_has_its_logarithms():
    bias = drawn("bias_prior", (1000,), prior=1 / 1000, form="softmax")
    assert bias[0].item() == pytest.approx(-6.907755)
    assert bias.logsumexp(0).item() == pytest.approx(0, abs=1e-5)


def test_classes_may_have_priors_of_their_own():
    priors = [0.7, 0.2, 0.1]
    torch.testing.assert_close(drawn("bias_prior", (3,), priors=priors).sigmoid(), torch.tensor(priors))
    logits = drawn("bias_prior", (3,), priors=priors, form="softmax")
    torch.testing.assert_close(logits.softmax(0), torch.tensor(priors))


@pytest.mark.parametrize("form", ["sigmoid", "softmax"])
@pytest.mark.parametrize("prior", [5e-324, 1e-320, 1e-300, 1 - 2**-53])
def test_every_prior_has_a_finite_bias(form, prior):
    assert math.isfinite(fill_of("bias_prior", (3,), prior=prior, form=form).value)


@pytest.mark.parametrize("arguments", [{"prior": 0}, {"prior": 1}, {"priors": [0.5, 2]}, {"priors": [0.5, 0.5, 0.5]}])
def test_no_prior_is_none(arguments):
    with pytest.raises(initframe.ResolveError, match="prior"):
        fill_of("bias_prior", (2,), **arguments)
