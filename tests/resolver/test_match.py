"""Matching: which rules match a tensor, by every condition a rule has, and why a rule matches none."""

from fnmatch import fnmatchcase

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import Tower, convnet, rules
from refusals import refused
from torch import nn

import initframe
from initframe.errors import RecipeError, ResolveError

TOWER = Tower()
NAMES = [name for name, _ in TOWER.named_parameters()]


def matched(model=TOWER, unused="error", **conditions):
    """Names of the tensors that one rule wins."""
    plan = initframe.resolve(rules({"rule": {"init": "ones", **conditions}}, unused=unused), model)
    return [a.slot.name for a in plan.assignments]


def why(model=TOWER, **conditions):
    """The one message about a rule that matches nothing."""
    (problem,) = refused(lambda: matched(model, **conditions), kind=ResolveError)
    return problem


GLOBS = st.lists(st.sampled_from(["*", ".", "encoder", "decoder", "0", "2", "norm", "bias", "weight", "?"]), min_size=1)
PATTERNS = st.one_of(GLOBS.map("".join), st.sampled_from(NAMES), st.sampled_from(["*.weight", "*.bias", "*"]))
MATCHES = st.lists(PATTERNS, min_size=1, max_size=3)


def hits(patterns, name):
    return any(fnmatchcase(name, p) or (p.startswith("*.") and fnmatchcase(name, p[2:])) for p in patterns)


@given(st.lists(st.tuples(MATCHES, st.lists(PATTERNS, max_size=2)), min_size=1, max_size=5))
def test_the_last_rule_that_matches_wins_and_the_others_are_shadowed(written):
    """Against the definition, name by name; tied names are left out of the model."""
    model = {name: torch.zeros(1) for name in NAMES}
    recipe = {f"r{i}": {"match": m, "exclude": x, "init": "ones"} for i, (m, x) in enumerate(written)}
    plan = initframe.resolve(rules(recipe, unused="warn"), model)
    for name in NAMES:
        found = [f"r{i}" for i, (m, x) in enumerate(written) if hits(m, name) and not hits(x, name)]
        assert (name in plan.untouched) == (not found)
        if found:
            assert (*plan[name].shadowed, plan[name].rule.name) == tuple(found)


@given(st.permutations(NAMES))
def test_the_order_of_the_models_tensors_does_not_matter(names):
    recipe = rules({"*": "zeros", "*.weight": "ones", "encoder.*": {"init": "normal", "exclude": "*.1.*"}})
    one = initframe.resolve(recipe, {name: torch.zeros(2, 2) for name in NAMES})
    other = initframe.resolve(recipe, {name: torch.zeros(2, 2) for name in names})
    assert {a.slot.name: a for a in one.assignments} == {a.slot.name: a for a in other.assignments}


def test_a_captured_integer_is_a_fact_and_so_is_how_many_there_are():
    facts = {"match": "*.{layer}.qkv.weight", "init": "normal", "mean": "layer", "std": "layers"}
    plan = initframe.resolve(rules({"rule": facts}), TOWER)
    numbers = {a.slot.name: (a.fill.mean, a.fill.std) for a in plan.assignments}
    assert numbers == {
        "encoder.0.qkv.weight": (0, 3),
        "encoder.1.qkv.weight": (1, 3),
        "encoder.2.qkv.weight": (2, 3),
        "decoder.0.qkv.weight": (0, 2),
        "decoder.1.qkv.weight": (1, 2),
    }


def test_layers_are_counted_before_other_conditions():
    facts = {"match": "*.{layer}.*", "exclude": "*.1.*", "module": "Linear", "where": "ndim > 1 and layer < 2"}
    plan = initframe.resolve(rules({"rule": {**facts, "init": "constant", "val": "layers"}}), TOWER)
    assert {a.slot.name.split(".")[0]: a.fill.value for a in plan.assignments} == {"encoder": 3, "decoder": 2}
    assert {a.slot.name.split(".")[1] for a in plan.assignments} == {"0"}


