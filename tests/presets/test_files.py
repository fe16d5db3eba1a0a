"""The presets as files: short, and honest about where they come from."""

import pytest

from initframe.recipe.presets import presets
from presets.sources import MODELS
from presets.zoo import BUILDERS

PROVEN = {name for names in BUILDERS for name in names.split("+")}
FAMOUS = {
    "vgg",
    "resnet",
    "resnet_zero_residual",
    "mobilenet",
    "efficientnet",
    "convnext",
    "swin",
    "vit",
    "retinanet_heads",
    "timm_vit",
    "timm_vit_jax",
    "timm_vit_jax_nlhb",
    "timm_vit_moco",
    "timm_efficientnet",
    "beit",
    "gpt2",
    "bert",
    "t5",
    "llama",
    "llama3",
    "clip",
    "olmo_mitchell",
    "dit",
    "unet_zero",
    "dcgan",
    "siren",
    "mamba",
    "lstm_lm",
    "ppo",
    "mlp_xavier_relu",
}


def comment(name):
    lines = presets()[name].read_text(encoding="utf-8").splitlines()
    return " ".join(line.removeprefix("# ") for line in lines if line.startswith("# "))


def test_all_famous_models_are_there_and_compared():
    assert presets().keys() >= FAMOUS
    assert PROVEN | MODELS.keys() == FAMOUS
    assert len(PROVEN) >= 20


@pytest.mark.parametrize("name", presets())
def test_a_preset_is_a_page(name):
    assert len(presets()[name].read_text(encoding="utf-8").splitlines()) <= 40


@pytest.mark.parametrize("name", sorted(FAMOUS))
def test_a_preset_says_what_it_rests_on(name):
    assert ("Proven against" in comment(name)) == (name in PROVEN)
    assert ("From source only" in comment(name)) == (name in MODELS)
