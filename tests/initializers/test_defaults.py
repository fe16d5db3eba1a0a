"""torch_default: what every torch layer does by itself, bit for bit where each tensor is drawn by itself."""

import math

import pytest
import torch
from nets import Tower, bits, changed, convnet, rules, same_bits
from refusals import refused
from samples import assert_moments
from torch import nn

import initframe
from initframe.errors import ResolveError
from initframe.fills import Constant, Normal, Uniform

EVERYTHING = rules({"*": {"init": "torch_default", "kind": "any"}})

# Layers whose reset_parameters draws every tensor by itself, in the order of state_dict.
ALONE = {
    "Linear": lambda: nn.Linear(7, 5),
    "Linear without bias": lambda: nn.Linear(7, 5, bias=False),
    "Conv1d": lambda: nn.Conv1d(3, 4, 5),
    "Conv2d": lambda: nn.Conv2d(4, 6, (3, 5), groups=2),
    "Conv3d": lambda: nn.Conv3d(2, 3, 2),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(3, 4, 5, stride=2),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(4, 6, 3, groups=2, stride=2),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(2, 3, 2),
    "Bilinear": lambda: nn.Bilinear(3, 4, 5),
    "Embedding": lambda: nn.Embedding(9, 4),
    "EmbeddingBag": lambda: nn.EmbeddingBag(9, 4),
    "RNN": lambda: nn.RNN(3, 4, num_layers=2, bidirectional=True),
    "LSTM": lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True),
    "LSTM with projections": lambda: nn.LSTM(3, 4, proj_size=2),
    "GRU": lambda: nn.GRU(3, 4, bias=False),
    "RNNCell": lambda: nn.RNNCell(3, 4),
    "LSTMCell": lambda: nn.LSTMCell(3, 4),
    "GRUCell": lambda: nn.GRUCell(3, 4),
    "BatchNorm1d": lambda: nn.BatchNorm1d(3),
    "BatchNorm2d": lambda: nn.BatchNorm2d(3),
    "BatchNorm3d": lambda: nn.BatchNorm3d(3),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(3),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(3, affine=True, track_running_stats=True),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(3, affine=True),
    "InstanceNorm3d": lambda: nn.InstanceNorm3d(3, affine=True),
    "LayerNorm": lambda: nn.LayerNorm((3, 4)),
    "GroupNorm": lambda: nn.GroupNorm(2, 4),
    "RMSNorm": lambda: nn.RMSNorm(4),
    "PReLU": lambda: nn.PReLU(3, init=0.1),
}


def spoiled(layer):
    """The layer with other values, so that what is not written is seen."""
    with torch.no_grad():
        for tensor in layer.state_dict().values():
            tensor.copy_(torch.full_like(tensor, 7))
    return layer


@pytest.mark.parametrize("name", ALONE)
def test_with_torchs_generator_it_is_the_layers_own_reset_bit_for_bit(name):
    layer = spoiled(ALONE[name]())
    initframe.reinit(layer, EVERYTHING, seed=3, generator="torch")
    torch.manual_seed(3)
    assert changed(layer, ALONE[name]().state_dict()) == set()


def test_every_layer_of_torch_with_tensors_has_a_law():
    """Whatever torch.nn shows that has parameters of its own is in the list above, or made of such layers."""
    built_of_others = {"MultiheadAttention", "Transformer", "AdaptiveLogSoftmaxWithLoss"}
    resets = {name for name in dir(nn) if isinstance(cls := getattr(nn, name), type) and "reset_parameters" in dir(cls)}
    lazy = {name for name in resets if name.startswith("Lazy")}
    bases = {"RNNBase", "RNNCellBase"}
    known = {name.split()[0] for name in ALONE}
    assert resets - lazy - built_of_others - bases <= known
    assert {name.removeprefix("Lazy") for name in lazy} <= known


@pytest.mark.parametrize("name", ALONE)
def test_on_the_stream_it_has_the_layers_bounds_and_moments(name):
    layer = spoiled(ALONE[name]())
    report = initframe.reinit(layer, EVERYTHING, seed=0)
    for result in report.results:
        fill, values = result.assignment.fill, layer.state_dict()[result.name]
        assert isinstance(fill, Constant | Uniform | Normal)
        if isinstance(fill, Constant):
            assert (values == fill.value).all()
        elif isinstance(fill, Uniform):
            assert values.abs().max() <= fill.high


