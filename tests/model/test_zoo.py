"""Real models, on the meta device: no tensor missed, none listed twice."""

import warnings
from functools import partial

import pytest
import torch
import torchvision

from initframe.model import survey

# Their constructors read values, so they cannot be built on the meta device.
NEEDS_VALUES = "regnet_"
# Constructors that would load weights for a part, or draw slowly, unless told not to.
ARGUMENTS = {
    "weights_backbone": ("rcnn", "fcos", "ssd", "retinanet", "deeplab", "fcn", "lraspp"),
    "init_weights": ("googlenet", "inception"),
}


def assert_covered(model):
    """Every tensor of the state_dict under exactly one slot, alias or original; nothing else but what is lost."""
    seen = survey(model)
    every = (*seen.slots, *seen.raw)
    names = [name for slot in every for name in (slot.name, *slot.aliases)]
    computed = {slot.part_of for slot in seen.raw}
    lost = {name for slot in every if not slot.persistent for name in (slot.name, *slot.aliases)}
    assert len(names) == len(set(names))
    assert set(names) - lost - computed == set(model.state_dict()) - set(seen.extra)
    assert [slot.name for slot in seen.slots if slot.kind == "parameter" and slot.name not in computed] == [
        name for name, _ in model.named_parameters() if name not in {raw.name for raw in seen.raw}
    ]
    return seen


def quietly(build):
    """Build a model without its library's warnings; those of a survey still count."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        return build()


def arguments(name):
    values = {"weights_backbone": None, "init_weights": False}
    return {key: values[key] for key, words in ARGUMENTS.items() if any(word in name for word in words)}


@pytest.mark.parametrize(
    "name", [name for name in torchvision.models.list_models() if not name.startswith(NEEDS_VALUES)]
)
def test_torchvision(name):
    seen = assert_covered(quietly(lambda: torchvision.models.get_model(name, weights=None, **arguments(name))))
    assert all(slot.blocked is None for slot in seen.slots if slot.kind == "parameter")


@pytest.mark.parametrize("name", ["regnet_x_400mf", "regnet_y_400mf"])
def test_torchvision_with_values(name):
    assert_covered(torchvision.models.get_model(name, weights=None))


def test_one_model_of_each_family_of_timm():
    timm = pytest.importorskip("timm")
    for family in timm.list_modules():
        for name in timm.list_models(module=family)[:1]:
            assert_covered(quietly(partial(timm.create_model, name)))


TINY = {
    **dict.fromkeys(["hidden_size", "d_model", "n_embd"], 32),
    **dict.fromkeys(["num_hidden_layers", "num_layers", "n_layer", "encoder_layers", "decoder_layers"], 2),
    **dict.fromkeys(["num_attention_heads", "num_key_value_heads", "num_heads", "n_head"], 4),
    "intermediate_size": 64,
}
FAMILIES = (
    "albert bart bert blip bloom clip convnext deberta-v2 detr electra falcon gemma gpt2 gpt_neox llama longformer "
    "mamba mistral mixtral opt qwen2 roberta rwkv t5 vit wav2vec2"
)


def tiny(transformers, family):
    config = transformers.CONFIG_MAPPING[family]()
    for name, value in TINY.items():
        if hasattr(config, name):
            setattr(config, name, value)
    return transformers.AutoModel.from_config(config)


def test_families_of_transformers():
    transformers = pytest.importorskip("transformers")
    for family in FAMILIES.split():
        assert_covered(quietly(partial(tiny, transformers, family)))


def test_gpt2_shows_its_transposed_layers_and_its_config():
    transformers = pytest.importorskip("transformers")
    seen = survey(quietly(partial(tiny, transformers, "gpt2")))
    weight = next(slot for slot in seen.slots if slot.name == "h.0.attn.c_attn.weight")
    assert weight.shape == (32, 96)
    assert (weight.effective_fan_in, weight.effective_fan_out, weight.output_dim) == (32, 96, 1)
    assert (weight.fan_in, weight.fan_out) == (96, 32)
    assert (seen.config["n_embd"], seen.config["hidden_size"], seen.config["num_hidden_layers"]) == (32, 32, 2)
