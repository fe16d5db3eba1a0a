"""The whole of a model: every tensor once, ties, buffers, mappings, odd names."""

import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from trees import trees

from initframe.model.survey import survey


def covered(seen):
    """Every name that a survey accounts for."""
    return sorted(name for slot in (*seen.slots, *seen.raw) for name in (slot.name, *slot.aliases))


# --- a plain model -----------------------------------------------------------


def test_slots_stand_in_the_order_of_state_dict():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.Flatten(), nn.Linear(8, 3)))
    assert [slot.name for slot in survey(model).slots] == list(model.state_dict())


def test_the_facts_of_a_slot():
    weight, bias = survey(nn.Linear(5, 3, dtype=torch.float64)).slots
    assert (weight.shape, weight.dtype, weight.kind, weight.ndim, weight.numel) == (
        (3, 5),
        torch.float64,
        "parameter",
        2,
        15,
    )
    assert (weight.layer, weight.module_types) == ("Linear", ("Linear", "Module"))
    assert (bias.fan_in, bias.fan_out, bias.requires_grad, bias.blocked) == (5, 3, True, None)


def test_places_hold_the_live_tensors():
    model = nn.Linear(5, 3)
    place = survey(model).places["weight"]
    assert place.direct is model.weight
    assert place.tensor() is model.weight
    assert place.held == (model.weight,)
    ((original, value),) = place.copies(torch.ones(3, 5))
    assert original is model.weight
    assert torch.equal(value, torch.ones(3, 5))
    assert place.check(torch.ones(3, 5)) is None


def test_a_survey_changes_nothing():
    model = nn.Sequential(nn.LSTM(2, 3), nn.BatchNorm1d(3), nn.Dropout())
    before = {name: (id(tensor), tensor.clone()) for name, tensor in model.named_parameters()}
    survey(model)
    after = dict(model.named_parameters())
    assert all(id(after[name]) == key and torch.equal(after[name], value) for name, (key, value) in before.items())


def test_the_survey_of_a_meta_model_is_that_of_the_real_one():
    def build():
        model = nn.Sequential(nn.Embedding(4, 2), nn.MultiheadAttention(2, 1), nn.Linear(2, 4, bias=False))
        model[2].weight = model[0].weight
        return model

    with torch.device("meta"):
        meta = survey(build())
    assert meta.slots == survey(build()).slots


def test_frozen_tensors_are_marked():
    model = nn.Linear(2, 2).requires_grad_(False)
    assert not any(slot.requires_grad for slot in survey(model).slots)


def test_layout_is_no_fact():
    plain, permuted = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    permuted.weight.data = permuted.weight.data.transpose(2, 3)
    assert survey(plain).slots == survey(permuted).slots


def test_empty_tensors_are_slots_without_elements():
    weight, bias = survey(_empty()).slots
    assert (weight.shape, weight.numel, weight.blocked, weight.fan_in) == ((3, 0), 0, None, 0)
    assert bias.numel == 3


def _empty():
    with pytest.warns(UserWarning, match="zero-element"):
        return nn.Linear(0, 3)


def test_a_module_without_tensors():
    assert survey(nn.ReLU()).slots == ()


# --- buffers -----------------------------------------------------------------


def test_buffers_are_slots_and_say_whether_they_persist():
    model = nn.Module()
    model.register_buffer("kept", torch.zeros(2, 2))
    model.register_buffer("lost", torch.zeros(2), persistent=False)
    model.register_buffer("none", None)
    slots = {slot.name: slot for slot in survey(model).slots}
    assert {name: (slot.kind, slot.persistent) for name, slot in slots.items()} == {
        "kept": ("buffer", True),
        "lost": ("buffer", False),
    }


def test_extra_state_is_named_but_no_slot():
    class Scaler(nn.Linear):
        def get_extra_state(self):
            raise AssertionError("may be costly, and is not asked for")

        def set_extra_state(self, state):
            pass

    seen = survey(nn.Sequential(Scaler(1, 1), nn.Linear(1, 1)))
    assert seen.extra == ("0._extra_state",)
    assert "0._extra_state" not in covered(seen)


