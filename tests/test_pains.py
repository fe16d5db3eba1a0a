"""What hurts people who initialize models by hand, one case each: what happens here instead."""

import copy

import pytest
import torch
from nets import Net, bits, changed, rules, same_bits
from refusals import refused
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils import parametrizations
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm
from torch.optim.swa_utils import AveragedModel

import initframe
from initframe.errors import ResolveError

XAVIER = rules({"weights": {"match": "*.weight", "where": "ndim > 1", "init": "xavier_uniform"}})


def unwritten(recipe, model):
    """The texts of the problems for which a model is refused; nothing is written."""
    before = bits(model)
    problems = refused(initframe.reinit, model, recipe, seed=0)
    assert changed(model, before) == set()
    return [str(problem) for problem in problems]


# --- names -----------------------------------------------------------------------------------------------------------


def test_a_pattern_that_matches_nothing_is_an_error_with_the_closest_names():
    [text] = unwritten(rules({"feature.*.weight": "zeros"}), nn.ModuleDict({"features": nn.Linear(2, 2)}))
    assert "feature.*.weight" in text
    assert "features.weight" in text


def test_so_is_an_exclude_that_takes_nothing_away():
    [text] = unwritten(rules(w={"match": "*.weight", "exclude": "fc3.*", "init": "ones"}), Net())
    assert "fc3.*" in text
    assert "fc1." in text


def test_what_no_rule_matches_is_listed():
    report = initframe.reinit(Net(), rules({"fc1.*": "zeros"}))
    assert report.plan.untouched == ("fc2.weight", "fc2.bias")
    assert "fc2.weight, fc2.bias" in str(report)


STACKS = {
    "compiled": [torch.compile],
    "parallel": [DataParallel],
    "averaged": [AveragedModel],
    "checkpointed": [checkpoint_wrapper],
    "distributed": [DistributedDataParallel],
    "compiled, then distributed": [torch.compile, DistributedDataParallel],
    "all of them": [checkpoint_wrapper, DataParallel, AveragedModel, torch.compile, DistributedDataParallel],
}


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_wrappers_change_no_name_and_no_number(stack):
    bare, wrapped = Net(), Net()
    for wrapper in stack:
        wrapped = wrapper(wrapped)
    expected = initframe.reinit(bare, XAVIER, seed=3, measure=True)
    report = initframe.reinit(wrapped, XAVIER, seed=3, measure=True)
    assert [(r.name, r.digest) for r in report.results] == [(r.name, r.digest) for r in expected.results]
    inputs = torch.ones(1, 784)
    weights = [p for p in wrapped.parameters() if p.ndim > 1]
    assert all(same_bits(*pair) for pair in zip(weights, (bare.fc1.weight, bare.fc2.weight), strict=True))
    assert bare(inputs).shape == (1, 10)


# --- writing ---------------------------------------------------------------------------------------------------------


def test_tensors_are_written_in_place():
    model = Net()
    model.fc2.requires_grad_(False)
    before = {n: (id(p), p.data_ptr(), p.requires_grad, p.detach().clone()) for n, p in model.named_parameters()}
    initframe.reinit(model, rules({"*": "normal"}), seed=0)
    for name, parameter in model.named_parameters():
        identity, address, trained, values = before[name]
        assert (id(parameter), parameter.data_ptr(), parameter.requires_grad) == (identity, address, trained)
        assert not torch.equal(parameter, values)


def test_a_state_dict_is_the_model():
    model = Net()
    initframe.reinit(model.state_dict(), rules({"fc1.bias": "ones"}))
    assert (model.fc1.bias == 1).all()


def test_what_cannot_be_written_is_found_before_the_first_write():
    [text] = unwritten(rules({"*": "xavier_uniform"}), Net())
    for needed in ("rule '*'", "fc1.bias", "fc2.bias", "where: ndim > 1"):
        assert needed in text


def test_frozen_tensors_are_initialized_and_marked():
    model = Net().requires_grad_(False)
    report = initframe.reinit(model, rules({"*.bias": "ones"}))
    assert (model.fc1.bias == 1).all()
    assert [a.slot.requires_grad for a in report.plan.assignments] == [False, False]
    for text in (str(report), report.plan.explain("fc1.bias")):
        assert "frozen" in text.lower()


