"""A manifest is the initialization: tensors made again from JSON are those of the model, bit for bit."""

import json
from dataclasses import replace

import pytest
import torch
from nets import Tower, rules, same_bits
from refusals import refused
from safetensors import safe_open
from torch import nn

import initframe
from initframe import ResolveError, SourceError, manifest, regenerate
from initframe.fills.record import KINDS, from_record, needs, to_record
from initframe.plan.manifest import seal
from initframe.verification import regenerate as regenerating
from tests.conftest import GOLDEN
from tests.verification import laws

FIRST = GOLDEN / "manifests"
RECIPE = rules(
    {
        "weights": {"match": "*.weight", "where": "ndim > 1", "init": "trunc_normal", "std": 0.02},
        "cut": {"match": "*.qkv.weight", "init": "orthogonal", "split": 3},
        "copied": {"match": "decoder.*.weight", "init": "copy", "source": "encoder.*.weight", "where": "ndim > 1"},
        "moved": {"match": "encoder.*.norm.bias", "init": "shift", "by": 1.0},
        "some": {"match": "encoder.0.proj.weight", "init": "normal", "std": 1.0, "units": [1, 3]},
    }
)


def through_json(report):
    return json.loads(json.dumps(manifest(report), allow_nan=False))


@pytest.fixture(scope="module")
def tower():
    model = Tower()
    return model.state_dict(), through_json(initframe.reinit(model, RECIPE, seed=2**64 - 1, measure=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_every_kind_of_fill_is_made_again(dtype, table):
    model = laws.model(dtype)
    record = through_json(laws.reinit(model))
    assert record["others"] == []
    made = regenerate(record)
    assert [*made] == [*laws.FILLS]
    for name, tensor in model.state_dict().items():
        assert same_bits(made[name], tensor), name


def test_no_kind_is_missing():
    known = {part.kind for fill in laws.FILLS.values() for part in fill.parts()}
    assert known == KINDS.keys()


@pytest.mark.parametrize("name", laws.FILLS)
def test_a_record_gives_an_equal_fill(name):
    fill = laws.FILLS[name]
    again = from_record(json.loads(json.dumps(to_record(fill))), laws.shape(name))
    assert again == fill
    assert type(again) is type(fill)
    assert needs(fill) == ""


def test_tensors_lists_what_is_made_and_others_the_rest(tower):
    state, record = tower
    made = regenerate(record)
    assert [*made] == [name for entry in record["tensors"] for name in (entry["name"], *entry["aliases"])]
    assert "head.weight" in made  # tied
    assert all(same_bits(made[name], state[name]) for name in made)
    rest = {name: entry for entry in record["others"] for name in (entry["name"], *entry["aliases"])}
    assert made.keys() | rest.keys() == state.keys()
    assert made.keys() & rest.keys() == set()
    assert all(entry["digest"] for entry in (*record["tensors"], *record["others"]))
    assert {entry["needs"] for entry in rest.values()} == {"current values", "the values of encoder.0.proj.weight"}
    assert rest.keys() > {"encoder.0.norm.bias", "encoder.0.proj.weight", "scale", "bn.num_batches_tracked"}


def test_some_names(tower):
    state, record = tower
    assert [*regenerate(record, "head.weight")] == ["head.weight"]
    made = regenerate(record, ["encoder.*.qkv.weight", "embed.weight"])
    assert [*made] == ["embed.weight", *(f"encoder.{i}.qkv.weight" for i in range(3))]
    assert all(same_bits(made[name], state[name]) for name in made)
    for wrong in ("nothing", ["embed.weight", "*.nothing"], [3]):
        assert refused(regenerate, record, wrong, kind=ResolveError)[0].subject == "names"


def test_what_needs_more_is_named_with_what_it_needs(tower):
    [problem] = refused(regenerate, tower[1], ["embed.weight", "scale"], kind=ResolveError)
    assert problem.subject == "scale"
    assert "current values" in problem.fact


@pytest.mark.parametrize("path", ["again.safetensors", "folder"])
def test_files_are_written_as_checkpoints_are(tower, tmp_path, path):
    state, record = tower
    told = []
    made = regenerate(record, path=tmp_path / path, max_shard_size=1000, on_progress=told.append)
    assert all(same_bits(made[name], state[name]) for name in made)
    assert sum(told) == sum(tensor.numel() for tensor in made.values())
    files = sorted(tmp_path.rglob("*.safetensors"))
    assert (tmp_path / "folder/model.safetensors.index.json").exists() == (len(files) > 1) == (path == "folder")
    with safe_open(files[0], framework="pt") as file:
        assert file.metadata()["run"] == record["run"]


def test_plugins_tables_and_torchs_generator_are_not_made(table, tmp_path):
    initframe.initializer("own")(lambda _: initframe.Elementwise(torch.log, mean=-1.0, std=1.0))
    record = manifest(initframe.reinit(nn.Linear(2, 2), {"rules": {"weight": "own", "bias": "zeros"}}))
    assert "Elementwise" in record["others"][0]["needs"]
    assert [*regenerate(record)] == ["bias"]
    drawn = initframe.reinit(nn.Linear(2, 2), {"rules": {"weight": "normal"}}, seed=1, generator="torch")
    assert manifest(drawn)["tensors"] == []

    def build():
        layer = nn.Linear(2, 3)
        layer.weight = nn.Parameter(torch.arange(6.0).view(3, 2))
        return layer

    plan = initframe.trace(build)
    record = manifest(initframe.materialize(plan.model, plan, seed=3, measure=True))
    assert [(entry["name"], entry["needs"]) for entry in record["others"]] == [("weight", "constructor")]
    assert record["tensors"][0]["rests_on"] == ["constructor"]
    assert same_bits(regenerate(record)["bias"], plan.model.bias)


def test_it_rests_on_lapack_where_a_matrix_is_factorized(tower):
    rests = {entry["name"]: entry.get("rests_on") for entry in tower[1]["tensors"]}
    assert rests["encoder.0.qkv.weight"] == ["LAPACK"]
    assert rests["embed.weight"] is None


def test_computed_tensors_and_what_they_are_computed_from_need_the_layer():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    record = manifest(initframe.reinit(layer, {"rules": {"weight": "normal", "bias": "zeros"}}, measure=True))
    assert [*regenerate(record)] == ["bias"]
    names = {entry["name"]: entry.get("persistent", True) for entry in record["others"]}
    originals = {f"parametrizations.weight.original{i}": True for i in (0, 1)}
    assert names == {"weight": False, **originals}
    assert initframe.verify(record, layer).ok
    assert initframe.verify(record, layer.state_dict()).ok
    record = manifest(initframe.reinit(layer, {"rules": {"bias": "zeros"}}, measure=True))
    assert {entry["name"] for entry in record["others"]} == {*originals}
    assert initframe.verify(record, layer).ok


def test_views_of_tied_tensors_are_apart():
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False))
    model[1].weight = nn.Parameter(model[0].weight.detach().T)
    record = manifest(initframe.reinit(model, {"rules": {"0.weight": "normal"}}, seed=1, measure=True))
    assert [*regenerate(record)] == ["0.weight"]
    assert "0.weight" in record["others"][0]["needs"]
    assert initframe.verify(record, model).ok


