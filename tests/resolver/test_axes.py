"""``axes``: what a tensor's dimensions mean, where no layer says it."""

import math

import pytest
import torch
from torch import nn

import initframe
from initframe.errors import RecipeError, ResolveError
from initframe.resolver.build import READ_AS_CONVOLUTION
from tests.refusals import refused

EXPERTS = ["batch", "out", "in"]
FANS = [("kaiming_normal", lambda i, o: math.sqrt(2 / i)), ("xavier_normal", lambda i, o: math.sqrt(2 / (i + o)))]


class Holder(nn.Module):
    """Bare parameters, as models hold stacked weights."""

    def __init__(self, **shapes):
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))


def rule(match, axes, init="kaiming_normal", **more):
    return {"rules": {"r": {"match": match, "axes": axes, "init": init, **more}}}


def filled(recipe, model, **options):
    report = initframe.reinit(model, recipe, seed=0, **options)
    return report.plan


@pytest.mark.parametrize("fans", ["torch", "effective"])
@pytest.mark.parametrize(("init", "std"), FANS)
@pytest.mark.parametrize(
    ("axes", "shape", "counted"),
    [
        (EXPERTS, (8, 64, 128), (128, 64)),
        (["batch", "in", "out"], (8, 64, 128), (64, 128)),
        (["kernel", "kernel", "in", "out"], (3, 3, 16, 32), (144, 288)),
        (["in", "out"], (16, 32), (16, 32)),
        (["in", "out", "out"], (16, 4, 8), (16, 32)),
        (["batch", "batch", "out", "in", "kernel"], (2, 3, 8, 4, 5), (20, 40)),
    ],
)
def test_fans_are_those_of_one_member(fans, init, std, axes, shape, counted):
    plan = initframe.resolve(rule("w", axes, init) | {"fans": fans}, Holder(w=shape))
    assert plan["w"].fill.std == pytest.approx(std(*counted))
    assert (plan["w"].slot.fan_in, plan["w"].slot.fan_out) == counted


def test_the_experts_of_mixtral_and_gpt_oss():
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}
    mixtral = transformers.MixtralForCausalLM(transformers.MixtralConfig(**sizes))
    recipe = rule(["*.experts.gate_up_proj", "*.experts.down_proj"], EXPERTS)
    plan = filled(recipe, mixtral)
    found = {name.rpartition(".")[2]: plan[name].fill.std for name in (a.slot.name for a in plan.assignments)}
    assert found == pytest.approx({"gate_up_proj": math.sqrt(2 / 32), "down_proj": math.sqrt(2 / 48)})
    gpt = transformers.GptOssForCausalLM(transformers.GptOssConfig(**sizes, head_dim=8))
    recipe = rule(["*.experts.gate_up_proj", "*.experts.down_proj"], ["batch", "in", "out"])
    recipe["rules"]["b"] = {"match": "*.experts.*_bias", "axes": ["batch", "out"], "init": "constant", "val": "fan_in"}
    plan = filled(recipe, gpt)
    found = {a.slot.attribute: (a.slot.fan_in, a.slot.fan_out) for a in plan.assignments}
    assert found["gate_up_proj"] == found["gate_up_proj_bias"] == (32, 96)
    assert found["down_proj"] == found["down_proj_bias"] == (48, 32)
    assert gpt.model.layers[0].mlp.experts.down_proj_bias.unique().tolist() == [48]


@pytest.mark.parametrize("generator", ["stream", "torch"])
@pytest.mark.parametrize("axes", [EXPERTS, ["batch", "in", "out"]])
def test_every_member_is_orthogonal_and_drawn_apart(axes, generator):
    model = Holder(w=(5, 16, 24))
    filled(rule("w", axes, "orthogonal", gain=2.0), model, generator=generator)
    for one in model.w.detach():
        assert torch.allclose(one @ one.T, 4 * torch.eye(16), atol=1e-5)
    assert not torch.isclose(model.w[0], model.w[1]).all()


def test_jax_kernels_are_the_matrices_that_torch_would_have():
    model = Holder(w=(3, 3, 4, 8))
    filled(rule("w", ["kernel", "kernel", "in", "out"], "orthogonal"), model)
    matrix = model.w.detach().permute(3, 2, 0, 1).reshape(8, -1)
    assert torch.allclose(matrix @ matrix.T, torch.eye(8), atol=1e-5)
    filled(rule("w", ["kernel", "kernel", "in", "out"], "dirac"), model)
    assert torch.equal(model.w.detach().permute(3, 2, 0, 1), nn.init.dirac_(torch.empty(8, 4, 3, 3)))