# --- computed tensors ------------------------------------------------------------------------------------------------


def old_weight_norm(layer):
    with pytest.warns(FutureWarning, match="deprecated"):
        WeightNorm.apply(layer, "weight", 0)
    return layer


@pytest.mark.parametrize("normed", [parametrizations.weight_norm, old_weight_norm])
def test_a_weight_norm_takes_the_fill(normed):
    plain, layer = nn.Linear(6, 4), normed(nn.Linear(6, 4))
    recipe = rules(weight="kaiming_normal")
    initframe.reinit(plain, recipe, seed=0)
    initframe.reinit(layer, recipe, seed=0)
    layer(torch.zeros(1, 6))  # the older hook computes the weight on the way forward
    torch.testing.assert_close(layer.weight, plain.weight)


@pytest.mark.parametrize("normed", [parametrizations.spectral_norm, old_spectral_norm])
def test_a_spectral_norm_takes_the_direction_and_the_plan_says_so(normed):
    layer = normed(nn.Linear(6, 4))
    plan = initframe.resolve(rules(weight={"init": "normal", "std": 100}), layer)
    [note] = plan["weight"].slot.notes
    assert "spectral_norm" in note
    for text in (plan.explain("weight"), str(plan)):
        assert note in " ".join(text.split())
    initframe.apply(plan, seed=0)
    layer(torch.zeros(1, 6))
    assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=0.05)


# --- tied tensors, rows and buffers ----------------------------------------------------------------------------------


def tied():
    model = nn.ModuleDict({"words": nn.Embedding(7, 3), "head": nn.Linear(3, 7, bias=False)})
    model["head"].weight = model["words"].weight
    return model


def test_a_tied_tensor_is_written_once_by_any_of_its_names():
    models = [tied(), tied()]
    for model, name in zip(models, ("words.weight", "head.weight"), strict=True):
        report = initframe.reinit(model, rules({name: "normal"}), seed=0)
        assert [r.name for r in report.results] == ["words.weight"]
    assert same_bits(models[0]["head"].weight, models[1]["head"].weight)


def test_two_rules_for_one_tied_tensor_must_agree():
    [text] = unwritten(rules({"words.weight": "normal", "head.weight": "zeros"}), tied())
    for needed in ("tied", "rule 'words.weight'", "rule 'head.weight'"):
        assert needed in text


def test_tensors_that_share_a_part_of_their_memory_are_refused():
    model, whole = nn.Module(), torch.zeros(6)
    model.left, model.right = nn.Parameter(whole[:4]), nn.Parameter(whole[2:])
    texts = unwritten(rules({"*": "normal"}), model)
    assert len(texts) == 2
    assert all("left" in text and "right" in text for text in texts)


@pytest.mark.parametrize("layer", [nn.Embedding(5, 3, padding_idx=2), nn.EmbeddingBag(5, 3, padding_idx=2)])
def test_the_padding_row_stays_zero(layer):
    initframe.reinit(layer, rules(weight="normal"), seed=0)
    assert [bool(row.any()) for row in layer.weight] == [True, True, False, True, True]


def test_buffers_are_filled_where_a_rule_asks():
    model = nn.BatchNorm1d(3)
    initframe.reinit(model, rules({"running_*": {"init": "constant", "val": 7, "kind": "buffer"}}))
    assert (model.running_mean == 7).all()
    before = bits(model)
    initframe.reinit(model, rules({"*": "ones"}))
    assert changed(model, before) <= {"weight", "bias"}


def test_integer_buffers_are_never_filled_but_one_rule_resets_a_batch_norm():
    model = nn.BatchNorm1d(3)
    model(torch.randn(4, 3))
    report = initframe.reinit(model, rules({"*": {"init": "ones", "kind": "any"}}))
    assert model.num_batches_tracked == 1
    assert set(report.plan.skipped) == {"num_batches_tracked"}
    initframe.reinit(model, rules({"*": {"init": "torch_default", "kind": "any"}}))
    assert changed(model, bits(nn.BatchNorm1d(3))) == set()


