"""Methods that ask for more than values: what they fill, what they ask, and that it does what it is for."""

import math
from functools import partial

import pytest
import torch
from torch import nn

import initframe
from presets.families import (
    FixupBasicBlock,
    FixupBottleneck,
    FixupResNet,
    NanoConfig,
    NanoGPT,
    coordinate_slope,
    perceptron,
    shapes,
)
from presets.test_proofs import assert_planned
from presets.zoo import language_model


def preset(name, **more):
    """A preset whose user has seen to what it asks for."""
    return initframe.load_recipe(name).to_dict() | {"companions": "heeded"} | more


def mup(model, base_width=32, **numbers):
    """For ReLUs, with a base that is narrower than all models."""
    recipe = preset("mup", base=shapes(perceptron(base_width)))
    return recipe | {"vars": recipe["vars"] | {"mup_gain": "relu"} | numbers}


def standard(model):
    return {"rules": {"*.weight": {"init": "kaiming_normal", "nonlinearity": "relu"}, "*.bias": "zeros"}}


WIDTHS = [64, 128, 256, 512]


@pytest.mark.slow
def test_mup_changes_outputs_alike_at_every_width_and_the_standard_does_not():
    assert abs(coordinate_slope(mup, WIDTHS)) <= 0.1
    assert coordinate_slope(standard, WIDTHS) > 0.1


class Tiny(nn.Module):
    """A language model with the names of a family."""

    def __init__(self, embedding, head, tied):
        super().__init__()
        for path, module in ((embedding, nn.Embedding(11, 8)), (head, nn.Linear(8, 11, bias=False))):
            *around, last = path.split(".")
            parent = self
            for name in around:
                if not hasattr(parent, name):
                    parent.add_module(name, nn.Module())
                parent = getattr(parent, name)
            parent.add_module(last, module)
        if tied:
            self.get_submodule(head).weight = self.get_submodule(embedding).weight


@pytest.mark.parametrize(
    ("name", "embedding", "head", "law", "untied"),
    [
        ("llama3", "tok_embeddings", "output", "head", ("embedding", "head")),
        ("mamba", "backbone.embeddings", "lm_head", "embedding", ("embedding", "head")),
        ("t5", "shared", "lm_head", "embedding", ("embedding", "embedding")),
        ("complete_p", "wte", "lm_head", "readout", ("embeddings", "readout")),
        ("gpt2", "transformer.wte", "lm_head", "weights", ("weights", "weights")),
        ("llama", "model.embed_tokens", "lm_head", "weights", ("weights", "weights")),
        ("bert", "bert.word_embeddings", "decoder", "weights", ("weights", "weights")),
        ("olmo_mitchell", "wte", "ff_out", "weights", ("weights", "weights")),
        ("lstm_lm", "encoder", "decoder", "vocabulary", ("vocabulary", "vocabulary")),
    ],
)
@pytest.mark.parametrize("tied", [True, False])
def test_presets_of_language_models_serve_tied_and_untied_ones(name, embedding, head, law, untied, tied):
    model = Tiny(embedding, head, tied)
    model.config = {"d_model": 8, "initializer_range": 0.02, "initializer_factor": 1, "n_embd": 8, "n_layer": 1}
    model.config |= {"d_kv": 4, "d_ff": 16, "num_heads": 2}
    plan = initframe.resolve(preset(name, unused="warn"), model)
    found = tuple(plan[f"{path}.weight"].rule.name for path in (embedding, head))
    assert found == ((law, law) if tied else untied)


def test_mups_readout_starts_at_zero_and_learns():
    model = perceptron(64)
    report = initframe.reinit(model, mup(model), seed=0)
    assert not model[6].weight.any()
    assert model[4].weight.std().item() == pytest.approx(math.sqrt(2 / 64), rel=0.05)
    assert report.plan["6.weight"].companions == {"lr": 0.5, "weight_decay": 2}


def test_mup_at_the_base_cannot_tell_readouts_and_says_so():
    model = perceptron(64)
    plan = initframe.resolve(mup(None, 64), model)
    (note,) = plan.warnings
    assert "rule 'readouts'" in note
    assert plan["6.weight"].rule.name == "weights"
    named = mup(None, 64)
    named["rules"] = {**named["rules"], "readout": {"match": "6.weight", "init": "zeros"}}
    initframe.reinit(model, named)
    assert not model[6].weight.any()


