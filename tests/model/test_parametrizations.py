"""Computed tensors: logical names, the way in, and nothing changed on the way."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations as torch_parametrizations
from torch.nn.utils import parametrize, prune
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm

from initframe.model.survey import survey


def old_weight_norm(layer, name="weight", dim=0):
    with pytest.warns(FutureWarning, match="deprecated"):
        WeightNorm.apply(layer, name, dim)
    return layer


class Symmetric(nn.Module):
    """A square matrix from its upper triangle."""

    def forward(self, matrix):
        return matrix.triu() + matrix.triu(1).mT

    def right_inverse(self, matrix):
        return matrix.triu()


class OneWay(nn.Module):
    """No way back."""

    def forward(self, matrix):
        return matrix.exp()


class Broken(Symmetric):
    """A way back that fails after the registration."""

    def right_inverse(self, matrix):
        if hasattr(self, "used"):
            raise RuntimeError("too late")
        self.used = True
        return matrix


class Adapted(nn.Module):
    """A low-rank update with parameters of its own, as LoRA registers it."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Parameter(torch.zeros(4, 1)), nn.Parameter(torch.ones(1, 4))

    def forward(self, matrix):
        return matrix + self.up @ self.down

    def right_inverse(self, matrix):
        return matrix - self.up @ self.down


def custom(step, **kwargs):
    return lambda layer: parametrize.register_parametrization(layer, "weight", step(), **kwargs)


EXACT = {
    "weight_norm": torch_parametrizations.weight_norm,
    "weight_norm over all": lambda layer: torch_parametrizations.weight_norm(layer, dim=None),
    "old weight_norm": old_weight_norm,
    "low rank": custom(Adapted),
}
RESCALING = {
    "spectral_norm": torch_parametrizations.spectral_norm,
    "old spectral_norm": old_spectral_norm,
}
PROJECTING = {
    "orthogonal": torch_parametrizations.orthogonal,
    "cayley": lambda layer: torch_parametrizations.orthogonal(layer, orthogonal_map="cayley"),
    "householder": lambda layer: torch_parametrizations.orthogonal(layer, orthogonal_map="householder"),
}
ALL = {**EXACT, **RESCALING, **PROJECTING, "symmetric": custom(Symmetric)}


def layer_of(make, shape=(4, 4)):
    torch.manual_seed(0)
    return make(nn.Linear(shape[1], shape[0]))


def value_of(slot):
    return torch.randn(slot.shape, generator=torch.Generator().manual_seed(1))


def put(place, value):
    """Write as apply does."""
    with torch.no_grad():
        for original, new in place.copies(value):
            original.copy_(new)


