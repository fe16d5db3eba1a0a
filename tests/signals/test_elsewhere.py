"""Models whose values are elsewhere: offloaded by accelerate, or partitioned by DeepSpeed."""

import types

import pytest
import torch
from torch import nn

import initframe
from initframe.errors import InitframeError
from initframe.signal.calibrate import calibrate
from initframe.signal.compare import compare
from initframe.signal.predict import predict
from initframe.signal.propagate import propagate
from tests.refusals import refused

accelerate = pytest.importorskip("accelerate")

RULES = {"rules": {"*.weight": "kaiming_normal", "*.bias": "zeros"}}
NOTHING = {"rules": {}, "unmatched": "keep"}


def net():
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))


def numbers(signal):
    return [(r.name, r.call, r.op, r.shape, r.depth, r.weight, r.rms) for r in signal.rows]


OFFLOADS = {
    "to the CPU": lambda model, _: accelerate.cpu_offload(model),
    "to a disk": accelerate.disk_offload,
    "in part": lambda model, path: accelerate.dispatch_model(
        model, {"0": "cpu", "1": "cpu", "2": "disk"}, main_device="cpu", offload_dir=path, force_hooks=True
    ),
    "by a hook on the whole": lambda model, _: accelerate.cpu_offload_with_hook(model, execution_device="cpu")[0],
}


@pytest.mark.parametrize("how", OFFLOADS)
def test_an_offloaded_model_is_measured_and_predicted_as_before(how, tmp_path):
    model, batch = net(), torch.randn(4, 8)
    plan = initframe.resolve(RULES, model)
    initframe.apply(plan, 0)
    measured, predicted = propagate(model, batch), predict(plan, batch)
    model = OFFLOADS[how](model, tmp_path)
    output, forward = model(batch), vars(model[0]).get("forward")
    assert numbers(propagate(model, batch)) == numbers(measured)
    assert numbers(predict(plan, batch)) == numbers(predicted)
    assert vars(model[0]).get("forward") is forward
    assert torch.equal(model(batch), output)


def test_kept_values_that_are_elsewhere_are_refused():
    model = accelerate.cpu_offload(net())
    plan = initframe.resolve(NOTHING, model)
    for call in (
        lambda: predict(plan, torch.randn(4, 8)),
        lambda: calibrate(model, NOTHING, torch.randn(4, 8), method="predict"),
    ):
        (problem,) = refused(call)
        assert "0.weight" in problem.subject
        assert "propagate" in problem.fix


def test_a_part_whose_tensors_one_hook_places_is_refused():
    """accelerate's hook on a whole part brings all tensors inside of it."""
    model = nn.Sequential(nn.Sequential(nn.Linear(8, 8)), nn.Linear(8, 8))
    hook = accelerate.hooks.AlignDevicesHook(offload=True, execution_device="cpu", place_submodules=True)
    accelerate.hooks.add_hook_to_module(model[0], hook)
    (problem,) = refused(predict, initframe.resolve(NOTHING, model), torch.randn(4, 8))
    assert "'0.0.weight' and 1 more" in problem.subject


@pytest.fixture
def partitioned():
    """A model as DeepSpeed leaves it: placeholders without elements."""
    model = net()
    plan = initframe.resolve(RULES, model)
    for parameter in model.parameters():
        parameter.ds_status = types.SimpleNamespace(name="NOT_AVAILABLE")
        parameter.ds_shape, parameter.data = parameter.shape, torch.empty(0)
    return model, plan


def test_partitioned_parameters_are_refused_in_words(partitioned):
    model, plan = partitioned
    batch = torch.randn(4, 8)
    calls = {
        "propagate": lambda: propagate(model, batch),
        "predict": lambda: predict(plan, batch),
        "calibrate": lambda: calibrate(model, NOTHING, batch),
        "calibrate, predicted": lambda: calibrate(model, NOTHING, batch, method="predict"),
        "compare": lambda: compare(lambda: model, [NOTHING], batch),
    }
    for name, call in calls.items():
        (problem,) = refused(call)
        assert "0.weight" in problem.subject, name
        assert "DeepSpeed" in problem.fact, name


def test_what_deepspeed_gathers_is_run(partitioned):
    """Its hooks are told by their module; what fails then is the model's own affair."""
    model, _ = partitioned

    def gather(*_):
        raise RuntimeError("gathered")

    gather.__module__ = "deepspeed.runtime.zero"
    model[0].register_forward_pre_hook(gather)
    (problem,) = refused(propagate, model, torch.randn(4, 8))
    assert "gathered" in problem.fact


def test_a_model_that_cannot_be_built_without_memory_is_compared_by_measuring():
    def build():
        return accelerate.cpu_offload(net())

    (problem,) = refused(compare, build, [RULES], torch.randn(4, 8), predicted=True)
    assert problem.subject == "build"
    with pytest.raises(InitframeError):
        compare(build, [RULES], torch.randn(4, 8))
