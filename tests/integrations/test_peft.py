"""PEFT's own adapters under the presets ``lora``, ``lora_gaussian`` and ``lora_rank_stabilized``."""

import math
import warnings

import pytest
import torch
from nets import bits, changed, same_bits
from samples import assert_moments
from torch import nn

import initframe
from initframe.plan.param_groups import CompanionWarning

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
PRESETS = {
    "lora": {"init_lora_weights": True},
    "lora_gaussian": {"init_lora_weights": "gaussian"},
    "lora_rank_stabilized": {"init_lora_weights": True, "use_rslora": True},
}
RANK = 4


class Adapted(nn.Module):
    """A layer of every kind that LoRA adapts."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 32)
        self.project = nn.Linear(32, 64)
        self.turned = Conv1D(16, 64)  # its weight is transposed
        self.look = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(16, 2)

    def forward(self, tokens, image):
        return self.head(self.turned(self.project(self.words(tokens)))), self.look(image)


INPUTS = torch.arange(6)[None], torch.ones(1, 3, 5, 5)


def config(**options):
    return LoraConfig(r=RANK, target_modules=["words", "project", "turned", "look"], **options)


def adapted(base=None, **options):
    return get_peft_model(base or Adapted(), config(**options))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_what_peft_does(name):
    """The fills planned are those that PEFT's own functions write, read while it builds the adapters."""
    traced = initframe.trace(lambda: adapted(**PRESETS[name]))
    planned = initframe.resolve(name, traced.model)
    adapters = [a for a in traced.assignments if ".lora_" in a.slot.name]
    assert len(adapters) == 8
    for theirs in adapters:
        ours = planned[theirs.slot.name].fill
        assert type(ours) is type(theirs.fill)
        assert (ours.mean, ours.std) == pytest.approx((theirs.fill.mean, theirs.fill.std), rel=1e-6)
    assert {a.slot.name for a in planned.assignments} == {a.slot.name for a in adapters}


@pytest.mark.parametrize("name", PRESETS)
def test_the_adapted_model_computes_what_the_bare_one_does(name):
    torch.manual_seed(0)
    base = Adapted()
    expected = [value.detach() for value in base(*INPUTS)]
    model = adapted(base, lora_bias=False, **PRESETS[name])
    before = bits(model)
    initframe.reinit(model, {"rules": initframe.load_recipe(name).to_dict()["rules"]}, seed=3)
    assert {n.split(".")[-3] for n in changed(model, before) if "embedding" not in n} == {"lora_A"}
    assert all(torch.equal(one, other) for one, other in zip(model(*INPUTS), expected, strict=True))


def test_moments_of_a():
    model = adapted()
    for name, std in (("lora", 1 / math.sqrt(3 * 32)), ("lora_gaussian", 1 / RANK)):
        initframe.reinit(model, name, seed=3)
        assert_moments(model.base_model.model.project.lora_A["default"].weight, 0.0, std)


def test_rank_stabilization_says_what_it_asks_of_the_model():
    with pytest.warns(CompanionWarning, match="use_rslora"):
        initframe.reinit(adapted(use_rslora=True), "lora_rank_stabilized", seed=3)


def test_a_second_adapter_has_numbers_of_its_own_and_leaves_the_first():
    model = adapted()
    initframe.reinit(model, "lora", seed=3)
    model.add_adapter("second", config())
    before = bits(model)
    initframe.reinit(model, "lora", seed=3, only=["*.lora_*.second*"])
    differ = changed(model, before)
    assert differ
    assert all(".second" in name for name in differ)
    first, second = (model.base_model.model.project.lora_A[name].weight for name in ("default", "second"))
    assert not torch.equal(first, second)
    alone = adapted()
    alone.add_adapter("second", config())
    initframe.reinit(alone, "lora", seed=3)
    assert changed(alone, bits(model)) <= {n for n in bits(alone) if ".lora_" not in n}


