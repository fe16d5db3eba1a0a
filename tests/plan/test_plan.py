"""The plan: data that can be read, printed, packed and asked before anything happens."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import Net, Tower, convnet, rules
from refusals import refused
from safetensors.torch import save_file
from torch import nn

import initframe
from initframe.errors import ResolveError
from initframe.plan.table import table
from initframe.plan.text import WIDTH

OVERLAID = rules(
    {
        "weights": {"match": "*.weight", "where": "ndim > 1", "init": "xavier_uniform", "gain": "relu"},
        "*.bias": "zeros",
        "cut": {"match": "*.qkv.weight", "init": "trunc_normal", "std": 0.02, "a": "-std", "b": "std", "split": 3},
        "*.norm.*": "keep",
        "scale": {"init": "shrink_perturb", "std": 0.1},
        "idle": {"match": "decoder.7.*", "init": "ones"},
    },
    unused="warn",
)


@pytest.fixture(scope="module")
def alexnet():
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        return models.alexnet()


# --- golden ----------------------------------------------------------------------------------------------------------


def test_alexnets_plan(alexnet, golden):
    golden("alexnet_xavier_relu.txt", str(initframe.resolve("xavier_relu", alexnet)))


def test_a_plan_with_everything_in_it(golden):
    model = Tower()
    model.decoder.requires_grad_(False)
    golden("tower_overlaid.txt", str(initframe.resolve(OVERLAID, model)))


def test_fans_that_differ_are_marked(golden):
    recipe = rules({"*": "keep", "*.weight": {"init": "kaiming_normal", "where": "ndim > 1"}}, fans="effective")
    golden("convnet_effective.txt", str(initframe.resolve(recipe, convnet())))


def test_explanations(golden):
    model = Tower()
    plan = initframe.resolve(OVERLAID, model)
    names = ["embed.weight", "head.weight", "encoder.0.qkv.weight", "encoder.0.norm.weight", "scale", "bn.weight"]
    golden("tower_explained.txt", "\n".join(plan.explain(name) for name in names))


# --- text ------------------------------------------------------------------------------------------------------------


def grid(plan):
    """The lines of a plan's table, less what is left over."""
    return str(plan).split("\nUntouched")[0].splitlines()


@pytest.mark.parametrize("recipe", ["xavier_relu", "kaiming_relu", "orthogonal_relu", "torch_default", "zeros_bias"])
def test_a_table_fits_its_columns(alexnet, recipe):
    lines = grid(initframe.resolve(recipe, alexnet))
    assert max(map(len, lines)) <= WIDTH
    assert not any(line.endswith(" ") for line in lines)


CELLS = st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=40).map(str.strip)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=5), st.integers(40, 120))
def test_tables_lose_nothing_and_hold_their_width(rows, width):
    lines = table(("a", "b", "c"), rows, width).splitlines()
    assert max(map(len, lines)) <= width
    body = "".join("".join(lines[2:]).split())
    assert sorted(body) == sorted("".join("".join(cell for row in rows for cell in row).split()))


def test_brackets_in_names_are_no_markup():
    assert "[bold]" in table(("a",), [("[bold]",)])


def test_explaining_what_is_left_over():
    plan = initframe.resolve(rules({"fc1.*": "ones"}), Net())
    assert plan.explain("fc2.bias") == "fc2.bias is untouched: no rule matches it. It keeps its values."
    (problem,) = refused(plan.explain, "fc2.bais", kind=ResolveError)
    assert "'fc2.bais'" in problem.fact
    assert problem.options.startswith("Closest: fc2.bias")
    empty = initframe.resolve(rules(w="ones"), {"w": torch.zeros(0)})
    assert empty.explain("w") == "w is skipped: it has no elements."


def test_every_tensor_of_a_model_can_be_explained():
    model = nn.Sequential(
        nn.Linear(2, 2), nn.Linear(2, 2, bias=False), nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 2, 1))
    )
    model.append(nn.BatchNorm1d(2))
    model[1].weight = model[0].weight
    plan = initframe.resolve(rules({"2.weight": "normal", "0.bias": {"init": "keep"}}), model)
    told = {name: plan.explain(name) for name in [*model.state_dict(), "2.weight"]}
    assert told["1.weight"] == "1.weight is untouched: it is 0.weight, and no rule matches it. It keeps its values."
    assert "buffer, and no rule of kind: buffer" in told["3.running_mean"]
    assert "2.weight is computed from it, and filled through it." in told["2.parametrizations.weight.original0"]
    raw = initframe.resolve(rules({"*.original0": "ones"}), model)
    assert "no rule names it; 2.weight is computed from it." in raw.explain("2.parametrizations.weight.original1")