def test_stacked_convolutions_of_an_ensemble():
    convolutions = [nn.Conv2d(8, 8, 3, groups=2) for _ in range(3)]
    params, _ = torch.func.stack_module_state(convolutions)
    plan = initframe.resolve(rule("weight", ["batch", "out", "in", "kernel", "kernel"]), params)
    assert plan["weight"].fill.std == pytest.approx(math.sqrt(2 / 36))


def test_numbers_of_single_elements_do_not_depend_on_axes():
    one, other = Holder(w=(4, 8, 6)), Holder(w=(4, 8, 6))
    filled(rule("w", EXPERTS, "normal", std=0.5), one)
    filled({"rules": {"w": {"init": "normal", "std": 0.5}}}, other)
    assert torch.equal(one.w, other.w)


@pytest.mark.parametrize(("axes", "dim"), [(EXPERTS, 1), (["batch", "in", "out"], 2)])
def test_split_follows_the_outputs(axes, dim):
    model = Holder(w=(3, 8, 8))
    plan = filled(rule("w", axes, "orthogonal", split=2, gain=[1.0, 3.0]), model)
    assert plan["w"].fill.dim == dim
    first, second = model.w.detach().chunk(2, dim)
    for one, gain in ((first, 1.0), (second, 3.0)):
        for member in one:
            rows = member if member.shape[0] < member.shape[1] else member.T
            assert torch.allclose(rows @ rows.T, gain**2 * torch.eye(4), atol=1e-4)
    plan = initframe.resolve(rule("w", axes, "xavier_normal", split=2), model)
    assert plan["w"].fill.fills[0].std == pytest.approx(math.sqrt(2 / 12))


def test_a_shard_holds_what_the_whole_has_there():
    from initframe.applying.regions import Region
    from initframe.fills import Orthogonal, Stacked

    fill = Stacked(Orthogonal((6, 4)), (4, 6, 4), tuple(EXPERTS))
    whole = initframe.fill_(torch.empty(4, 6, 4), fill, name="w")
    for dim, runs in ((0, ((1, 3),)), (1, ((0, 2), (5, 6))), (2, ((2, 4),))):
        held = tuple(runs if i == dim else ((0, size),) for i, size in enumerate((4, 6, 4)))
        region = Region((4, 6, 4), tuple((0, size) for size in (4, 6, 4)), held)
        part = initframe.fill_(torch.empty(region.local_shape), fill, name="w", region=region)
        assert torch.equal(part, region.pick(whole))


def test_the_stage_on_disk_has_the_same_numbers(tmp_path):
    from safetensors.torch import load_file

    model = Holder(w=(3, 8, 4))
    plan = filled(rule("w", EXPERTS, "orthogonal"), model)
    (path,) = initframe.write_checkpoint(plan, tmp_path, seed=0)
    assert torch.equal(load_file(path)["w"], model.w)


def test_a_condition_reads_the_fans_of_axes():
    shapes = {"w": (3, 8, 4), "w_bias": (3, 8), "v": (3, 4, 8)}
    recipe = {"rules": {"w": {"match": ["w", "v"], "axes": EXPERTS, "where": "fan_in == 4", "init": "zeros"}}}
    recipe["rules"]["b"] = {"match": "*_bias", "axes": ["batch", "out"], "where": "fan_in == 4", "init": "ones"}
    plan = initframe.resolve(recipe, Holder(**shapes))
    assert [a.slot.name for a in plan.assignments] == ["w", "w_bias"]


def test_a_plain_bias_follows_the_axes_of_its_weight():
    recipe = rule("weight", ["in", "out"], "zeros")
    recipe["rules"]["bias"] = {"init": "constant", "val": "fan_in"}
    plan = initframe.resolve(recipe, Holder(weight=(3, 5), bias=(5,)))
    assert plan["bias"].fill.value == 3


def test_growth_over_a_base_model_is_that_of_one_member():
    recipe = rule("w", EXPERTS, "constant", val="fan_in / base_fan_in") | {"base": {"w": [2, 8, 4]}}
    assert initframe.resolve(recipe, Holder(w=(2, 8, 16)))["w"].fill.value == 4