def test_where_several_patterns_match_the_first_one_speaks():
    rule = {"match": ["encoder.{layer}.norm.bias", "*.{depth}.norm.bias"], "init": "constant", "val": "layer"}
    assert (
        initframe.resolve(rules({"rule": {**rule, "exclude": "decoder.*"}}), TOWER)["encoder.2.norm.bias"].fill.value
        == 2
    )


@pytest.mark.parametrize(
    ("globs", "indices"),
    [
        ("Conv2d", [0, 2]),
        ("Conv*", [0, 2, 3, 4]),
        ("*Norm*", [1]),
        ("_ConvNd", [0, 2, 3, 4]),
        ("Module", [0, 1, 2, 3, 4, 5]),
        (["Linear", "BatchNorm2d"], [1, 5]),
    ],
)
def test_module_globs_hit_classes_and_their_bases(globs, indices):
    assert matched(convnet(), match="*.weight", module=globs) == [f"{i}.weight" for i in indices]


def test_a_tied_tensor_has_the_modules_of_all_its_owners():
    assert matched(match="head.weight", module="Linear") == ["embed.weight"]
    assert matched(match="embed.weight", module="Embedding") == ["embed.weight"]


def test_a_tied_tensor_is_matched_by_any_of_its_names():
    for name in ("embed.weight", "head.weight", "h*.weight"):
        assert matched(match=name) == ["embed.weight"]


def test_excluding_one_name_of_a_tied_tensor_leaves_the_other():
    assert "embed.weight" in matched(match="*.weight", exclude="head.weight")
    assert "embed.weight" not in matched(match="*.weight", exclude=["head.weight", "embed.weight"])


def test_kinds():
    buffers = ["bn.running_mean", "bn.running_var", "bn.num_batches_tracked"]
    assert matched(match="bn.*") == ["bn.weight", "bn.bias"]
    assert matched(match="bn.*", kind="buffer") == buffers[:2]
    assert matched(match="bn.*", kind="any") == ["bn.weight", "bn.bias", *buffers[:2]]


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("ndim > 1", {"0.weight", "2.weight", "3.weight", "4.weight", "5.weight"}),
        ("ndim == 1 and d0 == 10", {"5.bias"}),
        ("ndim > 1 and fan_in >= 30 or numel < 0", {"3.weight", "4.weight"}),
        ("not ndim > 1 and d0 < 6", {"4.bias"}),
        ("true_width == d0", {"0.weight", "0.bias", "1.weight", "1.bias"}),
    ],
)
def test_where_asks_the_facts(condition, names):
    recipe = rules({"rule": {"match": "*", "where": condition, "init": "ones"}}, vars={"true_width": 8})
    plan = initframe.resolve(recipe, convnet())
    assert {a.slot.name for a in plan.assignments} == names


