"""Fitting: numbers evaluated over a tensor's facts, tensors split into blocks, padding kept zero."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import Conv1D, Tower, rules
from refusals import refused
from torch import nn

import initframe
from initframe.errors import RecipeError, ResolveError
from initframe.fills import Blocks, Constant, Keep, Masked, Normal, Uniform
from initframe.initializers import initializer


def fitted(rule, model, name="weight", **options):
    return initframe.resolve(rules({name: rule}, **options), model)[name]


def problem(rule, model, name="weight"):
    (one,) = refused(fitted, rule, model, name, kind=ResolveError)
    return one


def test_numbers_are_expressions_over_facts():
    rule = {"init": "trunc_normal", "std": "(2 / (5 * fan_in)) ** 0.5", "a": "-3 * std", "b": "3 * std"}
    fill = fitted(rule, nn.Linear(10, 5)).fill
    assert (fill.scale, fill.low, fill.high) == pytest.approx((0.2, -0.6, 0.6))


def test_arguments_are_told_after_evaluation():
    found = fitted({"init": "kaiming_normal", "a": "1 / 2", "mode": "fan_out"}, nn.Linear(10, 5))
    assert found.arguments == {"a": 0.5, "mode": "fan_out"}


@given(st.integers(1, 50), st.integers(1, 50), st.sampled_from(["torch", "effective"]))
def test_a_bias_has_its_layers_fans(inputs, outputs, fans):
    fill = fitted(
        {"init": "uniform", "a": "-1 / fan_in", "b": "fan_out"}, nn.Linear(inputs, outputs), "bias", fans=fans
    ).fill
    assert fill == Uniform(-1 / inputs, outputs)


def test_the_models_config_is_known():
    plan = initframe.resolve(rules({"*.qkv.weight": {"init": "normal", "std": "init_range / d_model"}}), Tower())
    assert plan["decoder.0.qkv.weight"].fill.std == pytest.approx(0.0025)


@pytest.mark.parametrize(("fans", "fan_in", "fan_out"), [("torch", 6 * 9, 4 * 9), ("effective", 4 * 9 / 8, 6 * 9)])
def test_the_convention_of_fans_reaches_the_families(fans, fan_in, fan_out):
    model = nn.ConvTranspose2d(4, 12, 3, groups=2, stride=2)
    for mode, count in (("fan_in", fan_in), ("fan_out", fan_out)):
        fill = fitted({"init": "kaiming_normal", "nonlinearity": "linear", "mode": mode}, model, fans=fans).fill
        assert fill.std == pytest.approx(1 / math.sqrt(count))


# --- splits ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_equal_blocks_have_the_fans_of_one(blocks, size, inputs):
    fill = fitted({"init": "xavier_uniform", "split": blocks}, nn.Linear(inputs, blocks * size)).fill
    alone = fitted({"init": "xavier_uniform"}, nn.Linear(inputs, size)).fill
    assert fill == Blocks((alone,) * blocks, (size,) * blocks)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(1, 6))
def test_blocks_of_any_sizes_have_their_own_fans(sizes, inputs):
    found = fitted({"init": "xavier_normal", "split": sizes}, nn.Linear(inputs, sum(sizes)))
    assert found.fill.sizes == tuple(sizes)
    for part, size in zip(found.fill.fills, sizes, strict=True):
        assert part.std == pytest.approx(math.sqrt(2 / (inputs + size)))


def test_sizes_may_be_expressions():
    sizes = ["heads * d", "d", "fan_out - (heads + 1) * d"]
    fill = fitted({"init": "zeros", "split": sizes}, nn.Linear(5, 40), vars={"heads": 3, "d": 8}).fill
    assert fill.sizes == (24, 8, 8)


def test_a_list_gives_every_block_its_value():
    found = fitted({"init": "constant", "val": [0, 1, 0, "1 / 2"], "split": 4}, nn.LSTM(3, 5), "bias_ih_l0")
    assert found.fill == Blocks((Constant(0), Constant(1), Constant(0), Constant(0.5)), (5, 5, 5, 5))
    assert found.arguments == {"val": (0, 1, 0, 0.5)}


def test_a_blocks_numbers_may_name_each_other():
    rule = {"init": "trunc_normal", "std": [1, 2], "a": "-2 * std", "b": "2 * std", "split": 2}
    one, other = fitted(rule, nn.Linear(3, 4)).fill.fills
    assert (one.low, one.high, other.low, other.high) == (-2, 2, -4, 4)


def test_a_gates_fans_are_effective_alone():
    for fans in ("torch", "effective"):
        fill = fitted({"init": "xavier_uniform", "split": 4}, nn.LSTM(6, 10), "weight_ih_l0", fans=fans).fill
        assert fill.fills[0].high == pytest.approx(math.sqrt(6 / (6 + 10)))


@pytest.mark.parametrize("fans", ["torch", "effective"])
def test_transposed_linears_split_along_their_second_dimension(fans):
    model = Conv1D(12, 5)
    fill = fitted({"init": "xavier_normal", "split": 3}, model, fans=fans).fill
    assert (fill.dim, fill.sizes) == (1, (4, 4, 4))
    assert fill.fills[0].std == pytest.approx(math.sqrt(2 / (5 + 4)))
    assert fitted({"init": "zeros", "split": 3}, model, "bias").fill.dim == 0


@pytest.mark.parametrize(
    ("rule", "fact"),
    [
        ({"split": 4}, "split: 4 does not divide dimension 0, which is 6. List the sizes."),
        ({"split": [2, 2]}, "split: the sizes [2, 2] must be positive integers that add up to 6."),
        ({"split": ["d0 / 4", "d0 - 1.5"]}, "split: the sizes [1.5, 4.5] must be positive integers"),
        ({"split": [7, -1]}, "split: the sizes [7, -1] must be positive"),
        ({"split": ["dd", 1]}, "split: unknown name 'dd'"),
        (
            {"split": 3, "init": "constant", "val": [0, 1]},
            "argument 'val': 2 values for 3 blocks.",
        ),
        ({"split": 2, "init": "constant", "val": [0, 1, 2]}, "argument 'val': 3 values for 2 blocks"),
        ({"init": "constant", "val": [0, 1]}, "argument 'val': a list gives one value per block"),
        ({"split": 2, "init": "orthogonal"}, "orthogonal needs a tensor of 2 or more dimensions"),
    ],
)
def test_splits_that_do_not_fit_are_refused(rule, fact):
    assert fact in str(problem({"init": "zeros", **rule}, nn.Linear(2, 6), "bias"))


def test_a_scalar_has_no_blocks():
    assert "split needs a tensor" in problem({"init": "zeros", "split": 1}, Tower(), "scale").fact


def test_blocks_of_a_whole_fill_are_whole_each():
    model = nn.Linear(4, 8)
    initframe.reinit(model, rules({"weight": {"init": "orthogonal", "split": 2}}))
    for half in model.weight.chunk(2):
        assert torch.allclose(half @ half.T, torch.eye(4), atol=1e-6)
    assert not torch.allclose(model.weight[:4], model.weight[4:])


def test_arguments_that_are_no_numbers_are_left_alone_in_blocks(table):
    @initializer("tabled")
    def tabled(slot, *, values: dict):
        return Constant(values["a"])

    found = fitted({"init": "tabled", "values": {"a": 3}, "split": 2}, nn.Linear(3, 4))
    assert found.arguments == {"values": {"a": 3}}


def test_blocks_lie_along_the_outputs_and_their_biases_have_their_fans():
    for layer, dim in ((Conv1D(24, 8), 1), (nn.Linear(8, 24), 0), (nn.ConvTranspose1d(8, 24, 1), 1)):
        for fans in ("torch", "effective"):
            rule = {"init": "uniform", "a": "-fan_in", "b": "fan_out", "split": 3}
            plan = initframe.resolve(rules({"*": rule}, fans=fans), layer)
            weight, bias = (a.fill for a in plan.assignments)
            assert (weight.dim, bias.dim) == (dim, 0)
            assert weight.fills == bias.fills
            if fans == "effective":
                assert (weight.fills[0].low, weight.fills[0].high) == (-8, 8)


# --- padding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule", [{"init": "normal"}, {"init": "zeros"}, {"init": "shift", "by": 1}, {"init": "normal", "split": 3}]
)
def test_a_padding_row_stays_zero(rule):
    model = nn.Embedding(9, 4, padding_idx=-3)
    found = fitted(rule, model)
    assert isinstance(found.fill, Masked)
    assert (found.fill.index, found.fill.value) == ((6,), 0.0)
    initframe.reinit(model, rules({"weight": rule}))
    assert not model.weight[6].any()


@pytest.mark.parametrize("rule", [{"init": "normal"}, {"init": "ones"}, {"init": "normal", "split": 3}])
def test_a_padding_row_is_filled_where_a_rule_says_so(rule):
    model = nn.Embedding(9, 4, padding_idx=0)
    initframe.reinit(model, rules({"weight": rule | {"padding": "fill"}}), seed=1)
    plain = nn.Embedding(9, 4)
    initframe.reinit(plain, rules({"weight": rule}), seed=1)
    assert torch.equal(model.weight, plain.weight)


def test_padding_is_one_of_two_words():
    (told,) = refused(fitted, {"init": "normal", "padding": "keep"}, nn.Embedding(2, 2), kind=RecipeError)
    assert (told.fact, told.options) == ("padding is 'keep'.", "Options: zero, fill.")


@pytest.mark.parametrize(
    "rule", [{"init": "keep"}, {"init": "scale", "by": 1}, {"init": "constant", "val": 3, "index": [6, 0]}]
)
def test_what_keeps_values_keeps_the_padding_row_too(rule):
    model = nn.Embedding(9, 4, padding_idx=6)
    with torch.no_grad():
        model.weight[6] = 5.0
    initframe.reinit(model, rules({"weight": rule}))
    assert model.weight[6, 1:].eq(5).all()


# --- what an initializer may do --------------------------------------------------------------------------------------


def test_an_initializer_that_fails_is_named(table):
    @initializer("failing")
    def failing(slot):
        return 1 / 0

    fact = problem("failing", nn.Linear(2, 2)).fact
    assert all(word in fact for word in ("failing", "ZeroDivisionError", "division by zero"))


def test_an_initializer_returns_a_fill(table):
    @initializer("wordy")
    def wordy(slot):
        return "zeros"

    fact = problem("wordy", nn.Linear(2, 2)).fact
    assert all(word in fact for word in ("wordy", "str", "Fill"))


def test_an_initializer_may_return_a_keep(table):
    @initializer("picky")
    def picky(slot):
        return Keep() if slot.ndim == 1 else Normal(0, 1)

    plan = initframe.resolve(rules({"*": "picky"}), nn.Linear(2, 2))
    assert [a.fill for a in plan.assignments] == [Normal(0, 1), Keep()]


@pytest.mark.parametrize(
    ("rule", "fact"),
    [
        ({"init": "normal", "std": -1}, "std must not be negative, got -1"),
        ({"init": "normal", "std": "0 - d0"}, "std must not be negative"),
        ({"init": "normal", "std": "sqrt(-d0)"}, "argument 'std': sqrt(-d0) is not defined"),
        ({"init": "normal", "std": "1 / (d0 - 6)"}, "argument 'std': 1 / (d0 - 6) divides by zero"),
        ({"init": "normal", "std": "10 ** 400"}, "argument 'std': 10 ** 400 is too large"),
        ({"init": "normal", "std": "fan_im"}, "argument 'std': unknown name 'fan_im'. Closest: fan_in"),
        ({"init": "normal", "std": "ndim > 1"}, "argument 'std': it is a condition, not a number"),
        ({"init": "normal", "std": True}, "argument 'std': it is a condition, not a number"),
        ({"init": "normal", "std": "sqrt"}, "argument 'std': sqrt is a function"),
        ({"init": "normal", "std": 1e39}, "cannot be drawn"),
        ({"init": "constant", "val": 1e39}, "it reaches 1e+39; torch.float32 ends at 3.4e+38"),
        ({"init": "xavier_uniform"}, "fan in and fan out need a tensor of 2 or more dimensions, this one has 1"),
        ({"init": "dirac", "groups": "d0 / 4"}, "argument 'groups': an integer is needed, got 1.5"),
        ({"init": "kaiming_uniform", "mode": "fan"}, "argument 'mode': got 'fan'. Options: fan_in, fan_out"),
        ({"init": "eye"}, "eye needs a tensor of 2 dimensions"),
    ],
)
def test_what_does_not_fit_is_said_with_rule_and_tensor(rule, fact):
    told = problem(rule, nn.Linear(2, 6), "bias")
    assert told.subject.startswith("rule 'bias' on bias [6]")
    assert fact in str(told)


def test_fifty_alike_are_one_message():
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(50)))
    (told,) = refused(initframe.resolve, rules({"*": "xavier_uniform"}), model, kind=ResolveError)
    assert told.subject == "rule '*' on 0.bias [3], 1.bias [3] and 48 more"