def test_mup_at_the_base_is_a_plain_law_that_asks_for_nothing():
    recipe = mup(None, 64, readout=1)
    recipe["rules"]["readouts"]["optional"] = True
    plan = initframe.resolve(recipe, perceptron(64))
    assert {a.rule.name for a in plan.assignments} == {"weights", "biases"}
    assert [text for text in plan.asks if "rule" in text] == []
    assert all(a.fill.std == pytest.approx(math.sqrt(2 / a.slot.fan_in)) for a in plan.assignments if a.fill.std)


def test_mup_away_from_the_base():
    plan = initframe.resolve(mup(None, 64, readout=1), perceptron(256))
    first, hidden, readout = plan["0.weight"], plan["2.weight"], plan["6.weight"]
    assert (first.companions["lr"], hidden.companions["lr"], readout.companions["lr"]) == (1, 0.25, 0.25)
    assert hidden.companions["weight_decay"] == 4
    assert hidden.fill.std == pytest.approx(math.sqrt(2 / 256))
    assert readout.fill.std == pytest.approx(math.sqrt(2 / 64) / 4)
    assert first.fill.std == pytest.approx(math.sqrt(2 / 16))


def test_mup_reads_base_shapes_from_a_file(tmp_path):
    from safetensors.torch import save_file

    save_file(perceptron(32).state_dict(), tmp_path / "base.safetensors")
    from_file = mup(None) | {"base": str(tmp_path / "base.safetensors")}
    plan, other = (initframe.resolve(recipe, perceptron(256)) for recipe in (from_file, mup(None)))
    assert plan.companions == other.companions


def layered(build, width, base_width=16):
    """The plan of a model that grew from its base."""
    return initframe.resolve(preset("mup", base=shapes(build(base_width))), build(width))


def transformer(width):
    layer = nn.TransformerEncoderLayer(width, 4, 2 * width)
    return nn.Sequential(nn.Linear(10, width), nn.TransformerEncoder(layer, 2), nn.Linear(width, 5))


def recurrent(width, kind=nn.LSTM):
    return nn.ModuleDict({"rnn": kind(10, width, 2, bidirectional=True), "head": nn.Linear(2 * width, 5)})


