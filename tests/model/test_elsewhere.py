"""Tensors whose values are not in the model are refused by name, with what to do about it."""

from enum import Enum

import pytest
import torch
from nets import bits, changed, rules
from refusals import refused
from torch import nn

import initframe
from initframe.model.survey import survey

FILL = rules({"*.weight": "ones", "*.bias": "zeros"})
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")


def net():
    return nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))


def cpu_offload(model, _):
    pytest.importorskip("accelerate").cpu_offload(model, execution_device=torch.device("cpu"))


def cpu_offload_with_buffers(model, _):
    accelerate = pytest.importorskip("accelerate")
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"), offload_buffers=True)


def disk_offload(model, folder):
    pytest.importorskip("accelerate").disk_offload(model, str(folder), execution_device=torch.device("cpu"))


def one_hook_for_all(model, _):
    accelerate = pytest.importorskip("accelerate")
    cpu = torch.device("cpu")
    accelerate.cpu_offload(model, execution_device=cpu, preload_module_classes=["Sequential"])


def dispatched(model, folder):
    accelerate = pytest.importorskip("accelerate")
    accelerate.dispatch_model(
        model, {"0": "cpu", "1": "disk"}, main_device="cpu", offload_dir=str(folder), force_hooks=True
    )


WAYS = [cpu_offload, cpu_offload_with_buffers, disk_offload, one_hook_for_all, dispatched]


@pytest.mark.parametrize("offload", WAYS)
def test_offloaded_tensors_are_refused_by_name_and_forward_computes_what_it_did(offload, tmp_path):
    from accelerate.hooks import remove_hook_from_module

    model, x = net().eval(), torch.ones(1, 2)
    plan, expected = initframe.resolve(FILL, model), model(x)
    offload(model, tmp_path)
    away = {name for name, p in model.named_parameters() if p.is_meta}
    assert away
    for call in (initframe.reinit, initframe.materialize):
        problems = refused(call, model, FILL)
        assert all(any(name in p.subject for p in problems) for name in sorted(away)[:1])
        assert all("accelerate" in p.fact + p.fix for p in problems)
    assert {p.subject for p in refused(initframe.apply, plan, module=model)} == away
    refused(initframe.materialize, model, {"rules": {}})
    assert torch.equal(model(x), expected)
    remove_hook_from_module(model, recurse=True)
    initframe.reinit(model, FILL)
    assert (model[1][0].weight == 1).all()


@pytest.mark.parametrize("offload", WAYS)
def test_offloaded_tensors_may_be_kept(offload, tmp_path):
    model, x = net().eval(), torch.ones(1, 2)
    expected = model(x)
    offload(model, tmp_path)
    report = initframe.reinit(model, rules({"*": "keep"}))
    assert {result.name for result in report.results} == {name for name, _ in model.named_parameters()}
    assert torch.equal(model(x), expected)


class Status(Enum):
    """deepspeed.runtime.zero.partition_parameters.ZeroParamStatus."""

    AVAILABLE = 1
    NOT_AVAILABLE = 2
    INFLIGHT = 3


def partition(model):
    """Leave of a model what deepspeed.zero.Init leaves: empty data, and attributes."""
    for number, parameter in enumerate(model.parameters()):
        parameter.ds_id, parameter.ds_shape, parameter.ds_numel = number, parameter.shape, parameter.numel()
        parameter.ds_tensor = parameter.data.flatten().clone()
        parameter.ds_status = Status.NOT_AVAILABLE
        parameter.data = torch.empty(0)


def gather(model):
    """What GatheredParameters does on entry."""
    for parameter in model.parameters():
        parameter.data = parameter.ds_tensor.view(parameter.ds_shape)
        parameter.ds_status = Status.AVAILABLE


@pytest.mark.parametrize("status", [Status.NOT_AVAILABLE, Status.INFLIGHT])
@pytest.mark.parametrize("recipe", [FILL, {**FILL, "unmatched": "error"}])
def test_partitioned_tensors_are_refused_by_name(status, recipe):
    plain, model = net(), net()
    partition(model)
    for parameter in model.parameters():
        parameter.ds_status = status
    assert [(s.name, s.shape, s.fan_in) for s in survey(model).slots] == [
        (s.name, s.shape, s.fan_in) for s in survey(plain).slots
    ]
    problems = refused(initframe.reinit, model, recipe)
    assert all("GatheredParameters" in problem.fix for problem in problems)
    assert changed(model, bits(model)) == set()


def test_gathered_tensors_are_filled():
    plain, model = net(), net()
    partition(model)
    plan = initframe.resolve(rules({"*": "keep"}), model)
    gather(model)
    initframe.reinit(plain, FILL, seed=3)
    initframe.reinit(model, FILL, seed=3)
    assert changed(model, bits(plain)) == set()
    assert len(plan.assignments) == 6