def test_a_digest_that_differs_is_told_and_a_changed_record_refused(tower):
    record = tower[1]
    first = {**record["tensors"][0], "digest": "0" * 16}
    changed = {**record, "tensors": [first, *record["tensors"][1:]]}
    assert "sum" in refused(regenerate, changed, kind=SourceError)[0].fact
    forged = seal(changed)
    assert first["name"] in refused(regenerate, forged, kind=SourceError)[0].fact
    assert same_bits(regenerate(forged, check=False)[first["name"]], tower[0][first["name"]])


def test_what_memory_cannot_hold_goes_to_files(tower, monkeypatch, tmp_path):
    monkeypatch.setattr(regenerating, "machine_memory", lambda: 3_000)
    record = tower[1]
    names = ["embed.weight", "encoder.*.proj.weight", "encoder.*.qkv.bias"]
    model = nn.Linear(30, 30)
    record = through_json(initframe.reinit(model, {"rules": {"weight": "normal", "bias": "zeros"}}, measure=True))
    assert "GiB" in refused(regenerate, record, kind=SourceError)[0].fact
    assert same_bits(regenerate(record, path=tmp_path / "m.safetensors")["weight"], model.weight), names
    whole = through_json(initframe.reinit(model, {"rules": {"weight": "orthogonal"}}, measure=True))
    assert refused(regenerate, whole, path=tmp_path / "n.safetensors", kind=ResolveError)[0].subject == "weight"


@pytest.mark.parametrize("path", sorted(FIRST.glob("*.json")), ids=lambda path: path.stem)
def test_format_1_stays_readable(path):
    record = json.loads(path.read_text())
    assert record["format"] == 1
    made = regenerate(path)
    digests = {entry["name"]: entry["digest"] for entry in record["tensors"]}
    current = {"current": {"weight", "bias"}, "traced": {"table"}}.get(path.stem, set())
    assert made.keys() | current >= digests.keys()
    assert current.isdisjoint(made)
    for name in digests.keys() - current:
        assert digests[name] is None or f"{initframe.stream.digest(made[name]):016x}" == digests[name]
    found = initframe.verify(path, made)
    told = {row.name: row.state for row in found.rows}
    assert all(told[name] == ("ok" if digests[name] else "unverifiable") for name in made if name in digests)
    assert all(told[name] == "missing" for name in record["untouched"])


def test_guesses_about_format_1_are_confirmed_by_the_digest():
    record = json.loads((FIRST / "laws.json").read_text())
    [blocks] = [entry for entry in record["tensors"] if entry["name"] == "blocks"]
    record["tensors"] = [{**blocks, "digest": "1" * 16}]
    assert "blocks" in refused(regenerate, record, kind=SourceError)[0].fact
    record["tensors"] = [{**blocks, "digest": None}]
    assert "digest" in refused(regenerate, record, ["blocks"], kind=ResolveError)[0].fact


def test_runs_have_equal_numbers_if_they_are_equal():
    def number(seed, recipe="normal"):
        return manifest(initframe.reinit(nn.Linear(2, 2), {"rules": {"*": recipe}}, seed=seed))["run"]

    assert number(1) == number(1)
    assert len({number(1), number(2), number(1, "xavier_uniform" if 0 else "uniform")}) == 3


def test_versions_of_the_libraries_that_built_the_model_are_told():
    models = pytest.importorskip("torchvision.models")
    report = initframe.reinit(models.squeezenet1_1(), {"rules": {"*.bias": "zeros"}})
    assert "torchvision" in manifest(report)["versions"]
    assert manifest(replace(report, model=None))["versions"].keys() == {"initframe", "torch", "python"}
