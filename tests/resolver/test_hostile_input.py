"""Whatever is laid over whatever: one kind of error, no write before it, the same plan twice and in any order."""

import copy
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import bits, changed
from torch import nn
from trees import LAYERS, ODD_NAMES, trees

import initframe
from initframe.errors import InitframeError
from initframe.initializers import get
from initframe.initializers.arguments import signature
from initframe.model.survey import survey

pytestmark = pytest.mark.filterwarnings("ignore:Lazy modules")

WORDS = ["fan_in", "d0", "layer", "layers", "numel", "relu", "std", "val", "x", "pi", "sqrt", "1", "and", "not"]
TEXTS = st.sampled_from(["", " ", "1/0", "1e999", "ndim > 1", "().__class__", "a" * 2000, "1" * 400]) | st.text(
    max_size=8
)
TEXTS |= st.lists(st.sampled_from([*WORDS, *"+-*/()<>,. ", "**"]), max_size=6).map(" ".join)
NUMBERS = st.sampled_from(
    [0, 1, -1, 0.5, 2, 3, 1e-300, 1e38, 10**400, "fan_in", "d0 - 1", "layer", "std", "2 * val", "relu"]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | NUMBERS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=2))
PLAIN = ["normal", "uniform", "zeros", "ones", "constant", "keep", "torch_default", "trunc_normal", "xavier_uniform"]
INITS = st.sampled_from(PLAIN) | st.sampled_from(initframe.list_initializers())
OPTIONS = {
    "module": st.sampled_from(["*", "Linear", "*Norm*", "Nothing"]),
    "inside": st.sampled_from(["*", "Module", "LSTM"]),
    "where": TEXTS | st.sampled_from(["ndim > 1", "fan_in > 2", "layer == 0", "d0 > 1 and d1 > 1"]),
    "kind": st.sampled_from(["any", "any", "buffer", "parameter"]),
    "split": st.integers(-1, 4) | st.lists(NUMBERS, max_size=3),
    "optional": st.booleans(),
}


def rarely(strategy, hostile, odds=8):
    """Mostly the one, now and then the other."""
    return st.integers(0, odds).flatmap(lambda n: hostile if n == odds else strategy)


@st.composite
def patterns(draw, names):
    """Patterns that match something, nearly so, or are none."""
    wild = st.sampled_from(["*", "*.*", "*weight", "*.{layer}.*", "{x}", "[!a]*", "?", "{", "]", "[", "*[0-9]*", "\0"])
    one = draw(wild | ODD_NAMES | (st.sampled_from(names) if names else wild))
    if draw(st.booleans()) and one:
        at = draw(st.integers(0, len(one) - 1))
        one = one[:at] + draw(st.sampled_from(["*", "?", "", "x", "{layer}"])) + one[at + 1 :]
    return one


@st.composite
def rules(draw, names):
    """A rule, mostly well-formed."""
    init = draw(rarely(INITS, TEXTS))
    rule = {"match": draw(rarely(patterns(names), st.lists(patterns(names), max_size=2))), "init": init}
    if init in initframe.list_initializers():
        for key, parameter in signature(get(init)).items():
            values = NUMBERS if parameter.numeric else st.sampled_from([*parameter.options, "relu", "q"])
            if parameter.required or draw(st.integers(0, 2)) == 0:
                rule[key] = draw(rarely(values, VALUES))
    for key in draw(st.lists(st.sampled_from(sorted(OPTIONS)), max_size=1)):
        rule[key] = draw(rarely(OPTIONS[key], VALUES))
    return draw(rarely(st.just(rule), st.just(rule | {draw(TEXTS): draw(VALUES)})))


@st.composite
def cases(draw, **kinds):
    """A model, and a recipe that may fit it."""
    model = draw(trees(**kinds))
    names = [name for slot in survey(model).slots for name in (slot.name, *slot.aliases)]
    one = rarely(rules(names), VALUES, odds=20)
    recipe = {"rules": draw(st.dictionaries(ODD_NAMES, one, min_size=1, max_size=3)), "unused": "warn"}
    more = st.dictionaries(st.sampled_from(["vars", "unused", "unmatched", "fans", "base"]), VALUES, max_size=1)
    return model, recipe | draw(rarely(st.just({}), more, odds=10))


def planned(recipe, model):
    """The plan, or the message; either leaves the model as it is."""
    before = bits_of_filled(model)
    try:
        return initframe.resolve(recipe, model)
    except InitframeError as error:
        return str(error)
    finally:
        assert changed(materialized(model), before) == set()


def materialized(model):
    """The state of a model, less what has no values yet."""
    return {
        name: tensor for name, tensor in model.state_dict().items() if type(tensor).__name__ != "UninitializedParameter"
    }


def bits_of_filled(model):
    return bits(materialized(model))


@pytest.mark.slow
@settings(max_examples=500)
@given(cases(layers=LAYERS))
def test_there_is_a_plan_or_one_error_of_ours(case):
    model, recipe = case
    outcome = planned(recipe, model)
    assert isinstance(outcome, initframe.Plan | str)
    assert str(outcome)


@pytest.mark.slow
@settings(max_examples=200)
@given(cases(layers=LAYERS))
def test_resolving_twice_says_the_same(case):
    model, recipe = case
    assert planned(recipe, model) == planned(recipe, model)


@pytest.mark.slow
@settings(max_examples=200)
@given(cases(layers=LAYERS))
def test_what_is_refused_is_refused_whole(case):
    model, recipe = case
    before = bits_of_filled(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            initframe.reinit(model, recipe, seed=0)
    except InitframeError:
        assert changed(materialized(model), before) == set()


def turned_round(model):
    """A copy of a model with everything registered in the opposite order."""
    other = copy.deepcopy(model)
    for module in other.modules():
        for kind in ("_parameters", "_buffers", "_modules"):
            held = getattr(module, kind)
            items = list(held.items())
            held.clear()
            held.update(reversed(items))
    return other


@pytest.mark.slow
@settings(max_examples=200)
@given(cases(ties=False))
def test_the_order_of_a_models_tensors_does_not_matter(case):
    model, recipe = case
    one, other = planned(recipe, model), planned(recipe, turned_round(model))
    assert isinstance(one, str) == isinstance(other, str)
    if isinstance(one, initframe.Plan):
        assert entries(one) == entries(other)


def entries(plan):
    """What a plan says of every tensor, by name."""
    told = plan.to_dict()
    assigned = {entry["name"]: entry for entry in told["assignments"]}
    return assigned, set(told["untouched"]), told["skipped"]


def test_a_stack_without_end_is_refused():
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].parent = model
    assert "contains itself" in planned_text({"rules": {"*": "ones"}}, model)


def planned_text(recipe, model):
    with pytest.raises(InitframeError) as caught:
        initframe.resolve(recipe, model)
    return str(caught.value)
