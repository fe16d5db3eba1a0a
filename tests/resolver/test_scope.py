"""What an expression may name, and which name wins."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import Tower
from torch import nn

from initframe.model.slot import Slot
from initframe.model.survey import survey
from initframe.recipe.expressions import ExpressionError, number, parse
from initframe.recipe.recipe import load_recipe
from initframe.resolver.scope import Scope

LINEAR = Slot("w", (3, 5), fan_in=5, fan_out=3, effective_fan_in=2, effective_fan_out=7)


def scope(model=None, **options):
    return Scope(load_recipe({"rules": {"*": "zeros"}, **options}), survey(nn.Linear(1, 1) if model is None else model))


def value(text, slot=LINEAR, captures=None, arguments=None, **options):
    parsed = {name: parse(written) for name, written in (arguments or {}).items()}
    return number(parse(text), scope(**options).facts(slot, captures or {}, parsed))


@given(st.lists(st.integers(0, 9), max_size=5).map(tuple))
def test_a_shape_is_told_in_full(shape):
    facts = scope().facts(Slot("w", shape), {})
    assert facts["ndim"] == len(shape)
    assert facts["numel"] == torch.Size(shape).numel()
    assert [facts[f"d{i}"] for i in range(len(shape))] == list(shape)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fan_in", 5),
        ("fan_out", 3),
        ("relu ** 2", 2),
        ("leaky_relu(1)", 1),
        ("sqrt(max(d0, d1) - 1)", 2),
        ("min(pi, 4) < 3.15 and 1 or 0", None),
        ("log(1)", 0),
    ],
)
def test_names_that_every_expression_knows(text, expected):
    if expected is None:
        with pytest.raises(ExpressionError, match="a condition, not a number"):
            value(text)
    else:
        assert value(text) == pytest.approx(expected)


def test_fans_follow_the_convention():
    assert value("fan_in", fans="effective") == 2
    assert value("fan_out", fans="effective") == 7


def test_captures_arguments_vars_and_config_are_names():
    assert value("layer + layers", captures={"layer": 3, "layers": 4}) == 7
    assert value("-3 * std", arguments={"std": 0.5}) == -1.5
    assert value("sqrt(base)", vars={"base": 256}) == 16
    assert value("init_range * d_model", model=Tower()) == pytest.approx(0.16)


def test_order_does_not_matter():
    assert value("b", arguments={"b": "2 * a", "a": "fan_in + x"}, vars={"x": "y", "y": 1}) == 12


def test_the_nearer_name_wins():
    names = {"captures": {"x": 1}, "arguments": {"x": 2}, "vars": {"x": 3}}
    assert value("x", **names) == 1
    assert value("x", **{k: v for k, v in names.items() if k != "captures"}) == 2
    assert value("x", vars={"x": 3}) == 3
    assert value("d_model", vars={"d_model": 3}, model=Tower()) == 3


@pytest.mark.parametrize("text", ["fan_in", "fan_out", "d1", "d7"])
def test_a_fact_that_a_tensor_lacks_says_so(text):
    with pytest.raises(ExpressionError, match=rf"it has no {text}\.$"):
        value(text, Slot("b", (3,)))


def test_an_unknown_name_is_told_the_closest():
    with pytest.raises(ExpressionError, match=r"unknown name 'fan_im'\. Closest: fan_in"):
        value("fan_im")


@pytest.mark.parametrize("written", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "b + 1"}])
def test_a_circle_is_an_error(written):
    with pytest.raises(ExpressionError, match="is defined by itself"):
        value("a", arguments=written)
    with pytest.raises(ExpressionError, match="is defined by itself"):
        value("a", vars=written)


def test_facts_can_be_asked_again_after_an_error():
    facts = scope().facts(LINEAR, {}, {"a": parse("b"), "b": parse("1 / (fan_in - 5)")})
    for _ in range(2):
        with pytest.raises(ExpressionError, match="divides by zero"):
            number(parse("a"), facts)


LAYERS = {  # all of whose channels are a number of times as many as the base's
    "Linear": lambda width: nn.Linear(width, 3 * width),
    "Conv": lambda width: nn.Conv2d(width, 2 * width, 3),
    "grouped": lambda width: nn.Conv2d(width, width, 3, groups=4),
    "depthwise": lambda width: nn.Conv2d(width, 2 * width, 3, groups=width),
    "transposed": lambda width: nn.ConvTranspose2d(width, width // 2, 4, 2),
    "transposed in groups": lambda width: nn.ConvTranspose1d(width, 2 * width, 4, 2, groups=2),
    "attention": lambda width: nn.MultiheadAttention(width, 2),
    "LSTM": lambda width: nn.LSTM(width, width),
    "GRU": lambda width: nn.GRU(7, width),
    "Conv1D": lambda width: pytest.importorskip("transformers").pytorch_utils.Conv1D(4 * width, width),
}


@pytest.mark.parametrize("fans", ["torch", "effective"])
@pytest.mark.parametrize("layer", LAYERS)
def test_base_fans_are_counted_as_the_models_are(layer, fans):
    base, model = (survey(LAYERS[layer](width)) for width in (8, 32))
    shapes = {slot.name: list(slot.shape) for slot in base.slots}
    laid = Scope(load_recipe({"rules": {"*": "zeros"}, "fans": fans, "base": shapes}), model)
    for slot, other in zip(model.slots, base.slots, strict=True):
        facts = laid.facts(slot, {})
        own = laid.counted(other)
        assert (facts["base_fan_in"], facts["base_fan_out"]) == (own.fan_in, own.fan_out), slot.name