# --- ties --------------------------------------------------------------------


def test_tied_parameters_are_one_slot_named_as_in_named_parameters():
    model = nn.ModuleDict({"words": nn.Embedding(4, 2), "head": nn.Linear(2, 4, bias=False)})
    model["head"].weight = model["words"].weight
    (slot,) = survey(model).slots
    assert (slot.name, slot.aliases) == ("words.weight", ("head.weight",))
    assert [slot.name] == [name for name, _ in model.named_parameters()]
    assert slot.alias_types == (("Linear", "Module"),)


def test_a_shared_module_gives_its_tensors_several_names():
    shared = nn.Linear(2, 2)
    weight, bias = survey(nn.Sequential(shared, nn.Sequential(shared))).slots
    assert (weight.name, weight.aliases) == ("0.weight", ("1.0.weight",))
    assert bias.aliases == ("1.0.bias",)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_two_parameters_on_the_same_memory_are_tied(device):
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)).to(device)
    model[1].weight = nn.Parameter(model[0].weight.data)
    seen = survey(model)
    assert [slot.aliases for slot in seen.slots] == [("1.weight",)]
    assert [id(tensor) for tensor in seen.places["0.weight"].held] == [id(model[0].weight), id(model[1].weight)]


def test_tied_buffers_are_one_slot():
    model = nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.BatchNorm1d(2, affine=False))
    model[1].running_mean = model[0].running_mean
    slots = {slot.name: slot for slot in survey(model).slots}
    assert slots["0.running_mean"].aliases == ("1.running_mean",)


def test_a_buffer_on_a_parameters_memory_is_an_alias_of_the_parameter():
    model = nn.Module()
    model.layer = nn.Linear(2, 2, bias=False)
    model.register_buffer("shown", model.layer.weight.data)
    (slot,) = survey(model).slots
    assert (slot.name, slot.kind, slot.aliases) == ("layer.weight", "parameter", ("shown",))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_views_that_share_a_part_are_refused_naming_both(device):
    model = nn.Module()
    whole = torch.zeros(6, 4, device=device)
    model.query, model.key, model.value = nn.Parameter(whole[:3]), nn.Parameter(whole[2:5]), nn.Parameter(whole[5:])
    slots = {slot.name: slot for slot in survey(model).slots}
    assert "'key'" in slots["query"].blocked
    assert "'query'" in slots["key"].blocked
    assert slots["value"].blocked is None


def test_views_side_by_side_are_no_matter():
    model, whole = nn.Module(), torch.zeros(6, 4)
    model.rows, model.left, model.right = (
        nn.Parameter(whole[:3]),
        nn.Parameter(whole[3:, :2]),
        nn.Parameter(whole[3:, 2:]),
    )
    assert [slot.blocked for slot in survey(model).slots] == [None, None, None]


VIEWS = {
    "transposed": lambda w: w.t(),
    "flat": lambda w: w.reshape(-1),
    "with one more dimension": lambda w: w.unsqueeze(1),
    "permuted": lambda w: w.view(2, 2, 3).permute(2, 0, 1),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_view_of_all_elements_is_a_tie(view, device):
    model = nn.Sequential(nn.Linear(3, 4, bias=False, device=device), nn.Linear(4, 3, bias=False))
    model[1].weight = nn.Parameter(VIEWS[view](model[0].weight.data))
    (slot,) = survey(model).slots
    assert (slot.name, slot.shape, slot.aliases, slot.views) == ("0.weight", (4, 3), ("1.weight",), ("1.weight",))
    assert slot.blocked is None
    assert slot.notes


def test_the_view_with_a_row_of_padding_speaks_for_the_tensor():
    model = nn.Sequential(nn.Linear(5, 3, bias=False), nn.Embedding(5, 3, padding_idx=1))
    model[1].weight = nn.Parameter(model[0].weight.data.t())
    (slot,) = survey(model).slots
    assert (slot.name, slot.shape, slot.padding_row) == ("1.weight", (5, 3), 1)


def test_a_view_of_part_of_the_elements_shares_memory():
    model = nn.Module()
    whole = torch.zeros(4, 6)
    model.left, model.wide = nn.Parameter(whole[:, :4]), nn.Parameter(whole[:, 3:].t())
    left, wide = survey(model).slots
    assert (left.shares, wide.shares) == (("wide",), ("left",))
    assert left.blocked
    assert wide.blocked


# --- a state_dict ------------------------------------------------------------


def test_a_state_dict_gives_names_shapes_and_fans():
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4))
    seen = survey(model.state_dict())
    assert seen.title == "state_dict"
    assert [slot.name for slot in seen.slots] == list(model.state_dict())
    weight, bias = seen.slots[:2]
    assert (weight.fan_in, weight.effective_fan_out, weight.layer) == (18, 36, None)
    assert (bias.fan_in, weight.requires_grad) == (18, True)
    assert [slot.kind for slot in seen.slots[4:]] == ["buffer"] * 3