def state(layer):
    return {name: tensor.clone() for name, tensor in layer.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def weight_of(seen):
    return next(slot for slot in seen.slots if slot.name == "weight")


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_the_slot_bears_the_logical_name(make):
    layer = layer_of(make)
    seen = survey(layer)
    slot = weight_of(seen)
    assert (slot.shape, slot.dtype, slot.kind) == ((4, 4), torch.float32, "parameter")
    assert (slot.layer, slot.fan_in, slot.blocked) == ("Linear", 4, None)
    assert slot.notes
    assert seen.places["weight"].direct is None
    assert {raw.part_of for raw in seen.raw} == {"weight"}


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_every_tensor_of_the_state_dict_is_a_slot_or_an_original(make):
    layer = layer_of(make)
    seen = survey(layer)
    known = [slot.name for slot in (*seen.slots, *seen.raw) if slot.name != "weight"]
    assert sorted(known) == sorted(layer.state_dict())


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_reading_and_trying_change_nothing(make):
    layer = layer_of(make)
    before, generator = state(layer), torch.get_rng_state()
    place = survey(layer).places["weight"]
    place.tensor()
    assert place.check(torch.eye(4)) is None
    place.copies(torch.eye(4))
    assert same(state(layer), before)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(module.training for module in layer.modules())


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_a_write_keeps_the_tensor_objects(make):
    layer = layer_of(make)
    before = {name: id(tensor) for name, tensor in layer.named_parameters()}
    seen = survey(layer)
    put(seen.places["weight"], value_of(weight_of(seen)))
    assert {name: id(tensor) for name, tensor in layer.named_parameters()} == before
    touched = {id(tensor) for tensor in seen.places["weight"].held}
    assert touched == {id(layer.get_parameter(raw.name)) for raw in seen.raw if raw.kind == "parameter"}


@pytest.mark.parametrize("make", EXACT.values(), ids=EXACT)
@pytest.mark.parametrize("training", [True, False])
def test_what_is_filled_comes_back(make, training):
    layer = layer_of(make).train(training)
    seen = survey(layer)
    value = value_of(weight_of(seen))
    put(seen.places["weight"], value)
    torch.testing.assert_close(layer.weight.detach(), value)
    torch.testing.assert_close(seen.places["weight"].tensor(), value)
    inputs = torch.eye(4)
    torch.testing.assert_close(layer(inputs).detach() - layer.bias.detach(), value.T)


@pytest.mark.parametrize("make", RESCALING.values(), ids=RESCALING)
@pytest.mark.parametrize("training", [True, False])
def test_a_spectral_norm_keeps_the_direction_and_is_one(make, training):
    layer = layer_of(make, (64, 48)).train(training)
    seen = survey(layer)
    value = value_of(weight_of(seen))
    put(seen.places["weight"], 10 * value)
    layer(torch.zeros(1, 48))
    weight = layer.weight.detach()
    scale = (weight * value).sum() / (value * value).sum()
    torch.testing.assert_close(weight, scale * value)
    # fifteen power steps come within a few percent of the largest singular value; the old vectors would be far off
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=0.1)
    assert "scale" in weight_of(seen).notes[0]


@pytest.mark.parametrize("make", PROJECTING.values(), ids=PROJECTING)
@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6)])
def test_an_orthogonal_value_is_kept(make, shape):
    layer = layer_of(make, shape)
    tall = torch.linalg.qr(torch.randn(max(shape), min(shape), generator=torch.Generator().manual_seed(1))).Q
    value = tall if tall.shape == shape else tall.T
    put(survey(layer).places["weight"], value)
    torch.testing.assert_close(layer.weight.detach(), value, atol=1e-5, rtol=0)


def test_several_steps_are_walked_back_in_order():
    layer = layer_of(custom(Adapted))
    parametrize.register_parametrization(layer, "weight", Symmetric())
    value = torch.ones(4, 4) + torch.eye(4)
    put(survey(layer).places["weight"], value)
    torch.testing.assert_close(layer.weight.detach(), value)
    assert len(survey(layer).slots[1].notes) == 2


def test_the_parameters_of_a_parametrization_are_slots_of_their_own():
    seen = survey(layer_of(custom(Adapted)))
    names = {slot.name for slot in seen.slots}
    assert {"parametrizations.weight.0.up", "parametrizations.weight.0.down"} <= names


def test_without_a_way_back_the_slot_is_blocked_and_the_original_is_not():
    seen = survey(layer_of(custom(OneWay)))
    assert "OneWay, which has no right_inverse" in weight_of(seen).blocked
    assert "parametrizations.weight.original" in weight_of(seen).remedy
    (raw,) = seen.raw
    assert (raw.name, raw.blocked) == ("parametrizations.weight.original", None)
    assert seen.places[raw.name].direct is not None


def test_a_way_back_that_fails_is_found_before_the_first_write():
    layer = layer_of(custom(Broken))
    assert "too late" in survey(layer).places["weight"].check(torch.eye(4)).fact


def test_a_way_back_that_changes_the_shape_is_found():
    class Narrow(nn.Module):
        def forward(self, matrix):
            return matrix.expand(4, 4)

        def right_inverse(self, matrix):
            return matrix[:2] if hasattr(self, "registered") else matrix[:1]

    layer = layer_of(custom(Narrow, unsafe=True))
    slot = weight_of(survey(layer))
    assert (slot.shape, slot.fan_in) == ((4, 4), 4)
    layer.parametrizations.weight[0].registered = True
    assert "shape (2, 4)" in survey(layer).places["weight"].check(torch.eye(4)).fact


