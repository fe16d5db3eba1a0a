"""Manifest × tensors: every difference has its row, and how far a changed tensor has moved."""

import json
import math

import pytest
import torch
from nets import Tower
from refusals import refused
from safetensors.torch import save_file
from torch import nn

import initframe
from initframe import SourceError, manifest, verify
from initframe.files.facts import file_facts, header_facts
from initframe.files.safetensors import save_tensors
from initframe.plan.manifest import seal, to_text

RECIPE = {"rules": {"*.weight": {"init": "normal", "std": 0.1, "where": "ndim > 1"}, "scale": "ones"}}


@pytest.fixture
def made():
    model = Tower()
    record = json.loads(json.dumps(manifest(initframe.reinit(model, RECIPE, seed=3, measure=True))))
    return model, record


def run_of(model, record, folder):
    """Write what a run writes."""
    save_tensors(model, folder / "model.safetensors", {"run": record["run"]})
    (folder / "plan.txt").write_text("a plan")
    facts = {
        "model.safetensors": header_facts(folder / "model.safetensors"),
        "plan.txt": file_facts(folder / "plan.txt"),
    }
    (folder / "manifest.json").write_text(to_text(seal({**record, "files": facts})), encoding="utf-8")
    return folder


def wrong(found):
    assert found.ok == all(row.ok for row in found.rows)
    return {row.name: row.state for row in found.rows if not row.ok}


def test_all_is_as_promised(made, tmp_path):
    model, record = made
    folder = run_of(model, record, tmp_path)
    state = model.state_dict()
    torch.save({"model": state, "optimizer": {}}, tmp_path / "state.pt")
    wrapped = {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()}
    for against in (model, state, wrapped, folder / "model.safetensors", str(tmp_path / "state.pt")):
        found = verify(record, against)
        assert found.ok
        assert {row.name for row in found.rows} == state.keys()
        assert "all as promised" in str(found)
    for given in (folder, folder / "manifest.json", str(folder)):
        found = verify(given)
        assert found.ok
        assert {row.name for row in found.rows if row.kind == "file"} == {"model.safetensors", "plan.txt"}


def test_of_a_tied_tensor_a_checkpoint_needs_one_name_and_a_model_or_the_runs_own_file_all(made, tmp_path):
    model, record = made
    run = run_of(model, record, tmp_path)
    for kept, left_out in (("embed.weight", "head.weight"), ("head.weight", "embed.weight")):
        state = {name: tensor for name, tensor in model.state_dict().items() if name != left_out}
        save_file(state, tmp_path / "saved.safetensors")
        assert verify(record, state)
        assert verify(record, tmp_path / "saved.safetensors")
        assert wrong(verify(record, {**state, kept: state[kept] + 1})) == {kept: "changed"}
    assert wrong(verify(record, {name: tensor for name, tensor in state.items() if name != "head.weight"})) == {
        "embed.weight": "missing",
        "head.weight": "missing",
    }
    save_file(state, run / "model.safetensors")
    assert wrong(verify(run))["embed.weight"] == "missing"
    del model.head
    assert wrong(verify(record, model)) == {"head.weight": "missing"}


def test_every_difference_has_a_row(made):
    model, record = made
    state = dict(model.state_dict())
    with torch.no_grad():
        state["scale"] = state["scale"] + 1
    state["bn.weight"] = state["bn.weight"].double()
    state["bn.bias"] = state["bn.bias"][:4].clone()
    state["more"] = torch.ones(2)
    del state["bn.running_mean"]
    found = verify(record, state)
    states = {"scale": "changed", "bn.weight": "changed", "bn.bias": "changed"}
    assert wrong(found) == states | {"bn.running_mean": "missing", "more": "extra"}
    facts = {row.name: row.fact for row in found.rows}
    assert "float64" in facts["bn.weight"]
    assert "[4]" in facts["bn.bias"]
    json.dumps(found.to_dict(), allow_nan=False)


