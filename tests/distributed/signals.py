"""Signals of models that are divided among processes: what is measured or predicted leaves them as they were."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import initframe

RECIPE = {"rules": {"*.weight": {"init": "normal", "std": 0.3}, "*.bias": "zeros"}}
INPUTS = torch.linspace(-1, 1, 32).reshape(4, 8)


def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8), nn.LayerNorm(8))


def sharded():
    model = plain()
    fully_shard(model[0])
    return fully_shard(model)


def parallel():
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    return parallelize_module(plain(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


def rows(signal):
    return [(row.rms, row.mean) for row in signal.rows]


def trained(model):
    """The parameters after two steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model(INPUTS).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.full_tensor() for parameter in model.parameters()]


CALLS = {
    "propagate": lambda model: initframe.propagate(model, INPUTS),
    "propagate with a loss": lambda model: initframe.propagate(model, INPUTS, loss=lambda output: output.sum()),
    "predict": lambda model: initframe.predict(initframe.resolve(RECIPE, model), INPUTS),
    "calibrate": lambda model: initframe.calibrate(model, RECIPE, INPUTS, method="predict"),
}


def sharded_models_train_on_as_they_were(rank, folder):
    """Before the first forward pass, and after some."""
    expected = [trained(model) for model in 2 * [sharded()]]  # one model, trained on
    for call in CALLS.values():
        model = sharded()
        for wanted in expected:
            call(model)
            found = trained(model)
            assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def predictions_are_those_of_the_whole_model(rank, folder):
    expected = rows(initframe.predict(initframe.resolve(RECIPE, plain()), INPUTS))
    for model in (sharded(), parallel()):
        assert rows(initframe.predict(initframe.resolve(RECIPE, model), INPUTS)) == expected


def activations_in_parts_are_refused(rank, folder):
    for call in (lambda model: initframe.propagate(model, INPUTS), lambda m: initframe.calibrate(m, RECIPE, INPUTS)):
        with pytest.raises(initframe.InitframeError, match="tensor parallelism"):
            call(parallel())
    with pytest.raises(initframe.InitframeError, match="before it is sharded"):
        initframe.calibrate(sharded(), RECIPE, INPUTS)


def sharded_too_early_is_told(rank, folder):
    """Inside of deferred(), fully_shard takes the parameters away whose constructor was watched."""
    with initframe.deferred():
        model = sharded()
    with pytest.raises(initframe.ResolveError, match=r"sharded inside of deferred\(\)"):
        initframe.materialize(model, seed=0)
    initframe.materialize(model, {"unmatched": "default", **RECIPE}, seed=0)