def test_attention_has_its_layers_laws():
    layer = nn.MultiheadAttention(32, 4, add_bias_kv=True)
    initframe.reinit(spoiled(layer), EVERYTHING, seed=0)
    bound = math.sqrt(6 / (32 + 96))
    assert_moments(layer.in_proj_weight, 0, bound / math.sqrt(3))
    assert 0.99 * bound < layer.in_proj_weight.abs().max() <= bound
    assert_moments(layer.out_proj.weight, 0, 1 / math.sqrt(32) / math.sqrt(3))
    assert layer.out_proj.weight.abs().max() <= 1 / math.sqrt(32)
    assert not layer.in_proj_bias.any()
    assert not layer.out_proj.bias.any()
    for bias in (layer.bias_k, layer.bias_v):
        assert_moments(bias, 0, math.sqrt(2 / (32 + 32)))


def test_attention_with_other_widths_has_its_layers_laws():
    layer = nn.MultiheadAttention(16, 4, kdim=8, vdim=24)
    plan = initframe.resolve(EVERYTHING, layer)
    for name, inputs in (("q_proj_weight", 16), ("k_proj_weight", 8), ("v_proj_weight", 24)):
        assert plan[name].fill.high == pytest.approx(math.sqrt(6 / (inputs + 16)))


@pytest.mark.parametrize("fans", ["torch", "effective"])
def test_a_layers_own_law_counts_as_torch_does(fans):
    plan = initframe.resolve({**EVERYTHING, "fans": fans}, nn.ConvTranspose2d(4, 6, 3, groups=2, stride=2))
    assert plan["weight"].fill.high == pytest.approx(1 / math.sqrt(3 * 9))
    assert plan["bias"].fill.high == pytest.approx(1 / math.sqrt(3 * 9))


def test_a_padding_row_is_zero_on_the_stream():
    layer = spoiled(nn.Embedding(9, 4, padding_idx=2))
    initframe.reinit(layer, EVERYTHING, seed=0)
    assert not layer.weight[2].any()
    assert layer.weight[[0, 1, 3, 4, 5, 6, 7, 8]].all()


def test_counters_are_reset():
    norm = spoiled(nn.BatchNorm2d(3))
    initframe.reinit(norm, EVERYTHING, seed=0)
    assert norm.num_batches_tracked == 0
    assert same_bits(norm.running_var, torch.ones(3))


class Mine(nn.Linear):
    """A layer derived from torch's."""


def test_derived_layers_have_their_bases_law():
    mine, torchs = (initframe.resolve(EVERYTHING, layer) for layer in (Mine(4, 2), nn.Linear(4, 2)))
    assert mine["weight"].fill == torchs["weight"].fill
    assert mine["bias"].fill == Uniform(-0.5, 0.5)


def test_a_layer_without_inputs_has_zero_biases():
    with pytest.warns(UserWarning, match="zero-element"):
        layer = spoiled(nn.Linear(0, 5))
    report = initframe.reinit(layer, EVERYTHING)
    assert not layer.bias.any()
    assert report.plan.skipped == {"weight": "it has no elements."}


def test_a_tensor_that_no_torch_layer_owns_is_refused():
    with pytest.raises(ResolveError, match=r"on scale \[\]: torch_default .* 'scale' of Tower"):
        initframe.resolve(EVERYTHING, Tower())
    with pytest.raises(ResolveError, match="'weight' of a plain tensor"):
        initframe.resolve(rules({"weight": "torch_default"}), {"weight": torch.zeros(2, 2)})


def test_unmatched_default_gives_the_rest_its_layers_law():
    model = convnet()
    plan = initframe.resolve(rules({"0.weight": "zeros"}, unmatched="default"), model)
    own = initframe.resolve(rules({"*": "torch_default"}), model)
    assert plan.untouched == ()
    assert [a.fill for a in plan.assignments[1:]] == [a.fill for a in own.assignments[1:]]
    assert plan["0.weight"].fill == Constant(0.0)
    assert plan["0.weight"].shadowed == ()


class OwnReset(nn.Linear):
    def reset_parameters(self):
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)


class OwnResetOfAttention(nn.MultiheadAttention):
    def _reset_parameters(self):
        nn.init.eye_(self.in_proj_weight)


class OwnConstructor(nn.Linear):
    def __init__(self, *args):
        super().__init__(*args)
        nn.init.zeros_(self.weight)


class OwnMethod(nn.Conv2d):
    def __init__(self, *args):
        super().__init__(*args)
        self.shrink()

    def shrink(self):
        self.weight.data *= 0.1