def test_extra_state_is_no_tensor():
    class Scaler(nn.Linear):
        def get_extra_state(self):
            return {"scale": 2}

        def set_extra_state(self, state):
            pass

    plan = initframe.resolve(rules({"*": {"init": "ones", "kind": "any"}}), Scaler(2, 2))
    assert [a.slot.name for a in plan.assignments] == ["weight", "bias"]


# --- fans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "fan", "told"),
    [
        (nn.Conv2d(8, 8, 3, groups=8), 9, ["fan_out 72", "effective 9"]),
        (nn.ConvTranspose2d(8, 4, 4, stride=2), 32, ["fan_in 64", "effective 32", "fan_out 128", "effective 64"]),
    ],
)
def test_where_the_fans_of_torch_are_not_the_layers_the_plan_says_so(layer, fan, told):
    mode = "fan_out" if isinstance(layer, nn.Conv2d) else "fan_in"
    rule = {"init": "kaiming_normal", "mode": mode, "nonlinearity": "linear"}
    by_torch = initframe.resolve(rules(weight=rule), layer)
    assert all(count in str(by_torch) for count in told)
    torch.manual_seed(0)
    expected = nn.init.kaiming_normal_(torch.empty_like(layer.weight), mode=mode, nonlinearity="linear").std()
    assert by_torch["weight"].fill.std == pytest.approx(expected.item(), rel=0.1)
    effective = initframe.resolve(rules(weight=rule, fans="effective"), layer)
    assert effective["weight"].fill.std == pytest.approx(fan**-0.5)


def test_fused_projections_are_split():
    attention = nn.MultiheadAttention(12, 2)
    rule = {"init": "xavier_normal", "split": 3}
    plan = initframe.resolve(rules(in_proj_weight=rule), attention)
    assert plan["in_proj_weight"].fill.std == pytest.approx((2 / (12 + 12)) ** 0.5)
    assert (plan["in_proj_weight"].slot.fan_out, plan["in_proj_weight"].slot.effective_fan_out) == (36, 12)
    assert "effective 12" in str(plan)


def test_a_transposed_linear_is_read_as_the_layer_reads_it():
    layer = pytest.importorskip("transformers.pytorch_utils").Conv1D(24, 8)  # 8 inputs, 24 outputs, weight (8, 24)
    rule = {"init": "kaiming_normal", "nonlinearity": "linear"}
    plan = initframe.resolve(rules(weight=rule, fans="effective"), layer)
    assert plan["weight"].fill.std == pytest.approx(8**-0.5)
    split = initframe.resolve(rules(weight={"init": "constant", "val": [1, 2, 3], "split": 3}), layer)
    initframe.apply(split)
    assert layer.weight[0].tolist() == [1.0] * 8 + [2.0] * 8 + [3.0] * 8


# --- laws and dtypes -------------------------------------------------------------------------------------------------


def test_absolute_bounds_are_told_by_what_they_leave_of_the_std():
    cut = initframe.resolve(rules(weight={"init": "trunc_normal", "std": 10}), nn.Linear(4, 4))
    assert cut["weight"].asked_std == 10
    assert cut["weight"].fill.std == pytest.approx(1.15, abs=0.01)
    assert cut["weight"].std_difference in str(cut)
    assert all(number in cut["weight"].std_difference for number in ("10", "1.152", "×0.115"))
    rule = {"init": "trunc_normal", "std": 0.02, "a": "-2 * std", "b": "2 * std"}
    in_sigmas = initframe.resolve(rules(weight=rule), nn.Linear(4, 4))
    assert in_sigmas["weight"].fill.std == pytest.approx(0.02 * 0.8796, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("init", ["orthogonal", "normal", "xavier_uniform"])
def test_narrow_and_wide_dtypes_hold_the_values_of_float32(init, dtype):
    model, wide = nn.Linear(6, 6, dtype=dtype), nn.Linear(6, 6)
    for one in (model, wide):
        initframe.reinit(one, rules(weight=init), seed=0)
    torch.testing.assert_close(model.weight.float(), wide.weight, atol=0.01, rtol=0.01)


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.zeros(2, 2, dtype=torch.float8_e4m3fn), "float8_e4m3fn"),
        (torch.zeros(2, 2, dtype=torch.complex64), "complex64"),
        (torch.zeros(2, 2, dtype=torch.int8), "int8"),
        (torch.zeros(1, 2).expand(3, 2), "expanded"),
    ],
)
def test_what_no_law_is_for_is_refused_by_name(tensor, reason):
    model = nn.Module()
    model.weight = nn.Parameter(tensor, requires_grad=False)
    [text] = unwritten(rules(weight="normal"), model)
    assert reason in text
    assert initframe.resolve(rules(weight="keep"), model)["weight"].slot.blocked