@pytest.mark.parametrize(
    ("conditions", "facts"),
    [
        ({"match": "encodr.0.qkv.weight"}, ["no tensor of Tower", "Closest names: encoder.0.qkv.weight"]),
        (
            {"match": "*.num_batches_tracked"},
            ["only the buffer bn.num_batches_tracked", "kind: any"],
        ),
        ({"match": "*.weight", "kind": "buffer"}, ["no buffer of Tower, only the parameter"]),
        ({"match": "bn.*", "module": "Linear"}, ["module Linear leaves nothing", "modules are BatchNorm1d"]),
        ({"match": "bn.*", "exclude": "bn*"}, ["exclude leaves nothing of bn.weight [8], bn.bias [8]"]),
        ({"match": "bn.*", "where": "ndim > 1"}, ["where 'ndim > 1' is false for bn.weight [8], bn.bias [8]"]),
        ({"match": "bn.*", "where": "dnim > 1"}, ["where 'dnim > 1': unknown name 'dnim'. Closest: ndim"]),
        ({"match": "bn.*", "where": "ndim"}, ["it is a number (1), not a condition"]),
        ({"match": "bn.*", "where": "d1 > 1"}, ["it has no d1"]),
        ({"match": "*.weight", "exclude": "hed.weight"}, ["exclude hed.weight takes nothing away", "head.weight"]),
        ({"match": "*.bais"}, ["Closest names: encoder.0.norm.bias, encoder.0.qkv.bias, encoder.0.proj.bias. Fix"]),
        ({"match": "*.running_mea"}, ["Closest names: bn.running_mean. Fix"]),
        ({"match": "*.qvk.weight"}, ["Closest names: encoder.0.qkv.weight, encoder.1.qkv.weight, encoder.2.qkv"]),
        ({"match": "encoders.*.qkv.weight"}, ["Closest names: encoder.0.qkv.weight, encoder.1.qkv.weight, encoder.2"]),
        ({"match": ["nothing.at.all", "*.bais"]}, ["Closest names: encoder.0.norm.bias"]),
    ],
)
def test_a_rule_that_matches_nothing_says_why(conditions, facts):
    problem = why(**conditions)
    assert problem.subject.startswith("rule 'rule' (match ")
    assert all(fact in str(problem) for fact in facts), problem


def test_a_word_that_may_be_meant_as_a_name_is_told_so():
    (problem,) = refused(initframe.resolve, rules(top="zeros"), TOWER, kind=ResolveError)
    assert all(word in problem.fix for word in ("'top'", "match:", "pattern"))


def test_what_can_be_read_of_a_broken_rule_is_looked_at_too():
    written = {"match": "*.wieght", "where": "ndim >", "init": "xavier_uniform", "gian": 2}
    broken = rules(w=written, b={"match": "*.bias", "kind": "x", "init": "nothing"})
    facts = [
        "where 'ndim >'",
        "kind is 'x'",
        "unknown argument 'gian'",
        "unknown initializer 'nothing'",
        "no tensor of",
    ]
    for fact, problem in zip(facts, refused(initframe.resolve, broken, TOWER), strict=True):
        assert fact in str(problem)


def test_a_broken_rule_causes_no_further_problems():
    written = {"match": "*", "where": "ndim >", "init": "xavier_uniform"}  # which bn.bias could not take
    assert len(refused(initframe.resolve, rules(w=written), TOWER, kind=RecipeError)) == 1


@pytest.mark.parametrize("rule", [{"std": "d4"}, {"std": "nowhere"}, {"std": "nowhere", "mean": "nothing"}])
def test_one_mistake_is_told_once_whatever_the_shapes(rule):
    recipe = rules(w={"match": "*weight", "init": "normal"} | rule)
    assert len(refused(initframe.resolve, recipe, convnet(), kind=ResolveError)) == len(rule)


def test_a_warning_does_not_advise_what_is_set_already():
    plan = initframe.resolve(rules({"encodr.*": "zeros", "bn.bias": "ones"}, unused="warn"), TOWER)
    assert "unused: warn" not in str(plan)


def test_an_optional_rule_may_match_nothing():
    assert matched(match="nothing", optional=True) == []
    assert matched(match="bn.bias", exclude="nothing", optional=True) == ["bn.bias"]


def test_unused_may_be_a_warning_of_the_plan():
    plan = initframe.resolve(rules({"encodr.*": "zeros", "bn.bias": "ones"}, unused="warn"), TOWER)
    (warning,) = plan.warnings
    assert "rule 'encodr.*'" in warning
    assert f"Warning: {warning}" in " ".join(str(plan).split())  # its lines are wrapped


def test_a_shadowed_rule_is_not_unused():
    plan = initframe.resolve(rules({"bn.bias": "zeros", "*": "ones"}), TOWER)
    assert plan["bn.bias"].shadowed == ("bn.bias",)


def test_a_state_dict_has_no_modules():
    state = nn.Linear(2, 2).state_dict()
    assert matched(state, match="weight") == ["weight"]
    assert "modules are not known" in why(state, match="weight", module="Linear").options
