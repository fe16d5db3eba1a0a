"""Whatever resolves can be applied: no tensor, dtype or number gets past the plan that apply then trips over."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import bits, changed, rules

import initframe
from initframe.errors import InitframeError, ResolveError
from initframe.initializers import get
from initframe.initializers.arguments import signature

NAMES = ["uniform", "normal", "trunc_normal", "constant", "ones", "zeros", "eye", "dirac", "xavier_uniform", "sparse"]
NAMES += ["xavier_normal", "kaiming_uniform", "kaiming_normal", "orthogonal", "variance_scaling", "lecun_uniform"]
NAMES += ["lecun_normal", "shift", "scale", "shrink_perturb", "keep"]
NUMBERS = st.sampled_from([0, 1, -1, 0.5, 2, 1e-30, 1e4, 1e6, -1e6, 1e38, 1e39, 1e-46, "fan_in", "d0", "1 / numel"])
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])
SHAPES = st.lists(st.integers(0, 4), max_size=5).map(tuple)


@st.composite
def written(draw):
    """A rule with some of its initializer's arguments, right or wrong."""
    name = draw(st.sampled_from(NAMES))
    rule = {"init": name}
    for key, parameter in signature(get(name)).items():
        values = NUMBERS if parameter.numeric else st.sampled_from([*parameter.options, "relu", "silu"])
        if parameter.many:
            values = st.lists(st.integers(-2, 2), max_size=3)
        if parameter.required or draw(st.booleans()):
            rule[key] = draw(values)
    if draw(st.booleans()):
        rule["split"] = draw(st.integers(1, 2))
    return rule


@pytest.mark.filterwarnings("ignore:mean is more than 2 std from")  # torch's own advice
@pytest.mark.parametrize("generator", ["stream", "torch"])
@given(written(), SHAPES, DTYPES, st.booleans())
@settings(max_examples=300)
def test_whatever_resolves_is_written_or_refused_whole(generator, rule, shape, dtype, is_strided):
    tensor = torch.ones((*shape, 2), dtype=dtype)[..., 1] if is_strided else torch.ones(shape, dtype=dtype)
    state = {"first": torch.ones(3), "w": tensor}
    before = bits(state)
    try:
        plan = initframe.resolve(rules({"first": "zeros", "w": rule}), state)
    except InitframeError:
        return
    try:
        initframe.apply(plan, 0, generator=generator)
    except ResolveError:
        assert generator == "torch"  # which has not everything
        assert changed(state, before) == set()
    else:
        assert not state["first"].any()
        assert tensor.isfinite().all() or rule["init"] in ("shift", "scale", "shrink_perturb")