def test_names_with_more_or_less_in_front_are_told(made):
    model, record = made
    state = model.state_dict()
    found = verify(record, {f"net.{name}": tensor for name, tensor in state.items()})
    assert {row.fact for row in found.rows if row.state == "missing"} == {
        f"net.{name} is there instead." for name in state
    }
    inner = {"rules": {"*.weight": {"init": "ones", "optional": True}}}
    record = manifest(initframe.reinit(nn.ModuleDict({"net": nn.Linear(2, 2)}), inner, measure=True))
    found = verify(record, nn.Linear(2, 2))
    assert {row.name: row.fact for row in found.rows if row.state == "missing"} == {
        "net.weight": "weight is there instead.",
        "net.bias": "bias is there instead.",
    }
    found = verify(record, {"other.net.weight": torch.ones(2, 2)})  # not all of them
    assert not any(row.fact for row in found.rows)


def test_values_that_are_not_finite_are_counted(made):
    model, record = made
    state = dict(model.state_dict())
    state["bn.bias"] = state["bn.bias"].clone()
    state["bn.bias"][:2] = torch.tensor([math.inf, math.nan])
    (row,) = (row for row in verify(record, state).rows if not row.ok)
    assert row.fact == f"2 of its {state['bn.bias'].numel()} values are infinite or NaN."


