"""Every preset against its library's constructor, read: equal fills, tensor by tensor."""

import pytest

import initframe
from initframe.fills import Blocks, Masked, Normal, TruncatedNormal
from initframe.fills.equal import same
from presets.test_proofs import cases, recipe_of
from presets.zoo import BUILDERS

NOWHERE = 4.5
"""Standard deviations: a cut beyond cuts one number in a hundred thousand, and is one more way to write a normal."""


def plainly(fill):
    """A fill with cuts taken for what they are: none, if they are far away."""
    match fill:
        case TruncatedNormal(loc, scale, low, high) if min(high - loc, loc - low) > NOWHERE * scale:
            return Normal(loc, scale)
        case Masked(inner, shape, index, value):
            return Masked(plainly(inner), shape, index, value)
        case Blocks(fills, sizes, dim):
            several = tuple(map(plainly, fills))
            return several[0] if all(same(one, several[0]) for one in several) else Blocks(several, sizes, dim)
    return fill


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "build"), cases(BUILDERS))
def test_a_preset_is_what_its_library_does(name, build):
    traced = initframe.trace(build)
    planned = initframe.resolve(recipe_of(name), traced.model)
    fills = {a.slot.name: a.fill for a in planned.assignments}
    differ = {
        a.slot.name: (str(fills.get(a.slot.name)), str(a.fill))
        for a in traced.assignments
        if a.slot.name not in fills or not same(plainly(fills[a.slot.name]), plainly(a.fill))
    }
    assert not differ
    assert not traced.skipped