def test_axes_that_contradict_a_convolution_are_refused():
    good, bad = ["out", "in", "kernel", "kernel"], ["kernel", "kernel", "in", "out"]
    conv = nn.Conv2d(4, 8, 3, groups=2)
    assert initframe.resolve(rule("weight", good), conv)["weight"].slot.fan_in == 18
    (problem,) = refused(initframe.resolve, rule("weight", bad), conv, kind=ResolveError)
    assert "Conv2d" in problem.fact
    transposed = nn.ConvTranspose2d(4, 8, 3)
    assert refused(initframe.resolve, rule("weight", good), transposed)
    assert initframe.resolve(rule("weight", ["in", "out", "kernel", "kernel"]), transposed)


@pytest.mark.parametrize("axes", [["batch", "out"], [*EXPERTS, "kernel"]])
def test_axes_name_every_dimension(axes):
    (problem,) = refused(initframe.resolve, rule("w", axes), Holder(w=(2, 3, 4)), kind=ResolveError)
    assert f"{len(axes)} words" in problem.fact


@pytest.mark.parametrize("axes", ["out", [], ["experts", "out", "in"], [3], {"out": 1}])
def test_axes_are_a_list_of_four_words(axes):
    assert refused(initframe.load_recipe, rule("w", axes), kind=RecipeError)


def test_split_needs_one_axis_of_outputs():
    assert refused(initframe.resolve, rule("w", ["out", "out", "in"], split=2), Holder(w=(2, 4, 3)))


@pytest.mark.parametrize("init", ["kaiming_normal", "xavier_uniform", "orthogonal", "identity"])
def test_what_nobody_explains_is_marked_or_under_effective_fans_an_error(init):
    recipe = {"rules": {"w": init}}
    model = Holder(w=(4, 8, 6))
    plan = initframe.resolve(recipe, model)
    assert plan["w"].slot.notes == (READ_AS_CONVOLUTION,)
    assert "axes" in str(plan)
    (problem,) = refused(initframe.resolve, recipe | {"fans": "effective"}, model, kind=ResolveError)
    assert "axes: [batch, out, in]" in problem.fix


def test_an_expression_that_reads_fans_is_marked_too():
    recipe = {"rules": {"w": {"init": "normal", "std": "fan_in ** -0.5"}}}
    assert initframe.resolve(recipe, Holder(w=(4, 8, 6)))["w"].slot.notes
    assert refused(initframe.resolve, recipe | {"fans": "effective"}, Holder(w=(4, 8, 6)))


@pytest.mark.parametrize("fans", ["torch", "effective"])
@pytest.mark.parametrize("init", ["zeros", {"init": "trunc_normal", "std": 0.02}, "sincos_pos_embed"])
def test_what_does_not_depend_on_dimensions_needs_no_axes(init, fans):
    plan = initframe.resolve({"rules": {"pos": init}, "fans": fans}, Holder(pos=(1, 16, 8)))
    assert not plan["pos"].slot.notes


@pytest.mark.parametrize("model", [nn.Conv1d(2, 3, 3), nn.Conv3d(2, 3, 3), nn.ConvTranspose2d(2, 3, 3)])
def test_a_convolution_owns_its_weight(model):
    recipe = {"rules": {"weight": "kaiming_normal"}, "fans": "effective"}
    assert not initframe.resolve(recipe, model)["weight"].slot.notes


def test_axes_survive_the_way_through_a_recipe():
    recipe = initframe.load_recipe(rule("w", EXPERTS))
    assert recipe.to_dict()["rules"]["r"]["axes"] == EXPERTS
    assert initframe.load_recipe(recipe.to_dict()) == recipe


def test_a_base_of_another_number_of_dimensions_is_refused():
    rule = {"init": "zeros", "axes": ["out", "in"], "where": "base_fan_in > 1"}
    for shape, said in (([4, 4, 4], "has 2 axes"), ([4, 8], "")):
        recipe = {"rules": {"weight": rule}, "base": {"weight": shape}}
        if said:
            assert said in refused(initframe.resolve, recipe, nn.Linear(3, 3))[0].fact
        else:
            assert initframe.resolve(recipe, nn.Linear(3, 3))["weight"]
    recipe = {"rules": {"weight": {**rule, "where": "fan_in > 1"}}, "base": {"other": [2]}}
    assert initframe.resolve(recipe, nn.Linear(3, 3))["weight"]


def test_a_factor_counts_the_fans_of_its_rules_axes():
    plan = filled(rule("w", EXPERTS, init="normal", factor="1 / fan_in"), Holder(w=(8, 64, 128)))
    assert plan["w"].factor == plan["w"].fill.std == 1 / 128
