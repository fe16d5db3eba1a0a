"""``init: row_norms``: the norms of another tensor's rows, after the write."""

import pytest
import torch
from nets import Conv1D
from torch import nn

import initframe
from initframe.errors import ResolveError
from tests.refusals import refused


class Scaled(nn.Module):
    """A layer, and a magnitude for each of its outputs."""

    def __init__(self, layer=None, shape=(3,)):
        super().__init__()
        self.layer = layer or nn.Linear(4, 3)
        self.magnitude = nn.Parameter(torch.zeros(shape))


NORMS = {"match": "magnitude", "init": "row_norms", "source": "layer.weight"}


def recipe(weight=None, **more):
    rules = {"norms": NORMS | more}
    return {"rules": ({"weight": {"match": "layer.weight", **weight}} if weight else {}) | rules}


def norms(weight, dim=0):
    return weight.detach().double().movedim(dim, 0).flatten(1).square().sum(1).sqrt()


@pytest.mark.parametrize("generator", ["stream", "torch"])
@pytest.mark.parametrize("weight", [None, {"init": "normal"}, {"init": "orthogonal"}, {"init": "scale", "by": 3.0}])
def test_they_are_those_of_what_is_written(weight, generator):
    model = Scaled()
    initframe.reinit(model, recipe(weight), seed=1, generator=generator)
    assert torch.equal(model.magnitude, norms(model.layer.weight).float())


def test_they_count_the_outputs_of_transposed_weights_and_of_convolutions():
    for layer, shape, dim in ((Conv1D(3, 4), (3,), 1), (nn.Conv2d(2, 3, 3), (1, 3, 1, 1), 0)):
        model = Scaled(layer, shape)
        initframe.reinit(model, recipe({"init": "normal"}), seed=1)
        assert torch.equal(model.magnitude.flatten(), norms(layer.weight, dim).float())
    model = Scaled(nn.Embedding(5, 3))
    initframe.reinit(model, recipe({"init": "normal"}, dim=1), seed=1)
    assert torch.equal(model.magnitude, norms(model.layer.weight, 1).float())


def test_only_reads_what_is_out_of_sight():
    model = Scaled()
    before = model.layer.weight.detach().clone()
    initframe.reinit(model, recipe({"init": "normal"}), seed=1, only=["magnitude"])
    assert torch.equal(model.layer.weight, before)
    assert torch.equal(model.magnitude, norms(before).float())


def test_a_deferred_model_has_them():
    with initframe.deferred():
        model = Scaled()
    initframe.materialize(model, recipe({"init": "normal"}) | {"unmatched": "default"}, seed=1)
    assert torch.equal(model.magnitude, norms(model.layer.weight).float())


@pytest.mark.parametrize(
    "wrong",
    [{"source": "nothing.weight"}, {"dim": 2}, {"dim": 1}, {"units": [0]}, {"source": "magnitude"}],
    ids=str,
)
def test_what_has_no_norms_is_refused(wrong):
    refused(initframe.resolve, recipe(**wrong), Scaled(), kind=ResolveError)


def test_a_tensor_alone_has_nothing_to_read_them_from():
    for fill in (
        initframe.fills.Norms("w", initframe.Keep(), from_memory=True),
        initframe.fills.Copied("w", initframe.Keep(), True),
    ):
        refused(initframe.fill_, torch.ones(3), fill, name="m", kind=ResolveError)


def test_nothing_copies_norms():
    model = Scaled()
    model.other = nn.Parameter(torch.zeros(3))
    copies = recipe() | {"unused": "error"}
    copies["rules"]["copy"] = {"match": "other", "init": "copy", "source": "magnitude"}
    refused(initframe.resolve, copies, model, kind=ResolveError)
