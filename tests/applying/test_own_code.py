"""What fails late: it is found before the first write, or said to have been too late."""

import pytest
import torch
from nets import bits, changed
from refusals import refused
from torch import nn

import initframe
from initframe.errors import ResolveError
from initframe.fills import Elementwise
from initframe.initializers import initializer


def too_large(u):
    if u.numel() > 10:
        raise MemoryError("no room")
    return u


def sometimes_nan(u):
    return torch.where(u > 0.9, torch.nan, u)


@pytest.mark.parametrize(
    ("fill", "said"),
    [
        (lambda: Elementwise(too_large, 0.5, 0.3), "MemoryError"),
        (lambda: Elementwise(sometimes_nan, 0.5, 0.3), "NaN"),
    ],
)
@pytest.mark.parametrize("parametrized", [False, True])
def test_a_law_that_fails_at_real_sizes_is_found_before_the_first_write(table, fill, said, parametrized):
    initializer("failing")(lambda slot: fill())
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    if parametrized:
        nn.utils.parametrizations.weight_norm(model[1])
    before = bits(model)
    rules = {"0.*": "ones", "1.bias": "ones", "1.weight": "failing"}
    (problem,) = refused(initframe.reinit, model, {"rules": rules}, kind=ResolveError)
    assert (problem.subject, said in problem.fact) == ("1.weight", True)
    assert changed(model, before) == set()


@pytest.mark.parametrize("law", ["ones", "normal", "orthogonal"])
def test_a_name_that_cannot_be_written_addresses_no_numbers(law):
    model = nn.Module()
    model.register_parameter("a", nn.Parameter(torch.zeros(3, 3)))
    model.register_parameter("\ud800", nn.Parameter(torch.zeros(3, 3)))
    before = bits(model)
    (problem,) = refused(initframe.reinit, model, {"rules": {"*": law}}, kind=ResolveError)
    assert problem.subject == "\ud800"
    assert changed(model, before) == set()
    (problem,) = refused(initframe.fill_, model.a, initframe.Normal(), name="\ud800")
    assert "half of a character" in problem.fact


class Once(nn.Module):
    """A parametrization whose inverse works once more."""

    left = ()

    def forward(self, weight):
        return weight * 2

    def right_inverse(self, weight):
        if not self.left:
            raise RuntimeError("used up")
        self.left.pop()
        return weight / 2


@pytest.mark.parametrize("restore", [False, True])
def test_an_inverse_that_fails_later_is_told_and_undone(restore, monkeypatch):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    monkeypatch.setattr(Once, "left", [1, 1])  # registering takes one
    nn.utils.parametrize.register_parametrization(model[1], "weight", Once())
    Once.left[:] = [1]
    before = bits(model)
    with pytest.raises(ResolveError) as caught:
        initframe.reinit(model, {"rules": {"*.weight": "ones"}}, restore=restore)
    (problem,) = caught.value.problems
    assert (problem.subject, "used up" in problem.fact) == ("1.weight", True)
    assert changed(model, before) == (set() if restore else {"0.weight"})
    assert restore or "0.weight" in caught.value.__notes__[0]
