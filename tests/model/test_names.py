"""Names are those of the bare model, under any stack of wrappers."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper, offload_wrapper
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

import initframe
from initframe.errors import ResolveError
from initframe.model.names import unwrap, walk
from initframe.model.survey import survey


class Honest(nn.Module):
    """Children that bear the names that wrappers use."""

    def __init__(self):
        super().__init__()
        self.module = nn.Linear(2, 3)
        self._orig_mod = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        self._checkpoint_wrapped_module = nn.Linear(3, 1, bias=False)

    def forward(self, x):
        return self._checkpoint_wrapped_module(self._orig_mod(self.module(x)))


HONEST = ["module.weight", "module.bias", "_orig_mod.0.weight", "_orig_mod.0.bias", "_orig_mod.1.weight"]


def compiled(model):
    """Compile a module; torch.compile makes a bare function of one that is compiled already, inside even."""
    compiled = torch.compile(model)
    return compiled if isinstance(compiled, nn.Module) else model


WRAPPERS = {
    "DataParallel": DataParallel,
    "compile": compiled,
    "AveragedModel": AveragedModel,
    "checkpoint": checkpoint_wrapper,
    "offload": offload_wrapper,
    "DistributedDataParallel": DistributedDataParallel,
}


pytestmark = pytest.mark.usefixtures("process_group")


def names(model):
    return [name for slot in survey(model).slots for name in (slot.name, *slot.aliases)]


def facts(model):
    return [(slot.name, slot.fan_in, slot.module_types, slot.layer) for slot in survey(model).slots]


def test_honest_names_stay():
    assert names(Honest())[:5] == HONEST
    assert names(Honest()) == list(Honest().state_dict())


@pytest.mark.parametrize(("outer", "inner"), list(itertools.product(WRAPPERS, repeat=2)))
def test_two_wrappers_in_any_order(outer, inner):
    wrapped = WRAPPERS[outer](WRAPPERS[inner](Honest()))
    assert facts(wrapped) == facts(Honest())
    assert survey(wrapped).title == "Honest"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(sorted(set(WRAPPERS) - {"DistributedDataParallel"})), max_size=5))
def test_any_stack_inside_a_submodule(stack):
    model = nn.Sequential(nn.Linear(1, 2), Honest())
    bare = names(model)
    for wrapper in stack:
        model[1] = WRAPPERS[wrapper](model[1])
    assert names(model) == bare


def test_a_child_honestly_called_parametrizations_stays():
    model = nn.Module()
    model.parametrizations = nn.ModuleDict({"weight": nn.Linear(2, 3)})
    assert names(model) == ["parametrizations.weight.weight", "parametrizations.weight.bias"]


def test_a_wrappers_subclass_is_a_wrapper():
    class Mine(DataParallel):
        pass

    assert names(Mine(nn.Linear(2, 3))) == ["weight", "bias"]


def test_a_namesake_of_a_wrapper_is_none():
    class DataParallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(2, 3)

    assert names(DataParallel()) == ["module.weight", "module.bias"]


def test_the_bookkeeping_of_a_wrapper_is_no_slot():
    averaged = AveragedModel(nn.Linear(2, 3))
    assert "n_averaged" in averaged.state_dict()
    assert names(averaged) == ["weight", "bias"]


def test_writing_through_a_wrapper_reaches_the_model():
    bare = nn.Linear(2, 3)
    assert survey(torch.compile(DataParallel(bare))).places["weight"].direct is bare.weight
    assert unwrap(torch.compile(DataParallel(bare))) is bare


def test_in_place_compilation_changes_no_name():
    model = nn.Sequential(nn.Linear(2, 3))
    model.compile()
    assert names(model) == ["0.weight", "0.bias"]


def test_walk_visits_a_shared_module_under_each_name():
    shared = nn.Linear(2, 2)
    assert [prefix for prefix, _ in walk(nn.Sequential(shared, nn.ReLU(), shared))] == ["", "0.", "1.", "2."]


def test_a_module_that_contains_itself_is_refused():
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].parent = model
    (problem,) = refused(survey, model, kind=ResolveError)
    assert "'0.parent'" in problem.subject
    assert problem.fix


def test_depth_is_no_matter():
    model = nn.Linear(1, 1)
    for _ in range(2000):
        model = nn.Sequential(model)
    assert survey(model).slots[0].name == "0." * 2000 + "weight"


def test_the_moving_averages_of_timm_are_wrappers():
    ema = pytest.importorskip("timm.utils.model_ema")
    assert names(ema.ModelEmaV3(nn.Linear(2, 3))) == ["weight", "bias"]
    assert names(ema.ModelEmaV2(nn.Linear(2, 3))) == ["weight", "bias"]


class Scaled(DataParallel):
    """A wrapper with a parameter of its own."""

    def __init__(self, module):
        super().__init__(module)
        self.temperature = nn.Parameter(torch.ones(()))


def test_a_wrappers_own_parameters_are_the_models_and_its_bookkeeping_is_not():
    assert [slot.name for slot in survey(Scaled(nn.Linear(2, 3))).slots] == ["temperature", "weight", "bias"]
    assert [slot.name for slot in survey(AveragedModel(nn.Linear(2, 3))).slots] == ["weight", "bias"]


def test_a_parameter_may_be_called_as_fsdp_calls_its_own():
    model = nn.Linear(2, 3)
    model._flat_param = nn.Parameter(torch.ones(3))
    assert [slot.name for slot in survey(model).slots] == ["weight", "bias", "_flat_param"]


def net():
    """A stack with a layer to adapt and a head to train."""
    model = nn.Module()
    model.body = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Embedding(5, 4))
    model.head = nn.Linear(4, 2)
    model.forward = lambda x: model.head(model.body[1](model.body[0](x)))
    return model


def peft_model(**options):
    peft = pytest.importorskip("peft")
    return peft.get_peft_model(net(), peft.LoraConfig(target_modules=["body.0", "body.2"], **options))


def fabric_model(**options):
    from lightning.fabric import Fabric

    return Fabric(accelerator="cpu", devices=1).setup(net(), **options)


RECIPE = {"rules": {"*.weight": {"init": "normal", "where": "ndim > 1"}, "*.bias": "zeros"}}


@pytest.mark.slow
@pytest.mark.parametrize("build", [peft_model, lambda: peft_model(modules_to_save=["head"])])
def test_peft_changes_no_name_and_no_number(build):
    plain, wrapped = net(), build()
    initframe.reinit(plain, RECIPE, seed=5)
    report = initframe.reinit(wrapped, RECIPE, seed=5)
    named = {name: slot for slot in survey(wrapped).slots for name in (slot.name, *slot.aliases)}
    own = dict(plain.named_parameters())
    assert own.keys() <= named.keys()
    assert list(own) == [name for name in named if name in own]
    inside = {name: place.direct for name, place in survey(wrapped).places.items()}
    assert all(torch.equal(inside[name], tensor) for name, tensor in own.items())
    assert report.plan["body.0.weight"].slot.layer == "Linear"
    added = {"body.0.lora_A.default.weight", "body.2.lora_embedding_A.default"}
    assert {name for name in named if "_A." in name} == added
    every = [id(tensor) for tensor in (*wrapped.parameters(), *wrapped.buffers())]
    assert sorted(every) == sorted(id(place.direct) for place in survey(wrapped).places.values())


def test_of_what_peft_copies_the_copy_that_runs_has_the_name():
    wrapped = peft_model(modules_to_save=["head"])
    copies = wrapped.base_model.model.head
    places = survey(wrapped).places
    assert places["head.weight"].direct is copies.modules_to_save["default"].weight
    assert places["head.original_module.weight"].direct is copies.original_module.weight
    with wrapped.disable_adapter():
        assert survey(wrapped).places["head.weight"].direct is copies.original_module.weight


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_prompts_of_peft_are_seen():
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    small = {"n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 11, "n_positions": 8}
    config = transformers.GPT2Config(**small, bos_token_id=1, eos_token_id=2)
    wrapped = peft.get_peft_model(
        transformers.GPT2LMHeadModel(config), peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    )
    names = {slot.name for slot in survey(wrapped).slots}
    assert "prompt_encoder.default.embedding.weight" in names
    assert "transformer.wte.weight" in names


@pytest.mark.filterwarnings("ignore")
def test_fabric_changes_no_name_and_no_number():
    pytest.importorskip("lightning")
    plain, wrapped = net(), fabric_model()
    initframe.reinit(plain, RECIPE, seed=5)
    initframe.reinit(wrapped, RECIPE, seed=5)
    assert [slot.name for slot in survey(wrapped).slots] == [slot.name for slot in survey(plain).slots]
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), wrapped.parameters(), strict=True))
    assert survey(wrapped).title == survey(plain).title
