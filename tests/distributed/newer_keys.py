"""Rules with axes, units and copies, averages outside of the model, and restoring, on real meshes."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import initframe
from initframe import apply, deferred, materialize, reinit, resolve
from initframe.errors import InitframeError
from tests.distributed.checks import shard_of, whole


class Net(nn.Module):
    """Stacked experts, a target network, and an odd number of rows, which no world divides."""

    def __init__(self):
        super().__init__()
        self.experts = nn.Parameter(torch.zeros(3, 6, 4))
        self.online = nn.ModuleList([nn.Linear(5, 7), nn.Linear(7, 5)])
        self.target = nn.ModuleList([nn.Linear(5, 7), nn.Linear(7, 5)])


RULES = {
    "experts": {"match": "experts", "init": "orthogonal", "axes": ["batch", "out", "in"]},
    "online": {"match": "online.*.weight", "init": "normal", "std": 0.5},
    "biases": {"match": "online.*.bias", "init": "uniform"},
    "follower": {"match": "target.*", "init": "copy", "source": "online.*"},
}
RESET = {"rules": {"online.*.weight": {"init": "normal", "std": 2, "units": "unit % 3 == 1"}}}


def sharded():
    with deferred():
        model = Net()
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    materialize(model, {"rules": RULES}, seed=3)
    return model


def plain():
    model = Net()
    reinit(model, {"rules": RULES}, seed=3)
    return model


def assert_same(model, expected):
    """Every shard is what torch leaves of the whole tensor."""
    wanted = dict(expected.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.to_local(), shard_of(wanted[name], parameter)), name


def axes_and_copies(rank, folder):
    model = sharded()
    assert_same(model, plain())
    for mine, theirs in zip(model.target.parameters(), model.online.parameters(), strict=True):
        assert torch.equal(whole(mine), whole(theirs))


def units_of_shards(rank, folder):
    """Some rows get the numbers that the whole tensor would have there; the optimizer forgets theirs only."""
    model, expected = sharded(), plain()
    for one in (model, expected):
        adam = torch.optim.Adam(one.parameters())
        for parameter in one.parameters():
            parameter.grad = torch.ones_like(parameter)
        adam.step()
        reinit(one, RESET, seed=9, optimizer=adam)
        one.adam = adam
    assert_same(model, expected)
    mine, wanted = (one.adam.state[one.online[0].weight]["exp_avg"] for one in (model, expected))
    assert (wanted == 0).any(1).sum() == 2
    assert torch.equal(mine.to_local(), shard_of(wanted, mine))


def averages_of_shards(rank, folder):
    model = sharded()
    average = sharded()
    reinit(model, {"rules": RULES}, seed=5, averages=[average])
    for mine, theirs in zip(average.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine.to_local(), theirs.to_local())


def all_restore_if_one_fails(rank, folder):
    model = sharded()
    before = [parameter.to_local().clone() for parameter in model.parameters()]

    def interrupted(_):
        if rank == 0:
            raise InterruptedError

    with pytest.raises((InterruptedError, InitframeError)) as caught:
        apply(resolve({"rules": {"*": {"init": "constant", "val": 7}}}, model), restore=True, on_progress=interrupted)
    assert isinstance(caught.value, InterruptedError) == (rank == 0)
    if rank:
        assert "rank 0" in str(caught.value)
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter.to_local(), old)
    assert initframe.survey(model).slots