@pytest.mark.parametrize(
    "make",
    [torch_parametrizations.weight_norm, old_weight_norm, *RESCALING.values()],
    ids=["weight_norm", "old weight_norm", *RESCALING],
)
def test_a_value_without_direction_is_found(make):
    assert "nan or inf" in survey(layer_of(make)).places["weight"].check(torch.zeros(4, 4)).fact


@pytest.mark.parametrize("make", [make for name, make in ALL.items() if name != "old weight_norm"])
def test_on_the_meta_device_names_and_shapes_are_known(make):
    layer = make(nn.Linear(4, 4)).to("meta")
    seen = survey(layer)
    assert weight_of(seen).shape == (4, 4)
    assert seen.places["weight"].check(torch.eye(4)) is None


def test_pruning_shows_the_logical_name_and_keeps_its_mask():
    layer = prune.random_unstructured(nn.Linear(4, 4), "weight", amount=0.5)
    seen = survey(layer)
    slot = weight_of(seen)
    assert "mask" in slot.notes[0]
    value = value_of(slot)
    put(seen.places["weight"], value)
    assert torch.equal(layer.weight_orig.detach(), value)
    assert torch.equal(layer.weight.detach(), value * layer.weight_mask)
    assert torch.equal(seen.places["weight"].tensor(), layer.weight.detach())


def test_the_old_weight_norm_of_a_recurrent_layer():
    layer = old_weight_norm(nn.LSTM(3, 2), "weight_hh_l0")
    seen = survey(layer)
    slot = next(slot for slot in seen.slots if slot.name == "weight_hh_l0")
    bias = next(slot for slot in seen.slots if slot.name == "bias_hh_l0")
    assert (slot.fan_in, slot.effective_fan_out, bias.fan_in) == (2, 2, 2)
    put(seen.places[slot.name], value_of(slot))
    torch.testing.assert_close(layer.weight_hh_l0.detach(), value_of(slot))


def test_a_convolution_keeps_its_meaning_under_a_parametrization():
    layer = torch_parametrizations.weight_norm(nn.ConvTranspose2d(4, 6, 2, stride=2))
    slot = weight_of(survey(layer))
    assert (slot.module_types[0], slot.effective_fan_in) == ("ConvTranspose2d", 4)
    assert survey(layer).title == "ConvTranspose2d"


def test_a_frozen_original_freezes_the_slot():
    layer = torch_parametrizations.weight_norm(nn.Linear(2, 2)).requires_grad_(False)
    assert not weight_of(survey(layer)).requires_grad


def test_a_parametrized_buffer_is_a_buffer():
    model = nn.Module()
    model.register_buffer("table", torch.eye(4))
    parametrize.register_parametrization(model, "table", Symmetric())
    assert [slot.kind for slot in survey(model).slots] == ["buffer"]


def test_a_shared_parametrized_module_is_one_slot():
    shared = torch_parametrizations.weight_norm(nn.Linear(2, 2))
    slots = {slot.name: slot for slot in survey(nn.Sequential(shared, shared)).slots}
    assert slots["0.weight"].aliases == ("1.weight",)
    assert "1.weight" not in slots


@pytest.mark.parametrize("make", [torch_parametrizations.weight_norm, torch_parametrizations.spectral_norm])
def test_an_original_that_is_also_somebody_elses_weight_is_refused(make):
    model = nn.ModuleDict({"words": nn.Embedding(3, 3), "head": nn.Linear(3, 3, bias=False)})
    model["head"].weight = model["words"].weight
    make(model["head"])
    slots = {slot.name: slot for slot in survey(model).slots}
    assert "'head.weight'" in slots["words.weight"].blocked
    assert "'words.weight'" in slots["head.weight"].blocked


def test_a_copied_model_is_filled_alike():
    layer = layer_of(torch_parametrizations.orthogonal, (6, 3))
    twin = copy.deepcopy(layer)
    value = torch.randn(6, 3, generator=torch.Generator().manual_seed(2))
    for one in (layer, twin):
        put(survey(one).places["weight"], value)
        torch.rand(5)
    assert same(state(layer), state(twin))


