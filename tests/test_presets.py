"""The presets that serve any network, and every config that ships."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from refusals import refused
from torch import nn
from torchvision import models

import initframe
from initframe.recipe.presets import conf_directory, presets

CONF = conf_directory()
TARGET = re.compile(r"_target_: *([\w.]*)")
GENERIC = {  # the std that each gives a Linear(12, 4)
    "xavier_relu": math.sqrt(2) * math.sqrt(2 / 16),
    "xavier_uniform": math.sqrt(2 / 16),
    "xavier_normal": math.sqrt(2 / 16),
    "kaiming_relu": math.sqrt(2 / 12),
    "kaiming_fan_out": math.sqrt(2 / 4),
    "orthogonal_relu": math.sqrt(2) / math.sqrt(12),
    "lecun_selu": math.sqrt(1 / 12),
    "trunc_normal_02": 0.02 * 0.8796256610342398,
    "normal_001": 0.01,
}


def small_nets() -> dict[str, nn.Module]:
    return {
        "a bare Linear": nn.Linear(12, 4),
        "without biases": nn.Sequential(nn.Linear(12, 4, bias=False), nn.Conv2d(2, 3, 3, bias=False)),
        "norms": nn.Sequential(nn.Linear(12, 4), nn.LayerNorm(4), nn.BatchNorm1d(4)),
        "a bare Conv": nn.Conv2d(2, 3, 3),
        "attention": nn.MultiheadAttention(8, 2),
        "attention of other widths": nn.MultiheadAttention(8, 2, kdim=4, vdim=6, add_bias_kv=True),
        "an LSTM": nn.LSTM(5, 4, num_layers=2, bidirectional=True, proj_size=3),
        "a GRUCell": nn.GRUCell(5, 4),
        "a Transformer": nn.TransformerEncoderLayer(8, 2, 16),
        "layers named after biases": nn.ModuleDict(
            {
                "debias_norm": nn.LayerNorm(4),
                "bias_net": nn.GroupNorm(2, 4),
                "bias": nn.Linear(4, 4),
                "head_bias": nn.PReLU(4),
            }
        ),
        "an Embedding": nn.Embedding(10, 4, padding_idx=0),
        "AlexNet": models.alexnet(),
        "Swin": models.swin_t(),
        "ViT": models.vit_b_32(),
    }


@pytest.fixture(scope="module")
def nets():
    with torch.device("meta"):
        return small_nets()


@pytest.mark.parametrize("name", [*GENERIC, "shrink_perturb"])
def test_every_weight_and_every_bias_of_any_network(nets, name):
    for title, net in nets.items():
        plan = initframe.resolve(name, net)
        rules = {a.slot.name: a.rule.name for a in plan.assignments}
        for parameter, tensor in net.named_parameters():
            attribute = parameter.rpartition(".")[2]
            is_weight = "weight" in attribute and tensor.ndim > 1
            is_bias = "bias" in attribute and tensor.ndim == 1  # whatever the layer is called
            expected = "weights" if is_weight else "biases" if is_bias else None
            assert rules.get(parameter) == expected, f"{parameter} of {title}"


@pytest.mark.parametrize("name", GENERIC)
def test_the_numbers_of_a_linear_layer(name):
    plan = initframe.resolve(name, nn.Linear(12, 4))
    assert plan["weight"].fill.std == pytest.approx(GENERIC[name])
    assert (plan["bias"].fill.mean, plan["bias"].fill.std) == (0, 0)


@pytest.mark.parametrize("name", GENERIC)
def test_tables_of_positions_are_no_biases(nets, name):
    untouched = initframe.resolve(name, nets["Swin"]).untouched
    assert [slot for slot in untouched if slot.endswith("relative_position_bias_table")]
    assert "class_token" in initframe.resolve(name, nets["ViT"]).untouched


@pytest.mark.parametrize("name", [*GENERIC, "zeros_bias"])
def test_padding_rows_stay_zero_and_norms_stay_one(name):
    net = nn.Sequential(nn.Embedding(10, 4, padding_idx=0), nn.LayerNorm(4), nn.Linear(4, 4))
    initframe.reinit(net, name, seed=0)
    assert net[0].weight[0].eq(0).all()
    assert net[1].weight.eq(1).all()
    assert net[2].bias.eq(0).all()


def test_zeros_bias_is_about_biases_only(nets):
    for title in ("a bare Linear", "AlexNet", "an LSTM", "attention", "layers named after biases"):
        found = {a.slot.name for a in initframe.resolve("zeros_bias", nets[title]).assignments}
        vectors = {name for name, tensor in nets[title].named_parameters() if tensor.ndim == 1}
        assert found == {name for name in vectors if "bias" in name.rpartition(".")[2]}
    [problem] = refused(initframe.resolve, "zeros_bias", nets["without biases"], kind=initframe.ResolveError)
    assert "rule 'biases'" in str(problem)


def test_torch_default_is_what_layers_do_by_themselves(nets):
    for title, net in nets.items():
        plan = initframe.resolve("torch_default", net)
        own = {name for name, _ in net.named_parameters() if name.endswith(("class_token", "pos_embedding", "table"))}
        assert set(plan.untouched) == own, title
    net = nn.BatchNorm1d(3)
    net(torch.randn(8, 3))
    initframe.reinit(net, "torch_default", seed=0)
    assert net.running_mean.eq(0).all()
    assert net.running_var.eq(1).all()


def test_shrink_perturb_starts_from_what_is_there():
    net = nn.Linear(100, 100)
    before = net.weight.detach().clone()
    initframe.reinit(net, "shrink_perturb", seed=0)
    noise = net.weight.detach() - 0.4 * before
    assert abs(noise.std().item() - 0.01) < 5 * 0.01 * math.sqrt(0.5 / 1e4)


# --- heads -----------------------------------------------------------------------------------------------------------

FAMILIES = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "vgg11",
    "vit_b_32",
)


@pytest.mark.parametrize("name", FAMILIES)
def test_head_small_finds_the_last_layer_and_no_other(name):
    with torch.device("meta"):
        net = models.get_model(name)
    *_, last = (parameter.rpartition(".")[0] for parameter, _ in net.named_parameters())
    plan = initframe.resolve("head_small", net)
    assert {a.slot.name for a in plan.assignments} == {n for n, _ in net.named_parameters() if n.startswith(f"{last}.")}
    assert plan[f"{last}.weight"].fill.std == 0.001


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "resnet18", "swin_tiny_patch4_window7_224", "mobilenetv3_small_050"]
)
def test_head_small_finds_timms_heads(name):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        net = timm.create_model(name)
    own = {id(parameter) for parameter in net.get_classifier().parameters()}
    found = {a.slot.name for a in initframe.resolve("head_small", net).assignments}
    assert found == {name for name, parameter in net.named_parameters() if id(parameter) in own}


def test_head_small_finds_the_head_of_a_model_inside_another():
    task = nn.Module()
    with torch.device("meta"):
        task.model = models.alexnet()
    plan = initframe.resolve("head_small", task)
    assert {a.slot.name for a in plan.assignments} == {"model.classifier.6.weight", "model.classifier.6.bias"}


def test_head_small_says_when_it_knows_no_head():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    [problem] = refused(initframe.resolve, "head_small", net, kind=initframe.ResolveError)
    assert "rule 'head'" in str(problem)


def test_head_small_lies_over_any_other():
    with torch.device("meta"):
        net = models.alexnet()
    layers = [OmegaConf.load(presets()[name]) for name in ("xavier_relu", "head_small")]
    plan = initframe.resolve(OmegaConf.to_container(OmegaConf.merge(*layers)), net)
    assert plan["classifier.6.weight"].shadowed == ("weights",)
    assert plan["classifier.4.weight"].rule.name == "weights"


# --- every config that ships -----------------------------------------------------------------------------------------


def configs(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def numbers(data: object) -> object:
    """Plain data with 1e-6 as a number everywhere: Hydra reads it as one, PyYAML as a text."""
    if isinstance(data, dict):
        return {key: numbers(value) for key, value in data.items()}
    if isinstance(data, list):
        return [numbers(value) for value in data]
    try:
        return float(data)
    except (TypeError, ValueError):
        return data


@pytest.fixture(scope="module")
def composed():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda job, *overrides: compose(job, overrides=list(overrides))


@pytest.mark.parametrize("name", configs("init"))
def test_every_recipe_composes_and_is_sound_by_itself(composed, name):
    config = OmegaConf.to_container(composed("reinit", f"init={name}").init, resolve=False)
    assert numbers(initframe.load_recipe(config).to_dict()) == numbers(initframe.load_recipe(name).to_dict())
    assert presets()[name].read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("name", configs("model"))
def test_every_model_composes(composed, name):
    given = composed("reinit", f"model={name}").model
    assert set(given) == {"source", "name", "weights", "checkpoint", "entry", "arguments"}


@pytest.mark.parametrize("job", ["reinit", "train"])
def test_every_job_composes(composed, job):
    assert composed(job).seed == 0


def test_no_config_holds_code_or_reads_the_outside():
    for path in CONF.rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert set(TARGET.findall(text)) <= {"initframe.cli.folders.Guard"}, path  # ours, and takes no arguments
        if path.parent.name in ("init", "model"):
            assert "${" not in text, path


def test_conf_is_a_package_wherever_initframe_is():
    assert (Path(initframe.__file__).parent / "conf" / "__init__.py").is_file()
