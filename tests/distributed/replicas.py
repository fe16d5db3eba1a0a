"""Processes that should hold the same, and the error where they do not."""

import contextlib

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Shard, distribute_tensor

import initframe
from initframe import apply, materialize, reinit, resolve
from tests.distributed import layouts
from tests.distributed.checks import build, recipe, reinitialized
from tests.distributed.models import GPT


def replicas_that_agree(rank, folder):
    sharded = build(GPT, torch.float32, lambda model: layouts.hsdp(model, 2, 2))
    materialize(sharded, recipe("normal"), seed=7, verify_replicas=True)


def replicas_that_do_not_agree(rank, folder):
    """Every process learns which tensor differs, and who holds what."""
    sharded = build(GPT, torch.float32, lambda model: layouts.hsdp(model, 2, 2))
    materialize(sharded, recipe("normal"), seed=7)
    rules = {"rules": {"*": {"match": "*", "exclude": "ln_f.bias", "init": "ones"}}}
    with torch.no_grad():
        sharded.ln_f.bias.to_local().add_(rank // 2)
    with pytest.raises(initframe.InitframeError, match=r"ln_f.bias: replicas differ.*rank 0, 1.*rank 2, 3") as caught:
        reinit(sharded, rules, verify_replicas=True)
    assert len(caught.value.problems) == 1


class Odd(nn.Module):
    """Tensors that no recipe fills, of every kind that processes may draw differently."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.lazy = nn.LazyLinear(3)
        self.phase = nn.Parameter(torch.ones(3, dtype=torch.complex64))
        self.register_buffer("noise", torch.ones(3))
        self.register_buffer("mask", torch.ones(3, dtype=torch.bool), persistent=False)
        self.register_buffer("sparse", torch.eye(3).to_sparse())


def replicas_of_what_no_recipe_fills(rank, folder):
    """Untouched tensors are compared, buffers included, and what has no numbers to compare is none."""
    rules = {"rules": {"linear.*": "zeros"}}
    reinit(Odd(), rules, verify_replicas=True)
    for name in ("phase", "noise", "mask"):
        model = Odd()
        with torch.no_grad():
            model.get_parameter(name).mul_(1 - rank) if name == "phase" else model.get_buffer(name).mul_(rank == 0)
        with pytest.raises(initframe.InitframeError, match=f"^{name}: replicas differ"):
            reinit(model, rules, verify_replicas=True)


def replicas_of_stages(rank, folder):
    """A tied tensor that no rule touches is one tensor, whatever each stage calls it."""
    stage = layouts.stage(reinitialized(GPT), rank, 2)
    plan = resolve({"rules": {"*ln_*": "ones"}}, GPT())
    apply(plan, module=stage, verify_replicas=True)
    with torch.no_grad():
        (stage.wte if rank == 0 else stage.head).weight.add_(rank)
    with pytest.raises(initframe.InitframeError, match=r"^wte.weight: replicas differ"):
        apply(plan, module=stage, verify_replicas=True)


def outside_of_the_mesh(rank, folder):
    """Who is no part of a tensor's mesh has nothing to measure, and nothing to disagree with."""
    mesh = DeviceMesh("cpu", [0])
    spread = distribute_tensor(torch.zeros(4, 3), mesh, [Shard(0)], src_data_rank=None)
    model = {"spread": spread, "plain": torch.zeros(3)}
    report = reinit(model, {"rules": {"*": "ones"}}, measure=True, verify_replicas=True)
    assert (report["spread"].after is None) == (rank > 0)
    assert report["plain"].after.moments == (1.0, 0.0)
    assert ("nan" in str(report)) is False


def replicas_with_seeds_of_their_own(rank, folder):
    with pytest.raises(initframe.InitframeError, match="more tensors differ"):
        reinit(GPT(), recipe("normal"), seed=rank, verify_replicas=True)


def replicas_with_plans_of_their_own(rank, folder):
    model = GPT()
    with contextlib.suppress(AttributeError):
        if rank == 0:
            del model.wpe
    with pytest.raises(initframe.InitframeError, match="different plans"):
        reinit(model, recipe("normal"), verify_replicas=True)
