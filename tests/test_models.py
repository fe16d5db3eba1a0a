"""Models by name: every library's names, plain data only, and trained values that are asked for."""

from __future__ import annotations

from urllib.error import URLError

import pytest
import torch
from refusals import refused
from safetensors.torch import save_file
from torch import nn

from initframe import models
from initframe.errors import SourceError
from initframe.models import build


def spec(name: str = "squeezenet1_1", source: str = "torchvision", **more: object) -> dict[str, object]:
    return {"source": source, "name": name, **more}


def problem(given: dict[str, object]) -> str:
    """The one problem of a model that cannot be built."""
    [only] = refused(build, given, kind=SourceError)
    return str(only)


def test_torchvision():
    model = build(spec(arguments={"num_classes": 7}))
    assert type(model).__name__ == "SqueezeNet"
    assert model.classifier[1].out_channels == 7


def test_a_detector_fetches_no_backbone(monkeypatch):
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", None)
    assert build(spec("ssdlite320_mobilenet_v3_large"))


def test_weights_pass_through_to_torchvision(monkeypatch):
    asked = []
    trained = build(spec()).state_dict()

    def fetch(url, **options):
        asked.append(url)
        return trained

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    model = build(spec(weights="DEFAULT"))
    assert len(asked) == 1
    assert "squeezenet1_1" in asked[0]
    assert all(torch.equal(value, trained[name]) for name, value in model.state_dict().items())


def test_weights_that_cannot_be_fetched(monkeypatch):
    def fetch(url, **options):
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    text = problem(spec(weights="DEFAULT"))
    assert "no network" in text
    assert "model.checkpoint=FILE" in text


def test_a_checkpoint_takes_the_place_of_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", None)
    trained = build(spec())
    save_file(trained.state_dict(), tmp_path / "trained.safetensors")
    model = build(spec(weights="DEFAULT", checkpoint=str(tmp_path / "trained.safetensors")))
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_checkpoint_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    trained = build(spec())
    save_file(trained.state_dict(), tmp_path / "trained.safetensors")
    model = build(spec(checkpoint="~/trained.safetensors"))
    assert torch.equal(model.features[0].weight, trained.features[0].weight)
    assert "~nobody_here/x.pt" in problem(spec(checkpoint="~nobody_here/x.pt"))


def test_timm():
    pytest.importorskip("timm")
    model = build(spec("vit_tiny_patch16_224", "timm", arguments={"depth": 1, "num_classes": 3}))
    assert model.head.out_features == 3
    assert len(model.blocks) == 1


@pytest.mark.parametrize("name", ["pretrained", "checkpoint_path", "pretrained_cfg"])
def test_timm_loads_nothing_by_itself(name):
    pytest.importorskip("timm")
    assert f"model.arguments.{name}" in problem(spec("vit_tiny_patch16_224", "timm", arguments={name: "file.pth"}))


TINY = {"n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 11, "n_positions": 4}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "made"), [("gpt2", "GPT2Model"), ("GPT2LMHeadModel", "GPT2LMHeadModel"), ("funnel", "FunnelModel")]
)
def test_transformers_from_a_config(name, made, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr("socket.socket.connect", None)  # no download
    small = (
        TINY if "gpt2" in name.lower() else {"block_sizes": [1], "d_model": 8, "n_head": 2, "d_head": 4, "d_inner": 8}
    )
    model = build(spec(name, "transformers", arguments=small))
    assert type(model).__name__ == made
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000


MISSPELT = {
    "bert": ({"num_hiden_layers": 1}, ["BertConfig", "num_hiden_layers", "num_hidden_layers"]),
    "gpt2": ({"layer": 1}, ["GPT2Config", "layer"]),
    "clip": ({"num_hidden_layers": 1}, ["text_config.num_hidden_layers"]),
    "CLIPModel": (
        {"text_config": {"num_hiden_layers": 1}},
        ["model.arguments.text_config.num_hiden_layers", "CLIPTextConfig", "num_hidden_layers"],
    ),
}


@pytest.mark.parametrize("name", MISSPELT)
def test_transformers_takes_no_argument_without_a_use(name):
    pytest.importorskip("transformers")
    arguments, parts = MISSPELT[name]
    text = problem(spec(name, "transformers", arguments=arguments))
    assert all(part in text for part in parts)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gpt2", {**TINY, "num_labels": 3, "dtype": "float32", "attn_implementation": "eager"}),
        ("gpt2", {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}),  # attribute_map
        (
            "llama",
            {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 8, "rope_theta": 1e4},
        ),  # an old name
    ],
)
def test_arguments_of_a_config_have_several_names(name, arguments):
    pytest.importorskip("transformers")
    with torch.device("meta"):
        assert build(spec(name, "transformers", arguments=arguments))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", None])
