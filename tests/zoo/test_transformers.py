"""One model of each family of transformers, from its default config with few layers; widths cost nothing on meta."""

import functools
import importlib
import inspect
from importlib.util import find_spec
from pathlib import Path

import pytest

from initframe.model.survey import survey
from zoo.soundness import assert_sound, on_meta

spec = find_spec("transformers")
ROOT = Path(spec.origin).parent / "models" if spec else Path("nowhere")
FAMILIES = sorted({path.parent.name for path in ROOT.glob("*/modeling_*.py")} - {"auto"})
pytestmark = [pytest.mark.slow, pytest.mark.skipif(spec is None, reason="transformers is not installed")]

# Numbers without which a default config describes no model.
NEEDED = {
    **{family: {"prediction_length": 4} for family in ("autoformer", "informer", "time_series_transformer")},
    **{family: {"head_dim": 64} for family in ("hunyuan_v1_dense", "hunyuan_v1_moe", "hunyuan_vl", "ministral")},
    "esm": {"vocab_size": 33},
}
FEW = 2
COUNTS = {"num_hidden_layers", "num_layers", "n_layer", "n_layers", "depth"} | {
    f"{prefix}{part}_layers" for prefix in ("", "num_") for part in ("encoder", "decoder")
}
# Families whose layers belong together in ways that a config does not say.
INDIVISIBLE = {"gemma3n", "mask2former", "maskformer", "neomme"}
# Families whose default config the library itself cannot build, or only with libraries that are not here.
UNBUILT = [
    "aya_vision",
    "chameleon",
    "cohere_compass",
    "dbrx",
    "deepseek_ocr2",
    "diffusion_gemma",
    "dinat",
    "dots1",
    "emu3",
    "gemma4_assistant",
    "gemma4_unified_assistant",
    "granite4_vision",
    "higgs_audio_v2_tokenizer",
    "layoutlmv2",
    "lfm2_moe",
    "moonshine_streaming",
    "nemotron",
    "perception_lm",
    "pp_ocrv5_server_det",
    "pp_ocrv6_medium_det",
    "timm_backbone",
    "vitmatte",
]


@functools.cache
def model_types():
    """The names of configs, by family."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.configuration_auto import model_type_to_module_name

    types = {}
    for name in CONFIG_MAPPING:
        types.setdefault(model_type_to_module_name(name), []).append(name)
    return types


def model_class(family):
    """The family's bare model, or, where it has none, the first model of its file."""
    from transformers import CONFIG_MAPPING, MODEL_MAPPING, PreTrainedModel

    configs = (CONFIG_MAPPING[name] for name in model_types().get(family, []))
    if config := next((config for config in configs if config in MODEL_MAPPING), None):
        known = MODEL_MAPPING[config]
        return known[0] if isinstance(known, tuple) else known
    for path in sorted(ROOT.glob(f"{family}/modeling_*.py")):
        module = importlib.import_module(f"transformers.models.{family}.{path.stem}")
        for name, cls in vars(module).items():
            if inspect.isclass(cls) and issubclass(cls, PreTrainedModel) and not name.endswith("PreTrainedModel"):
                return cls
    raise LookupError(family)


def shrink(config):
    """Leave two layers of each kind, and of lists with one entry per layer two entries."""
    for name, value in list(vars(config).items()):
        if hasattr(value, "to_dict"):
            shrink(value)
        elif name in COUNTS and type(value) is int and value > FEW:
            setattr(config, name, FEW)
            for other, items in list(vars(config).items()):
                if isinstance(items, list) and len(items) == value:
                    setattr(config, other, items[:FEW])
    return config


def build(family):
    import transformers

    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    cls = model_class(family)
    config = cls.config_class(**NEEDED.get(family, {}))
    return on_meta(lambda: cls(config if family in INDIVISIBLE else shrink(config)))


@pytest.mark.filterwarnings("ignore")  # imports of what nobody asked for
@pytest.mark.parametrize("family", FAMILIES)
def test_transformers(family):
    try:
        model = build(family)
    except Exception as error:
        if family not in UNBUILT:
            raise
        pytest.xfail(f"the library does not build it: {error}")
    assert_sound(model)


def test_gpt2_shows_its_transposed_layers_and_its_config():
    seen = survey(build("gpt2"))
    weight = next(slot for slot in seen.slots if slot.name == "h.0.attn.c_attn.weight")
    assert weight.shape == (768, 2304)
    assert (weight.effective_fan_in, weight.effective_fan_out, weight.output_dim) == (768, 2304, 1)
    assert (weight.fan_in, weight.fan_out) == (2304, 768)
    assert (seen.config["n_embd"], seen.config["hidden_size"], seen.config["num_hidden_layers"]) == (768, 768, FEW)
