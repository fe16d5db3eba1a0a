"""Presets of models whose libraries are no test's business, against small models written after their sources."""

import pytest
import torch

import initframe
from presets.laws import assert_law
from presets.sources import MODELS
from presets.test_proofs import assert_planned, cases


@pytest.mark.parametrize(("name", "build"), cases(MODELS))
def test_a_source_draws_what_its_preset_plans(name, build):
    assert_planned(name, build)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["A_log", "D", "dt_proj.weight", "dt_proj.bias"])
def test_mambas_states_and_steps_are_those_of_transformers(name):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.MambaConfig(vocab_size=50, hidden_size=256, num_hidden_layers=1, pad_token_id=0)
    config.bos_token_id = config.eos_token_id = 0
    model = transformers.MambaModel(config)
    plan = initframe.resolve({"rules": initframe.load_recipe("mamba").to_dict()["rules"], "unused": "warn"}, model)
    tensor = f"layers.0.mixer.{name}"
    assert_law(plan[tensor].fill, model.get_parameter(tensor).detach()[None])