def convolutional(width):
    depthwise = nn.Conv2d(width, width, 3, groups=width), nn.Conv2d(width, width, 3, groups=4)
    up = nn.ConvTranspose2d(width, width // 2, 4, 2)
    return nn.Sequential(nn.Conv2d(3, width, 3), *depthwise, up, nn.Flatten(), nn.Linear(width // 2, 7))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("build", [transformer, recurrent, partial(recurrent, kind=nn.GRU), convolutional])
def test_mup_reaches_every_matrix_and_scales_it_by_its_own_inputs(build):
    """What the base has as inputs of one output is counted by the layer's meaning, not by the shape."""
    plan, before, after = layered(build, 64), initframe.survey(build(16)), initframe.survey(build(64))
    assert plan.untouched == ()
    matrices = [pair for pair in zip(after.slots, before.slots, strict=True) if pair[0].ndim > 1]
    for slot, old in matrices:
        growth = slot.effective_fan_in / old.effective_fan_in
        std = 0 if slot is matrices[-1][0] else slot.effective_fan_in**-0.5
        assert plan[slot.name].companions == {"lr": 1 / growth, "weight_decay": growth}, slot.name
        assert plan[slot.name].fill.std == pytest.approx(std), slot.name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mup_of_gpt2_counts_its_transposed_matrices():
    def gpt2(width):
        sizes = {"vocab_size": 99, "n_positions": 16, "n_embd": width, "n_layer": 1, "n_head": 4}
        return language_model("GPT2LMHeadModel", **sizes, tie_word_embeddings=False)

    plan = layered(gpt2, 64)
    assert [a.slot.name for a in plan.assignments if a.rule.name == "readouts"] == ["lm_head.weight"]
    for name, inputs in (("attn.c_attn", 64), ("attn.c_proj", 64), ("mlp.c_fc", 64), ("mlp.c_proj", 256)):
        matrix = plan[f"transformer.h.0.{name}.weight"]
        assert matrix.companions == {"lr": 0.25, "weight_decay": 4}
        assert matrix.fill.std == pytest.approx(inputs**-0.5)


@pytest.mark.filterwarnings("ignore")
def test_mups_readouts_are_no_keys_and_values_of_grouped_queries():
    def llama(heads):
        sizes = {"vocab_size": 99, "hidden_size": 16 * heads, "intermediate_size": 32 * heads, "num_hidden_layers": 1}
        return language_model(
            "LlamaForCausalLM", **sizes, num_attention_heads=heads, num_key_value_heads=2, head_dim=16
        )

    plan = layered(llama, 16, base_width=4)
    assert [a.slot.name for a in plan.assignments if a.rule.name == "readouts"] == ["lm_head.weight"]
    for part in "kv":
        matrix = plan[f"model.layers.0.self_attn.{part}_proj.weight"]
        assert matrix.companions == {"lr": 0.25, "weight_decay": 4}
        assert matrix.fill.std == pytest.approx(1 / 16)


def test_mup_without_base_shapes_says_what_is_missing():
    with pytest.raises(initframe.ResolveError, match=r"base shapes give no base_fan_in for it. Write base:") as caught:
        initframe.resolve("mup", perceptron(64))
    assert len(caught.value.problems) <= 2  # told once, not for every tensor


def test_fixup_is_its_source():
    for block, expansion in ((FixupBasicBlock, 1), (FixupBottleneck, 2)):
        assert_planned("fixup", lambda block=block, expansion=expansion: FixupResNet(block, expansion=expansion))


def test_fixups_logits_are_zero_and_its_blocks_are_their_shortcuts():
    model = FixupResNet(FixupBottleneck, expansion=2)
    report = initframe.reinit(model, preset("fixup"), seed=0)
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert not model(images).any()
    block, x = model.layer1[1], torch.rand(2, 64, 4, 4)
    assert torch.equal(block(x), x)
    slow, fast = sorted(report.param_groups(lr=1.0), key=lambda group: group["lr"])
    assert (slow["lr"], fast["lr"]) == (0.1, 1.0)
    assert {tuple(p.shape) for p in slow["params"]} == {(1,)}


def test_deepnorm_of_an_encoder():
    layer = nn.TransformerEncoderLayer(16, 2, 32)
    plan = initframe.resolve(preset("deepnorm"), nn.TransformerEncoder(layer, 18, enable_nested_tensor=False))
    assert plan.untouched == ()
    assert plan["layers.7.linear1.weight"].companions["residual"] == pytest.approx(2.4495, abs=1e-4)
    assert plan["layers.7.linear1.weight"].fill.std == pytest.approx(0.2887 * math.sqrt(2 / 48), rel=1e-3)
    query, key, value = plan["layers.7.self_attn.in_proj_weight"].fill.fills
    assert query.std == key.std == pytest.approx(math.sqrt(2 / 32))
    assert value.std == pytest.approx(0.2887 * query.std, rel=1e-3)


def test_deepnorm_of_both():
    model = nn.Transformer(16, 2, 6, 6, 32, batch_first=True)
    recipe = preset("deepnorm_seq2seq")
    recipe["vars"] |= {"encoder_layers": 6, "decoder_layers": 6}
    plan = initframe.resolve(recipe, model)
    assert plan.untouched == ()
    for side, alpha, beta in (("encoder", 1.418, 0.497), ("decoder", 2.060, 0.343)):
        linear = plan[f"{side}.layers.0.linear1.weight"]
        assert linear.companions["residual"] == pytest.approx(alpha, abs=2e-3)
        assert linear.fill.std == pytest.approx(beta * math.sqrt(2 / 48), rel=2e-3)
    cross = plan["decoder.layers.0.multihead_attn.in_proj_weight"].fill.fills
    assert cross[2].std == pytest.approx(0.343 * cross[0].std, rel=2e-3)


@pytest.mark.filterwarnings("ignore")
def test_t_fixup_of_bart():
    sizes = {"vocab_size": 99, "d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "pad_token_id": 0}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    model = language_model("BartModel", **sizes, **heads, encoder_layers=4, decoder_layers=3)
    plan = initframe.resolve(preset("t_fixup"), model)
    assert plan.untouched == ()
    plain = math.sqrt(2 / 64)
    for name, gain in (("q", 1), ("k", 1), ("v", 0.67 * 4**-0.25), ("out", 0.67 * 4**-0.25)):
        assert plan[f"encoder.layers.1.self_attn.{name}_proj.weight"].fill.std == pytest.approx(gain * plain)
    assert plan["decoder.layers.1.encoder_attn.v_proj.weight"].fill.std == pytest.approx(27**-0.25 * plain)
    assert plan["decoder.layers.1.fc1.weight"].fill.std == pytest.approx(27**-0.25 * math.sqrt(2 / 96))
    assert plan["shared.weight"].fill.fill.std == pytest.approx(36**-0.25 / math.sqrt(32))
    assert plan.asks == ["no layer normalization", "no warm-up of the learning rate"]


@pytest.mark.parametrize("tied", [True, False])
def test_t_fixup_of_a_decoder_that_has_embeddings_of_its_own(tied):
    def side(layer, layers):
        return nn.ModuleDict({"embed_tokens": nn.Embedding(50, 32), "layers": nn.ModuleList(map(layer, range(layers)))})

    def block(_):
        attention = nn.ModuleDict({f"{part}_proj": nn.Linear(32, 32) for part in ("q", "k", "v", "out")})
        return nn.ModuleDict({"self_attn": attention, "fc1": nn.Linear(32, 64), "fc2": nn.Linear(64, 32)})

    model = nn.ModuleDict({"encoder": side(block, 6), "decoder": side(block, 2)})
    if tied:
        model["decoder"]["embed_tokens"].weight = model["encoder"]["embed_tokens"].weight
    plan = initframe.resolve(preset("t_fixup", vars={"encoder_layers": 6, "decoder_layers": 2}), model)
    assert plan.untouched == ()
    for name, layers in (("encoder", 6), ("decoder", 6 if tied else 2)):
        found = plan[f"{name}.embed_tokens.weight"].fill.std
        assert found == pytest.approx((9 * layers) ** -0.25 / math.sqrt(32))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("alpha", [0.5, 1])
def test_complete_p_of_gpt2(alpha):
    model = language_model("GPT2LMHeadModel", vocab_size=99, n_positions=16, n_embd=64, n_layer=8, n_head=2)
    recipe = preset("complete_p")
    recipe["vars"] |= {"base_width": 16, "base_layers": 2, "alpha": alpha}
    report = initframe.reinit(model, recipe, seed=0)
    assert report.plan.untouched == ()
    hidden = report.plan["transformer.h.3.mlp.c_fc.weight"]
    assert hidden.fill.std == pytest.approx(0.02 / 2)
    expected = {"lr": 4 ** (alpha - 1) / 4, "weight_decay": 4, "eps": 4**-alpha / 4, "residual": 4**-alpha}
    assert hidden.companions == pytest.approx(expected)
    assert report.plan["transformer.h.3.ln_1.weight"].companions["lr"] == pytest.approx(4 ** (alpha - 1))
    assert report.plan["lm_head.weight"].companions["logits"] == 0.25
    groups = report.param_groups(lr=1e-2, weight_decay=0.1, eps=1e-8)
    by_parameter = {id(p): group for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        group = by_parameter[id(parameter)]
        inside, matrix = ".h." in name, parameter.ndim > 1
        lr = 1e-2 * (4 ** (alpha - 1) if inside else 1) / (4 if inside and matrix else 1)
        decay = 0.1 * (4 if inside else 1) if matrix else 0
        eps = 1e-8 / 4 * (4**-alpha if inside else 1)
        assert (group["lr"], group["weight_decay"], group["eps"]) == pytest.approx((lr, decay, eps)), name
    torch.optim.AdamW(groups)


@pytest.mark.parametrize("bias", [True, False])
def test_nano_gpt_is_gpt2(bias):
    assert_planned("gpt2", lambda: NanoGPT(NanoConfig(bias=bias)), initializer_range=0.02)


@pytest.mark.parametrize("bias", [True, False])
def test_complete_p_reaches_all_of_nano_gpt(bias):
    plan = initframe.resolve(preset("complete_p"), NanoGPT(NanoConfig(bias=bias)))
    assert plan.untouched == ()
    assert plan["transformer.ln_f.weight"].fill.mean == 1


@pytest.mark.filterwarnings("ignore")
def test_gpt2_residual_lies_over_another_recipe():
    model = language_model(
        "LlamaForCausalLM",
        vocab_size=99,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=5,
        num_attention_heads=2,
    )
    both = preset("llama")
    both["rules"] |= preset("gpt2_residual")["rules"]
    plan = initframe.resolve(both | {"vars": {"residual_std": 0.02}}, model)
    outputs = {"mlp.down_proj", "self_attn.o_proj"}
    for a in plan.assignments:
        is_output = any(a.slot.name.endswith(f"{output}.weight") for output in outputs)
        if a.fill.std:
            assert a.fill.std == pytest.approx(0.02 / math.sqrt(10) if is_output else 0.02)