def test_inference_tensors_are_refused():
    with torch.inference_mode():
        model = nn.Linear(2, 2)
    [text] = unwritten(rules(weight="normal"), model)
    assert "inference mode" in text


def test_inside_inference_mode_its_tensors_are_filled():
    bare = nn.Linear(2, 2)
    initframe.reinit(bare, rules(weight="orthogonal", bias="normal"), seed=0)
    with torch.inference_mode():
        model = nn.Linear(2, 2)
        plan = initframe.resolve(rules(weight="orthogonal", bias="normal"), model)
        initframe.apply(plan, seed=0)
        assert torch.equal(model.weight, bare.weight)
        assert torch.equal(model.bias, bare.bias)
    for problem in refused(initframe.apply, plan, seed=0):
        assert "inference mode" in str(problem)


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_a_quantized_state_dict_is_refused():
    import torch.ao.nn.quantized as quantized_nn

    state = nn.Sequential(quantized_nn.Conv2d(2, 2, 1)).state_dict()
    [problem] = refused(initframe.reinit, state, rules({"*.weight": "normal"}), kind=ResolveError)
    assert "quantized" in str(problem)


def test_empty_tensors_are_skipped_and_told():
    report = initframe.reinit({"full": torch.zeros(2), "empty": torch.zeros(0, 2)}, rules({"*": "ones"}))
    assert set(report.plan.skipped) == {"empty"}
    assert f"empty: {report.plan.skipped['empty']}" in str(report)


def test_lazy_tensors_are_refused_until_their_shapes_are_known():
    model = nn.Sequential(nn.LazyLinear(3), nn.ReLU(), nn.LazyLinear(2))
    for problem in refused(initframe.resolve, rules({"*.weight": "normal"}), model, kind=ResolveError):
        assert "lazy" in str(problem)
    model(torch.zeros(1, 4))
    initframe.reinit(model, rules({"*.weight": "ones"}))
    assert (model[0].weight == 1).all()


def test_layout_does_not_matter():
    plain = nn.Conv2d(3, 4, 3)
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    strided = copy.deepcopy(plain)
    strided.weight = nn.Parameter(torch.empty(4, 6, 3, 3)[:, ::2])
    for model in (plain, last, strided):
        initframe.reinit(model, rules(weight="normal"), seed=0)
    assert not last.weight.is_contiguous()
    assert torch.equal(plain.weight, last.weight)
    assert torch.equal(plain.weight, strided.weight)


# --- afterwards ------------------------------------------------------------------------------------------------------


def test_an_optimizer_forgets_what_was_written_when_told():
    model = Net()
    adam = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 784)).sum().backward()
    adam.step()
    initframe.reinit(model, rules({"fc2.*": "normal"}), seed=0, optimizer=adam)
    assert set(adam.state) == {model.fc1.weight, model.fc1.bias}


def test_averages_that_went_stale_are_named():
    model = nn.ModuleDict({"net": Net()})
    model["average"] = AveragedModel(model["net"])
    report = initframe.reinit(model, rules({"net.*": "normal"}), seed=0)
    assert report.stale == ("average",)


def test_a_recipe_runs_nothing(tmp_path):
    marker = tmp_path / "ran"
    hostile = {"init": {"_target_": "pathlib.Path.touch", "_args_": [str(marker)]}}
    assert "_target_" in unwritten(rules(weight=hostile), nn.Linear(2, 2))[0]
    assert not marker.exists()