def test_how_far_tensors_have_moved(made, tmp_path):
    model, record = made
    folder = run_of(model, record, tmp_path)
    start = {name: tensor.double().clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        model.encoder[0].qkv.weight += 0.3 * torch.randn(24, 8)  # drawn again for the comparison
        model.bn.weight += 0.5  # read from the run's own file
        model.bn.bias.fill_(1.0)  # from zero
        model.scale.fill_(-2.0)
    found = {row.name: row for row in verify(folder, model).rows if not row.ok}
    for name in ("encoder.0.qkv.weight", "bn.weight", "scale"):
        now, before = model.state_dict()[name].double().reshape(-1), start[name].reshape(-1)
        assert found[name].distance == pytest.approx(((now - before).norm() / before.norm()).item())
        assert found[name].cosine == pytest.approx((now @ before / (now.norm() * before.norm())).item())
    assert found["bn.bias"].distance == math.inf
    assert math.isnan(found["bn.bias"].cosine)
    assert found["scale"].cosine == -1
    unknown = {row.name: row.distance for row in verify(record, model).rows if not row.ok}
    assert unknown["bn.weight"] is None
    assert {row.distance for row in verify(folder, model, movement=False).rows} == {None}
    assert "cosine" in str(verify(folder, model))


def test_other_files_of_a_run(made, tmp_path):
    folder = run_of(*made, tmp_path)
    (folder / "plan.txt").write_text("b plan")
    assert wrong(verify(folder)) == {"plan.txt": "changed"}
    (folder / "plan.txt").unlink()
    assert wrong(verify(folder)) == {"plan.txt": "missing"}
    (folder / "plan.txt").symlink_to("/etc/hostname")
    assert wrong(verify(folder)) == {"plan.txt": "missing"}
    (folder / "model.safetensors").write_bytes(b"nothing")
    assert wrong(verify(folder))["model.safetensors"] == "changed"
    (folder / "model.safetensors").unlink()
    assert "model.safetensors" in wrong(verify(folder))


def test_the_model_of_another_run_is_not_this_one(made, tmp_path):
    model, record = made
    folder = run_of(model, record, tmp_path)
    initframe.reinit(model, RECIPE, seed=4)
    save_tensors(model, folder / "model.safetensors", {"run": "another"})
    found = wrong(verify(folder))
    assert found["model.safetensors"] == found["embed.weight"] == found["head.weight"] == "changed"


def test_a_folder_without_a_manifest_is_unfinished(made, tmp_path):
    folder = run_of(*made, tmp_path)
    (folder / "manifest.json").unlink()
    assert "did not finish" in refused(verify, folder, kind=SourceError)[0].fact


def test_what_was_not_measured_is_unverifiable():
    model = nn.Linear(2, 2)
    record = manifest(initframe.reinit(model, {"rules": {"weight": "normal"}}))
    assert wrong(verify(record, model)) == {"weight": "unverifiable", "bias": "unverifiable"}


def test_what_nobody_can_read_is_refused(made, tmp_path):
    _, record = made
    for against in (3, tmp_path / "nothing.safetensors", tmp_path):
        assert refused(verify, record, against, kind=SourceError)
    assert refused(verify, record, kind=SourceError)[0].subject == "against"
    save_file({"scale": torch.ones(())}, tmp_path / "m.safetensors")
    assert set(wrong(verify(record, tmp_path)).values()) == {"missing"}


def test_progress_counts_bytes(made, tmp_path):
    model, record = made
    told = []
    verify(record, model, on_progress=told.append)
    assert sum(told) == sum(tensor.nbytes for tensor in model.state_dict().values())


def test_buffers_that_no_file_holds_are_compared_in_a_model():
    model = nn.BatchNorm1d(3)
    model.register_buffer("table", torch.arange(3.0), persistent=False)
    record = manifest(initframe.reinit(model, {"rules": {"weight": "ones"}}, measure=True))
    assert verify(record, model).ok
    assert verify(record, model.state_dict()).ok
    model.table += 1
    assert wrong(verify(record, model)) == {"table": "changed"}


def test_names_are_shown_harmlessly(made):
    _, record = made
    shown = str(verify(record, {"\x1b[31mred\n": torch.ones(1), "\u202e": torch.ones(1)}))
    assert "\x1b" not in shown
    assert all(line.isprintable() for line in shown.splitlines())


def test_a_file_that_is_missing_is_told_once(made, tmp_path):
    folder = run_of(*made, tmp_path)
    (folder / "model.safetensors").unlink()
    found = verify(folder)
    assert [(row.name, row.state) for row in found.rows if not row.ok] == [("model.safetensors", "missing")]


def test_the_folder_of_a_sweep_names_its_runs(made, tmp_path):
    for name in ("0", "1"):
        (tmp_path / name).mkdir()
        run_of(*made, tmp_path / name)
    (problem,) = refused(verify, tmp_path, kind=SourceError)
    assert problem.options.endswith("0, 1.")


def test_tensors_are_found_inside_of_wrappers():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    record = manifest(initframe.reinit(model, {"rules": {"*": "normal"}}, seed=3, measure=True))
    wrapped = nn.Sequential(torch.compile(model[0]), model[1], torch.compile(nn.DataParallel(model[2])))
    assert "0._orig_mod.weight" in wrapped.state_dict()
    assert verify(record, wrapped).ok
    assert verify(record, wrapped.state_dict()).rows[0].ok
    assert verify(record, nn.Sequential(torch.compile(model[0]), *model[1:]).state_dict()).ok
    with torch.no_grad():
        model[0].weight[0, 0] += 1
    assert [row.name for row in verify(record, wrapped).rows if not row.ok] == ["0.weight"]


def test_a_module_that_has_the_name_of_a_wrappers_child_keeps_it():
    model = nn.Sequential()
    model.base_layer, model.other = nn.Linear(2, 2), nn.Linear(2, 2)
    record = manifest(initframe.reinit(model, {"rules": {"*": "normal"}}, seed=3, measure=True))
    assert verify(record, model).ok
    assert verify(record, model.state_dict()).ok
    state = {name.replace("base_layer.", ""): value for name, value in model.state_dict().items()}
    assert {row.state for row in verify(record, state).rows} == {"missing", "extra", "ok"}


def test_a_manifest_without_digests_says_how_to_have_them():
    model = nn.Linear(2, 2)
    found = verify(manifest(initframe.reinit(model, {"rules": {"*": "zeros"}})), model)
    assert {row.state for row in found.rows} == {"unverifiable"}
    assert all("measure=True" in row.fact for row in found.rows)