def test_the_dtype_of_a_config_takes_effect(dtype):
    """Only from_pretrained reads it: a constructor takes torch's default dtype."""
    pytest.importorskip("transformers")
    model = build(spec("gpt2", "transformers", arguments={**TINY, "dtype": dtype}))
    assert {tensor.dtype for tensor in model.parameters()} == {getattr(torch, dtype or "float32")}
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"dtype": "int8"}, "model.arguments.dtype"),
        ({"dtype": "bf16"}, "model.arguments.dtype"),
        ({"torch_dtype": "bfloat16"}, "model.arguments.torch_dtype"),
        ({"text_config": {"dtype": "bfloat16"}}, "model.arguments.text_config.dtype"),
        ({"attn_implementation": "kernels-community/flash-attn"}, "model.arguments.attn_implementation"),
        ({"text_config": {"experts_implementation": "a/b"}}, "model.arguments.text_config.experts_implementation"),
    ],
)
def test_arguments_that_only_another_constructor_reads(arguments, key):
    pytest.importorskip("transformers")
    [only] = refused(build, spec("CLIPModel", "transformers", arguments=arguments), kind=SourceError)
    assert only.subject == key


def test_a_model_larger_than_the_machine():
    pytest.importorskip("transformers")
    text = problem(spec("llama", "transformers", arguments={"hidden_size": 1 << 16, "intermediate_size": 1 << 18}))
    assert "GiB" in text
    assert "model.arguments" in text


def test_a_trained_net_for_digits():
    pytest.importorskip("digit_recognizer")
    trained, other = build(spec("digits_cnn", "digits", weights="DEFAULT")), build(spec("digits_cnn", "digits"))
    assert sum(p.numel() for p in trained.parameters()) == 390_410
    assert not torch.equal(trained.fc_layers[2].weight, other.fc_layers[2].weight)


def test_a_model_of_a_plugin(monkeypatch):
    monkeypatch.setattr(models, "_OWN", {})
    models.model("mine")(lambda width=2: nn.Linear(width, 1))
    assert build(spec("mine", "plugin", arguments={"width": 5})).in_features == 5
    assert "mine" in problem(spec("mien", "plugin"))
    monkeypatch.setattr(models, "_OWN", {})
    assert "plugins=[" in problem(spec("mine", "plugin"))


@pytest.mark.parametrize("made", [None, 3, nn.Linear], ids=str)
def test_a_plugin_that_builds_no_model(monkeypatch, made):
    monkeypatch.setattr(models, "_OWN", {})
    models.model("none")(lambda: made)
    assert repr(made) in problem(spec("none", "plugin"))


@pytest.mark.parametrize("source", ["timm", "transformers", "digits"])
def test_a_package_that_is_not_installed(monkeypatch, source):
    def missing(name, *rest):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", missing)
    name = "digits_cnn" if source == "digits" else "anything"
    assert f"pip install 'initframe[{source}]'" in problem(spec(name, source))


REFUSED = {
    "an unknown name": (spec("alexnett"), ["'alexnett'", "alexnet,"]),
    "no name": (spec("???"), ["model.name"]),
    "a number for a name": (spec(3), ["model.name"]),
    "an unknown source": (spec(source="torchvison"), ["model.source", "torchvision"]),
    "a source that is a list": (spec(source=["torchvision"]), ["model.source"]),
    "an unknown key": (spec(weihgts=None), ["model.weihgts", "weights"]),
    "unknown weights": (spec(weights="BEST"), ["'BEST'", "DEFAULT", "IMAGENET1K_V1"]),
    "an unknown argument": (spec(arguments={"clases": 3}), ["clases", "model.arguments"]),
    "a list of arguments": (spec(arguments=[3]), ["model.arguments"]),
    "a number for a file": (spec(checkpoint=3), ["model.checkpoint"]),
    "no file": (spec(checkpoint=""), ["model.checkpoint", "null"]),
    "a target": (spec(_target_="os.system"), ["model._target_"]),
    "a target deep inside": (spec(arguments={"a": [{"_target_": "os.system"}]}), ["model.arguments.a[0]._target_"]),
    "an interpolation": (spec("${oc.env:HOME}"), ["model.name"]),
    "a resolver deep inside": (spec(arguments={"a": ["${seed}"]}), ["model.arguments.a[0]"]),
    "weights of a plugin": (spec("mine", "plugin", weights="DEFAULT"), ["model.checkpoint=FILE"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    given, parts = REFUSED[case]
    text = problem(given)
    assert all(part in text for part in parts)


def test_all_problems_at_once():
    texts = [str(one) for one in refused(build, {"source": "x", "nam": "y", "arguments": 3}, kind=SourceError)]
    assert len(texts) == 4
    for key in ("model.nam", "model.source", "model.name", "model.arguments"):
        assert any(key in text for text in texts)


def test_an_entry_of_a_training_file(tmp_path):
    weights, averages = build(spec()), build(spec())
    path = tmp_path / "training.pt"
    torch.save({"state_dict": weights.state_dict(), "state_dict_ema": averages.state_dict()}, path)
    model = build(spec(checkpoint=str(path), entry="state_dict_ema"))
    assert all(torch.equal(value, averages.state_dict()[name]) for name, value in model.state_dict().items())
    assert build(spec(checkpoint=str(path), entry=None))


def test_an_entry_that_is_no_name_or_of_no_file(tmp_path):
    assert "model.entry" in problem(spec(entry="ema"))
    assert "model.entry" in problem(spec(entry="", checkpoint="x.pt"))
    assert "model.entry" in problem(spec(entry=3, checkpoint="x.pt"))