@pytest.mark.parametrize("make", [make for name, make in ALL.items() if name != "low rank"])
def test_what_only_serves_a_computation_is_part_of_it(make):
    seen = survey(layer_of(make))
    assert {slot.name for slot in seen.slots} == {"weight", "bias"}


def test_a_mask_is_part_of_what_it_prunes():
    seen = survey(prune.identity(nn.Linear(4, 4), "weight"))
    assert {slot.name: slot.part_of for slot in seen.raw} == {"weight_orig": "weight", "weight_mask": "weight"}


def pruned_direction(layer):
    return prune.identity(old_weight_norm(layer), "weight_v")


def pruned_original(layer):
    prune.identity(torch_parametrizations.weight_norm(layer).parametrizations.weight, "original1")
    return layer


def normed_original(layer):
    return torch_parametrizations.spectral_norm(prune.identity(layer, "weight"), "weight_orig")


@pytest.mark.parametrize("stack", [pruned_direction, pruned_original, normed_original])
def test_what_is_computed_from_something_computed_is_refused_and_left_alone(stack):
    layer = layer_of(stack)
    before = state(layer)
    assert "cannot be inverted" in weight_of(survey(layer)).blocked
    assert same(state(layer), before)


def test_a_hook_that_was_left_behind_computes_nothing():
    layer = prune.identity(nn.Linear(4, 4), "weight")
    (hook,) = layer._forward_pre_hooks.items()
    prune.remove(layer, "weight")
    layer._forward_pre_hooks[hook[0]] = hook[1]
    seen = survey(layer)
    assert (weight_of(seen).blocked, seen.raw) == (None, ())


def test_a_parametrization_that_fails_blocks_its_tensor_only():
    class NotReady(nn.Module):
        def forward(self, matrix):
            if hasattr(self, "asked"):
                raise RuntimeError("call prepare() first")
            return matrix

    layer = layer_of(custom(NotReady))
    layer.parametrizations.weight[0].asked = True
    slots = {slot.name: slot for slot in survey(layer).slots}
    assert "NotReady, which fails with RuntimeError: call prepare() first" in slots["weight"].blocked
    assert slots["bias"].blocked is None


@pytest.mark.parametrize("value", [torch.zeros(4, 4), torch.ones(4, 4)], ids=["zeros", "ones"])
@pytest.mark.parametrize("orthogonal_map", ["matrix_exp", "cayley", "householder"])
def test_orthogonal_takes_no_matrix_without_an_orthogonal_factor(value, orthogonal_map):
    layer = torch_parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map=orthogonal_map)
    place = survey(layer).places["weight"]
    with torch.no_grad():
        before = layer.weight.clone()
    if place.check(value) is None:  # some maps make an orthogonal matrix of any
        put(place, value)
        torch.testing.assert_close((layer.weight @ layer.weight.T).detach(), torch.eye(4), atol=1e-5, rtol=0)
    else:
        assert "full rank" in place.check(value).fact
        torch.testing.assert_close(layer.weight.detach(), before)


def test_one_original_under_two_parametrizations_is_no_tie():
    one, other = custom(Adapted)(nn.Linear(4, 4)), custom(Symmetric)(nn.Linear(4, 4))
    other.parametrizations.weight.original = one.parametrizations.weight.original
    slots = {slot.name: slot for slot in survey(nn.ModuleDict({"a": one, "b": other})).slots}
    assert slots["a.weight"].aliases == ()
    assert "'b.weight'" in slots["a.weight"].blocked
    assert "'a.weight'" in slots["b.weight"].blocked


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_only_a_weight_norm_is_known_to_give_back_what_is_filled(make):
    assert weight_of(survey(layer_of(make))).exact == (make in list(EXACT.values())[:3])


def test_a_step_that_has_a_module_twice_is_as_before():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = self.again = nn.Linear(4, 4, bias=False)

        def forward(self, matrix):
            return self.again(self.mix(matrix))

    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "weight", Mixed(), unsafe=True)
    before = {name: id(tensor) for name, tensor in layer.named_parameters(remove_duplicate=False)}
    survey(layer)
    assert {name: id(tensor) for name, tensor in layer.named_parameters(remove_duplicate=False)} == before