def test_a_state_dict_keeps_the_ties_and_leads_to_the_models_memory():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    seen = survey(model.state_dict())
    assert [(slot.name, slot.aliases) for slot in seen.slots] == [("0.weight", ("1.weight",))]
    assert seen.places["0.weight"].direct.data_ptr() == model[0].weight.data_ptr()


def test_a_state_dict_with_things_that_are_no_tensors():
    entries = {"weight": torch.zeros(2, 2), "step": 3, "sizes": (1, 2), "scaler._extra_state": torch.zeros(2)}
    seen = survey(entries)
    assert [slot.name for slot in seen.slots] == ["weight"]
    assert seen.extra == ("step", "sizes", "scaler._extra_state")


def test_a_state_dict_of_live_parameters_knows_which_are_trained():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    assert [slot.requires_grad for slot in survey(model.state_dict(keep_vars=True)).slots] == [True, False]


def test_a_state_dicts_prefix_stays():
    assert survey(nn.DataParallel(nn.Linear(1, 1)).state_dict()).slots[0].name == "module.weight"


# --- any tree ----------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(trees())
def test_every_tensor_of_a_state_dict_is_covered_exactly_once(model):
    seen = survey(model)
    assert len(covered(seen)) == len(set(covered(seen)))
    assert set(model.state_dict()) <= set(covered(seen))
    assert seen.places.keys() == {slot.name for slot in seen.slots}


@settings(max_examples=100, deadline=None)
@given(trees())
def test_canonical_names_are_the_first_in_named_parameters(model):
    first = {id(tensor): name for name, tensor in model.named_parameters()}
    seen = survey(model)
    for slot in seen.slots:
        if slot.kind == "parameter" and slot.numel:
            assert first[id(seen.places[slot.name].direct)] == slot.name


@settings(max_examples=100, deadline=None)
@given(trees())
def test_a_survey_is_a_function_of_the_model(model):
    assert survey(model).slots == survey(model).slots


# --- other kinds of modules --------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_scripted_and_traced_modules_keep_their_names():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()
    for other in (torch.jit.script(model), torch.fx.symbolic_trace(model)):
        found = [(slot.name, slot.shape, slot.kind, slot.fan_in) for slot in survey(other).slots]
        assert found == [(slot.name, slot.shape, slot.kind, slot.fan_in) for slot in survey(model).slots]


def test_fake_tensors_are_read_like_meta_ones():
    with FakeTensorMode():
        model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
        model[1].weight = model[0].weight
    names = [(slot.name, slot.aliases, slot.blocked) for slot in survey(model).slots]
    assert names == [("0.weight", ("1.weight",), None), ("0.bias", (), None), ("1.bias", (), None)]


def test_integers_of_a_state_dict_are_buffers():
    entries = {"w": torch.zeros(2, 2), "relative_position_index": torch.zeros(3, dtype=torch.int64)}
    assert [slot.kind for slot in survey(entries).slots] == ["parameter", "buffer"]
