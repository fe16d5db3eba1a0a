"""Numbers beyond the range of int64 or float64 are floats, or refused, before anything is written."""

import pytest
import torch
from nets import rules, same_bits
from refusals import refused

import initframe
from initframe.fills import Constant, Normal, Uniform
from initframe.initializers import get
from initframe.initializers.arguments import signature
from initframe.initializers.table import list_initializers

NUMBERS = [10**20, -(10**20), 2**63, 10**38, 10**300, 10**400, -(10**400)]
TAKES = [(init, p.name) for init in list_initializers() for p in signature(get(init)).values() if p.numeric]


def written(init, argument, value):
    """A rule with one number of interest, and 1 for what else it needs."""
    known = signature(get(init))
    others = {p.name: p.options[0] if p.options else 1 if p.numeric else "x" for p in known.values() if p.required}
    return {"init": init, **others, argument: [value, value] if known[argument].many else value}


@pytest.mark.parametrize("generator", ["stream", "torch"])
@pytest.mark.parametrize(("init", "argument"), TAKES, ids=lambda text: text)
def test_every_number_of_every_initializer_is_written_or_refused(init, argument, generator):
    for value in NUMBERS:
        for shape in ((4, 6), (6,)):
            model = {"first": torch.zeros(3), "w": torch.zeros(shape)}
            recipe = rules({"first": "ones", "w": written(init, argument, value)})
            try:
                initframe.reinit(model, recipe, seed=0, generator=generator)
            except initframe.InitframeError:
                assert not model["first"].any()
                assert not model["w"].any()


def test_an_integer_beyond_int64_is_its_float():
    one, other = torch.ones(3), torch.ones(3)
    initframe.reinit({"w": one}, rules({"w": {"init": "scale", "by": 10**20}}))
    initframe.reinit({"w": other}, rules({"w": {"init": "scale", "by": 1e20}}))
    assert same_bits(one, other)


@pytest.mark.parametrize("fill", [Constant(10**20), Normal(0, 2**63), Uniform(-(10**20), 1), Constant(10**400)])
def test_a_fill_of_ones_own_is_refused(fill):
    tensor = torch.zeros(3)
    (problem,) = refused(initframe.fill_, tensor, fill, name="w")
    assert problem.fix
    assert not tensor.any()
