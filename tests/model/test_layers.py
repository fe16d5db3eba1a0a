"""What a module says about its tensors."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from initframe.model.layers import read_layer
from initframe.model.survey import survey


def test_types_run_from_the_class_to_its_bases():
    class Mine(nn.Conv2d):
        pass

    layer = read_layer(Mine(2, 3, 1))
    assert layer.types == ("Mine", "Conv2d", "_ConvNd", "Module")
    assert layer.name == "Conv2d"


def test_private_layers_of_torch_are_called_by_their_public_base():
    attention = nn.MultiheadAttention(4, 2)
    assert read_layer(attention.out_proj).types[0] == "NonDynamicallyQuantizableLinear"
    assert read_layer(attention.out_proj).name == "Linear"


def test_a_module_of_ones_own_has_no_layer():
    class Mine(nn.Module):
        pass

    assert read_layer(Mine()).name is None


def test_settings_are_finite_public_numbers():
    class Mine(nn.Linear):
        def __init__(self):
            super().__init__(2, 3)
            self.width, self.slope, self.flag = 7, 0.25, True
            self._hidden, self.limit, self.text, self.size = 1, float("inf"), "8", (3, 3)
            self.huge = 10**400

    settings = read_layer(Mine()).settings
    assert settings == {"in_features": 2, "out_features": 3, "width": 7, "slope": 0.25, "huge": 10**400}


@pytest.mark.parametrize(
    ("layer", "name", "value"),
    [
        (nn.PReLU(init=0.3), "init", 0.3),
        (nn.LSTM(2, 5), "hidden_size", 5),
        (nn.LayerNorm(4, eps=1e-3), "eps", 1e-3),
    ],
)
def test_settings_of_torchs_layers(layer, name, value):
    assert survey(layer).slots[0].settings[name] == value


def test_numbers_of_numpy_count_as_numbers():
    grouped = survey(nn.Conv2d(8, 8, 3, groups=np.int64(8))).slots[0]
    strided = survey(nn.ConvTranspose2d(4, 4, 4, stride=(np.int64(2), np.int32(2)))).slots[0]
    assert (grouped.effective_fan_out, strided.effective_fan_in) == (9, 16)
    assert type(grouped.settings["groups"]) is int


class TestPaddingRow:
    @pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
    @pytest.mark.parametrize(("given", "row"), [(0, 0), (3, 3), (-1, 4), (None, None), (np.int64(3), 3)])
    def test_counts_from_the_first_row(self, kind, given, row):
        assert survey(kind(5, 2, padding_idx=given)).slots[0].padding_row == row

    def test_is_kept_when_the_tie_is_met_under_another_name_first(self):
        model = nn.ModuleDict({"head": nn.Linear(2, 5, bias=False), "words": nn.Embedding(5, 2, padding_idx=1)})
        model["words"].weight = model["head"].weight
        (slot,) = survey(model).slots
        assert (slot.name, slot.padding_row) == ("head.weight", 1)

    def test_is_no_fact_of_other_layers(self):
        layer = nn.Linear(2, 5)
        layer.padding_idx = 1
        assert [slot.padding_row for slot in survey(layer).slots] == [None, None]


class TestConfig:
    def model(self, config):
        model = nn.Linear(1, 1)
        model.config = config
        return survey(model).config

    def test_mapping(self):
        assert self.model({"d_kv": 64, "use": True, "name": "x", "not a name": 1, "eps": 1e-6, 3: 4}) == {
            "d_kv": 64,
            "eps": 1e-6,
        }

    def test_dataclass(self):
        @dataclass(slots=True)
        class Config:
            depth: int = 12
            tied: bool = True

        assert self.model(Config()) == {"depth": 12}

    def test_a_class_derived_from_a_dataclass_may_add_attributes(self):
        @dataclass
        class Base:
            depth: int = 12

        class Config(Base):  # as a user's config derives from transformers'
            def __init__(self):
                self.initializer_range = 0.02
                super().__init__()

        assert self.model(Config()) == {"depth": 12, "initializer_range": 0.02}

    def test_transformers_synonyms(self):
        class Config:
            attribute_map = {"hidden_size": "d_model", "absent": "nothing"}  # noqa: RUF012

            def __init__(self):
                self.d_model = 512

        assert self.model(Config()) == {"d_model": 512, "hidden_size": 512}

    def test_numbers_that_a_config_refuses_to_name_are_left_out(self):
        @dataclass
        class PerLayer:
            depth: int = 12
            heads: int = 4

            def __getattribute__(self, name):
                if name == "heads":
                    raise RuntimeError("varies between layers")
                return super().__getattribute__(name)

        assert self.model(PerLayer()) == {"depth": 12}

    @pytest.mark.parametrize("config", [None, "text", 7, lambda: None, object(), {}])
    def test_anything_else_has_no_numbers(self, config):
        assert self.model(config) == {}

    def test_is_read_through_wrappers(self):
        model = nn.Linear(1, 1)
        model.config = {"depth": 3}
        assert survey(nn.DataParallel(model)).config == {"depth": 3}

    def test_a_model_without_one(self):
        assert survey(nn.Linear(1, 1)).config == {}


def test_reading_a_layer_looks_at_no_tensor():
    assert read_layer(nn.Linear(2, 3)) == read_layer(nn.Linear(2, 3, device="meta", dtype=torch.float64))