def test_adapters_on_the_meta_device_are_materialized_and_the_base_is_kept():
    torch.manual_seed(0)
    base = Adapted()
    before = bits(base)
    model = get_peft_model(base, config(), low_cpu_mem_usage=True)
    assert all(p.is_meta for n, p in model.named_parameters() if ".lora_" in n)
    initframe.materialize(model, "lora", seed=3)
    real = adapted()
    initframe.reinit(real, "lora", seed=3)
    got, expected = (dict(m.named_parameters()) for m in (model, real))
    assert all(same_bits(got[n], expected[n]) for n in got if ".lora_" in n)
    kept = {
        n.replace("base_model.model.", "").replace(".base_layer", ""): p for n, p in got.items() if ".lora_" not in n
    }
    assert all(same_bits(kept[n], value) for n, value in before.items())


def test_a_deferred_model_with_its_adapters_is_filled_at_once():
    with initframe.deferred():
        model = adapted()
    recipe = {"unmatched": "constructor", "rules": initframe.load_recipe("lora").to_dict()["rules"]}
    initframe.materialize(model, recipe, seed=3)
    real = adapted()
    initframe.reinit(real, "lora", seed=3)
    pick = [n for n, _ in real.named_parameters() if ".lora_" in n]
    assert all(same_bits(model.get_parameter(n), real.get_parameter(n)) for n in pick)


@pytest.mark.parametrize("fill", [None, "normal"])
def test_doras_magnitudes_are_the_norms_that_peft_computes(fill):
    """Also if the same plan writes the weights."""
    model = adapted(use_dora=True)
    layers = {n: getattr(model.base_model.model, n) for n in ("words", "project", "turned", "look")}
    rules = initframe.load_recipe("lora").to_dict()["rules"]
    if fill:
        rules = {"base": {"match": ["words.weight", "*.weight"], "where": "ndim > 1", "init": fill}} | rules
    initframe.reinit(model, {"rules": rules}, seed=3)
    for name, layer in layers.items():
        held = layer.lora_magnitude_vector["default"].weight
        mine = held.detach().clone()
        again(layer)
        assert mine.shape == layer.lora_magnitude_vector["default"].weight.shape
        assert torch.allclose(mine, layer.lora_magnitude_vector["default"].weight, rtol=1e-5), name
    expected = [value.detach() for value in model.get_base_model()(*INPUTS)]
    with model.disable_adapter():
        bare = model(*INPUTS)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(bare, expected, strict=True))


def again(layer):
    """Have PEFT compute the magnitudes anew."""
    embedded = "default" in layer.lora_embedding_A
    a, b = (layer.lora_embedding_A, layer.lora_embedding_B) if embedded else (layer.lora_A, layer.lora_B)
    a, b = (x["default"] if embedded else x["default"].weight for x in (a, b))
    layer.lora_magnitude_vector["default"].update_layer(
        base_layer=layer.get_base_layer(), lora_A=a, lora_B=b, scaling=layer.scaling["default"]
    )


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"modules_to_save": ["head"]}], ids=str)
def test_an_adapted_model_is_what_its_manifest_promises(options):
    """Manifests have the bare model's names; PEFT's model and its state_dict have PEFT's."""
    model = adapted(**options)
    record = initframe.manifest(initframe.reinit(model, "lora", seed=0, measure=True))
    for against in (model, model.state_dict()):
        found = initframe.verify(record, against)
        assert found.ok, str(found)
    with torch.no_grad():
        model.base_model.model.project.lora_A["default"].weight[0, 0] += 1
    changed = [row.name for row in initframe.verify(record, model).rows if not row.ok]
    assert changed == ["project.lora_A.default.weight"]


def test_an_adapted_model_is_predicted_by_its_plan():
    """What the adapters held before does not matter."""
    recipe = {"rules": {"*.lora_[AB].*": {"init": "normal", "std": 0.5}}}
    models = [get_peft_model(nn.Sequential(nn.Linear(8, 8)), LoraConfig(r=2, target_modules=["0"])) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    with torch.no_grad():
        models[1].base_model.model[0].lora_B["default"].weight.fill_(7)
    batch = torch.randn(16, 8)
    one, other = (initframe.predict(initframe.resolve(recipe, model), batch).rows[-1].rms for model in models)
    assert one == other > 1