def test_what_a_rule_declines_is_explained(tmp_path):
    save_file({"weight": torch.ones(2, 2)}, tmp_path / "w.safetensors")
    recipe = rules(p={"match": "*", "init": "pretrained", "path": str(tmp_path / "w.safetensors")})
    text = initframe.resolve(recipe, nn.Linear(2, 2)).explain("bias")
    assert "bias is untouched: rule 'p' declines it: " in text


def test_what_a_layer_makes_of_a_fill_is_not_promised():
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))
    text = initframe.resolve(rules(weight={"init": "normal", "std": 100}), layer).explain("weight")
    assert "std 100 before its parametrization" in text
    assert "std 100." not in text


def test_what_a_cut_leaves_of_the_std_is_explained():
    plan = initframe.resolve(
        rules(weight={"init": "trunc_normal", "std": 0.02, "a": -0.02, "b": 0.02}), nn.Linear(3, 3)
    )
    assert plan["weight"].std_difference in plan.explain("weight").lower()
    assert all(number in plan["weight"].std_difference for number in ("0.02", "0.01079", "×0.540"))
    noisy = initframe.resolve(rules(weight={"init": "shrink_perturb", "std": 0.02}), nn.Linear(3, 3))
    assert "nan" not in noisy.explain("weight")


# --- data ------------------------------------------------------------------------------------------------------------


def test_a_plan_packs_into_json(alexnet):
    for plan in (initframe.resolve(OVERLAID, Tower()), initframe.resolve("xavier_relu", alexnet)):
        data = json.loads(json.dumps(plan.to_dict(), allow_nan=False))
        assert [entry["name"] for entry in data["assignments"]] == [a.slot.name for a in plan.assignments]
        assert data["untouched"] == list(plan.untouched)
        assert initframe.load_recipe(data["recipe"]) == plan.recipe


def test_an_entry_tells_what_the_tensor_will_hold(alexnet):
    entry = initframe.resolve("xavier_relu", alexnet).to_dict()["assignments"][0]
    expected = {
        "name": "features.0.weight",
        "shape": [64, 3, 11, 11],
        "dtype": "float32",
        "rule": "weights",
        "init": "xavier_uniform",
        "fan_in": 363,
        "fan_out": 7744,
        "mean": 0.0,
    }
    assert expected.items() <= entry.items()
    assert entry["std"] == pytest.approx((2 * 2 / (363 + 7744)) ** 0.5)
    assert entry["fill"]["high"] == pytest.approx(entry["std"] * 3**0.5)


def test_infinite_moments_are_null(table):
    @initframe.initializer("cauchy")
    def cauchy(slot):
        return initframe.Elementwise(torch.tan, float("nan"), float("inf"))

    plan = initframe.resolve(rules(weight="cauchy"), nn.Linear(2, 2))
    assert (plan.to_dict()["assignments"][0]["mean"], plan.to_dict()["assignments"][0]["std"]) == (None, None)


def test_a_plan_is_asked_by_any_name():
    plan = initframe.resolve(rules({"*.weight": "ones"}), Tower())
    assert plan["head.weight"] is plan["embed.weight"]
    (problem,) = refused(plan.__getitem__, "haed.weight", kind=ResolveError)
    assert "'haed.weight'" in problem.fact
    assert "head.weight" in problem.options


def test_elements_are_counted():
    plan = initframe.resolve(rules({"fc1.*": "ones"}), Net())
    assert plan.elements == 784 * 128 + 128


def test_the_contracts_names():
    plan = initframe.resolve(rules({"fc1.*": "zeros", "fc1.weight": "normal"}), Net())
    found = plan.assignments[0]
    assert (found.slot.name, found.slot.shape, found.slot.fan_in, found.slot.fan_out) == (
        "fc1.weight",
        (128, 784),
        784,
        128,
    )
    assert (found.rule.name, found.fill.mean, found.fill.std, found.shadowed) == ("fc1.weight", 0.0, 1.0, ("fc1.*",))
    assert plan.untouched == ("fc2.weight", "fc2.bias")
