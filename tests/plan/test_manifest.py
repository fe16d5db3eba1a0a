"""The manifest: enough to make the same numbers again, and to know that they are the same."""

import json

import pytest
import torch
import yaml
from nets import Tower, changed, rules

import initframe
from initframe import stream

RECIPE = rules(
    {
        "weights": {"match": "*.weight", "where": "ndim > 1", "init": "xavier_uniform", "gain": "relu"},
        "*.bias": {"init": "normal", "std": "sigma"},
        "cut": {"match": "*.{layer}.qkv.weight", "init": "trunc_normal", "std": "sigma / layers", "split": 3},
        "*.proj.weight": {"init": "orthogonal"},
    },
    vars={"sigma": "1 / 8"},
    fans="effective",
)


@pytest.fixture(scope="module")
def made():
    model = Tower()
    report = initframe.reinit(model, RECIPE, seed=7, measure=True)
    return model, report, json.loads(json.dumps(initframe.manifest(report), allow_nan=False))


def test_recipe_and_seed_make_the_same_model_again(made):
    model, _, record = made
    again = Tower()
    report = initframe.reinit(again, record["recipe"], seed=record["seed"], generator=record["generator"], measure=True)
    won = {result.name for result in report.results}
    assert not changed(again, model.state_dict()) & won
    assert [entry["digest"] for entry in record["tensors"]] == [result.digest for result in report.results]


def test_every_tensor_is_there_with_what_it_holds(made):
    model, report, record = made
    state = model.state_dict()
    assert [entry["name"] for entry in record["tensors"]] == [a.slot.name for a in report.plan.assignments]
    for entry in record["tensors"]:
        tensor = state[entry["name"]]
        assert entry["shape"] == list(tensor.shape)
        assert entry["dtype"] == str(tensor.dtype).removeprefix("torch.")
        assert entry["digest"] == f"{stream.digest(tensor):016x}"
    assert record["untouched"] == list(report.plan.untouched)


def test_constants_are_those_the_kernels_drew_with(made):
    _, _, record = made
    by_name = {entry["name"]: entry["fill"] for entry in record["tensors"]}
    assert by_name["bn.bias"]["constants"] == {"mean": "00000000", "std": "3e000000"}
    assert len(by_name["encoder.0.qkv.weight"]["constants"]) == 3
    assert "constants" not in by_name["encoder.0.proj.weight"]


def test_versions_are_told(made):
    _, _, record = made
    assert record["versions"]["initframe"] == initframe.__version__
    assert record["versions"]["torch"] == torch.__version__
    assert record["stream"] == {"version": 1}


def test_torchs_generator_has_no_stream_version():
    report = initframe.reinit(Tower(), rules({"*.bias": "normal"}), seed=1, generator="torch")
    record = initframe.manifest(report)
    assert (record["generator"], record["stream"]) == ("torch", None)
    assert {entry["needs"] for entry in record["others"] if "fill" in entry} == {"torch's generator"}


def test_it_is_made_of_pythons_own_classes_so_that_a_checkpoint_with_it_loads_as_before(made, tmp_path):
    model, report, record = made
    own = initframe.manifest(report)
    torch.save({"model": model.state_dict(), "manifest": own}, tmp_path / "checkpoint.pt")
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["manifest"] == record
    assert yaml.safe_load(yaml.safe_dump(own)) == record