class OwnParameter(nn.Embedding):
    def __init__(self, *args):
        super().__init__(*args)
        self.weight = nn.Parameter(torch.arange(12.0).reshape(4, 3))


class OwnElements(nn.LayerNorm):
    def __init__(self, *args):
        super().__init__(*args)
        with torch.no_grad():
            self.weight[0] = 0


class AllOfThem(nn.Linear):
    def __init__(self, *args):
        super().__init__(*args)
        for tensor in self.parameters():
            tensor.data.uniform_()


class Below(OwnReset):
    """Derived once more."""


class Adds(nn.Conv2d):
    """Has a parameter of its own; the weights are torch's."""

    def __init__(self, *args):
        super().__init__(*args)
        self.size = self.weight[0].numel()
        self.gain = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self):
        if hasattr(self, "gain"):
            nn.init.ones_(self.gain)
        super().reset_parameters()


@pytest.mark.parametrize(
    ("layer", "theirs"),
    [
        (OwnReset(4, 3), {"weight", "bias"}),
        (Below(4, 3), {"weight", "bias"}),
        (OwnResetOfAttention(4, 1), {"in_proj_weight", "in_proj_bias"}),
        (OwnConstructor(4, 3), {"weight"}),
        (OwnMethod(2, 3, 3), {"weight"}),
        (OwnParameter(4, 3), {"weight"}),
        (OwnElements(3), {"weight"}),
        (AllOfThem(4, 3), {"weight", "bias"}),
        (Adds(2, 3, 3), set()),
        (Mine(4, 3), set()),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
@pytest.mark.parametrize("recipe", [EVERYTHING, {"rules": {}, "unmatched": "default"}], ids=["rule", "unmatched"])
def test_what_a_class_sets_itself_is_refused_by_name(layer, theirs, recipe):
    """Each attribute that is refused is one that the class's own code sets; the others get torch's."""
    model = nn.Sequential(layer)
    before = bits(model)
    recipe = {**recipe, "rules": {**recipe["rules"], "0.gain": {"init": "keep", "optional": True}}}
    if not theirs:
        initframe.resolve(recipe, model)
        return
    problems = refused(initframe.reinit, model, recipe)
    refusals = {name for name in before if any(f"{name} " in p.subject for p in problems)}
    assert refusals == {f"0.{name}" for name in theirs}
    assert all("constructor" in p.fix and "keep" in p.fix for p in problems)
    assert changed(model, before) == set()


def test_the_table_of_an_embedding_that_is_not_trained_is_refused():
    ready = nn.Sequential(nn.Embedding.from_pretrained(torch.ones(4, 3)), nn.Linear(3, 2))
    (problem,) = refused(initframe.reinit, ready, {"rules": {}, "unmatched": "default"})
    assert "0.weight [4, 3]" in problem.subject
    plan = initframe.resolve(rules({"0.weight": "keep"}, unmatched="default"), ready)
    assert [a.slot.name for a in plan.assignments if a.rule.init != "keep"] == ["1.weight", "1.bias"]
    ready[0].weight.requires_grad_(True)
    initframe.resolve({"rules": {}, "unmatched": "default"}, ready)


TWO_STACKS = {"d_model": 16, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "pad_token_id": 0}
ONE_STACK = {"hidden_size": 16, "num_attention_heads": 2, "embedding_size": 16, "intermediate_size": 8}
LAYERS = {"num_hidden_layers": 1, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
SINUSOIDS = {"Marian": TWO_STACKS, "Pegasus": TWO_STACKS, "Whisper": TWO_STACKS, "RoFormer": ONE_STACK}


@pytest.mark.slow
@pytest.mark.parametrize("family", SINUSOIDS)
def test_frozen_sinusoids_are_refused(family):
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{family}Config")(vocab_size=20, **{**LAYERS, **SINUSOIDS[family]})
    model = getattr(transformers, f"{family}Model")(config)
    tables = {name for name, p in model.named_parameters() if "position" in name and not p.requires_grad}
    before = bits(model)
    problems = refused(initframe.reinit, model, {"rules": {}, "unmatched": "default"})
    assert tables
    assert all(any(table in p.subject for p in problems) for table in tables)
    assert changed(model, before) == set()
    kept = {"rules": dict.fromkeys(tables, "keep"), "unmatched": "default"}
    initframe.reinit(model, kept)
    assert changed(model, before).isdisjoint(tables)
