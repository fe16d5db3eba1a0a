"""Trained values from files: what fits is loaded, everything else is told, and nothing in a file is ever run."""

from __future__ import annotations

import json
import os
import re
import struct
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file, save_model
from torch import nn

import initframe
from initframe.applying.load_checkpoint import load_checkpoint
from initframe.errors import SourceError
from initframe.files import reading
from initframe.files.safetensors import save_tensors


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def refused(path: Path, model: nn.Module | None = None) -> str:
    """Load what must not load; the model stays as it was."""
    model = model or net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(SourceError) as caught:
        load_checkpoint(model, path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert str(path) in str(caught.value)
    return str(caught.value)


def save(state: object, path: Path, **options: object) -> Path:
    torch.save(state, path, **options)
    return path


WAYS = {
    "safetensors": save_file,
    "torch": save,
    "nested": lambda state, path: save({"epoch": 3, "state_dict": state, "optimizer": {}}, path),
    "a model key": lambda state, path: save({"model": state}, path),
    "data parallel": lambda state, path: save({f"module.{name}": value for name, value in state.items()}, path),
    "compiled, data parallel": lambda state, path: save({f"_orig_mod.module.{n}": v for n, v in state.items()}, path),
    "compiled, safetensors": lambda state, path: save_file({f"_orig_mod.{n}": v for n, v in state.items()}, path),
    "Lightning": lambda state, path: save(
        {"state_dict": {f"model.{n}": v for n, v in state.items()}, "epoch": 1}, path
    ),
    "before batches were counted": lambda state, path: save(
        {name: value for name, value in state.items() if "num_batches" not in name}, path
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_fits(tmp_path, way):
    trained, model = net(), net()
    trained(torch.randn(8, 3))
    WAYS[way](trained.state_dict(), tmp_path / "file")
    held = dict(model.named_parameters())
    load_checkpoint(model, tmp_path / "file")
    for name, value in trained.state_dict().items():
        assert torch.equal(model.state_dict()[name], value) or name.endswith("num_batches_tracked")
    assert all(held[name] is parameter for name, parameter in model.named_parameters())


def test_what_initframe_saved_with_ties(tmp_path):
    trained, model = (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)) for _ in range(2))
    for one in (trained, model):
        one[1].weight = one[0].weight
    save_tensors(trained, tmp_path / "tied.safetensors")
    load_checkpoint(model, tmp_path / "tied.safetensors")
    assert torch.equal(model[1].weight, trained[0].weight)


def test_another_precision(tmp_path):
    trained, model = net(), net().bfloat16()
    load_checkpoint(model, save(trained.state_dict(), tmp_path / "file.pt"))
    assert model[0].weight.dtype == torch.bfloat16
    assert torch.equal(model[0].weight, trained[0].weight.bfloat16())


def test_names_that_only_look_wrapped(tmp_path):
    model = nn.ModuleDict({"module": net()})
    load_checkpoint(model, save(nn.ModuleDict({"module": net()}).state_dict(), tmp_path / "file.pt"))


def test_what_does_not_fit(tmp_path):
    state = net().state_dict()
    state["0.weight"] = torch.zeros(4, 3)
    state["0.bais"] = state.pop("0.bias")
    state["1.num_batches_tracked"] = torch.zeros(())
    message = refused(save(state, tmp_path / "file.pt"))
    assert "does not fit Sequential" in message
    assert "0.weight is [4, 3] in it, [2, 3] in the model." in message
    assert "it has no 0.bias. Closest: 0.bais" in message
    assert "the model has no 0.bais. Closest: 0.bias" in message
    assert "1.num_batches_tracked is torch.float32 in it, torch.int64 in the model." in message
    assert "+model.arguments.num_classes=10" in message


def test_what_fits_is_taken_by_the_rule_that_the_message_names(tmp_path):
    trained, model = net(), nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(2))
    path = save(trained.state_dict(), tmp_path / "file.pt")
    (rule,) = re.findall(r"\{match.*\}", refused(path, model))
    rules = {"file": yaml.safe_load(rule)}
    plan = initframe.resolve({"rules": {"all": {"match": "*", "init": "torch_default"}, **rules}}, model)
    assert {a.slot.name for a in plan.assignments if a.rule.name == "file"} == {
        n for n in model.state_dict() if n[0] == "1"
    }


def test_names_that_begin_alike_and_fit_in_no_way(tmp_path):
    state = {f"model.{name}": value for name, value in nn.Linear(3, 2).state_dict().items()}
    assert "the model has no model.weight" in refused(save(state, tmp_path / "file.pt"))


def test_many_misfits_are_counted(tmp_path):
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(10)))
    assert "41 problems" in refused(save({f"a{i}": torch.zeros(1) for i in range(20)}, tmp_path / "file.pt"), model)


# --- ties and shards -------------------------------------------------------------------------------------------------


class Tied(nn.Module):
    """A table that is also a head, as in language models."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.body, self.head = nn.Embedding(7, 3), nn.Linear(3, 3), nn.Linear(3, 7, bias=False)
        self.head.weight = self.embed.weight


@pytest.mark.parametrize("lost", ["embed.weight", "head.weight", None])
def test_a_tied_tensor_needs_one_of_its_names(tmp_path, lost):
    trained, model = Tied(), Tied()
    state = {name: value.clone() for name, value in trained.state_dict().items() if name != lost}
    save_file(state, tmp_path / "model.safetensors")
    load_checkpoint(model, tmp_path / "model.safetensors")
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in model.state_dict().items())
    assert model.head.weight is model.embed.weight


def test_save_model_of_safetensors(tmp_path):
    trained, model = Tied(), Tied()
    save_model(trained, str(tmp_path / "model.safetensors"))
    load_checkpoint(model, tmp_path / "model.safetensors")
    assert torch.equal(model.head.weight, trained.head.weight)


def test_a_tied_tensor_with_two_values_or_none(tmp_path):
    state = Tied().state_dict()
    message = refused(save({**state, "head.weight": state["head.weight"] + 1}, tmp_path / "two.pt"), Tied())
    assert "embed.weight and head.weight differ" in message
    none = {name: value for name, value in state.items() if name.startswith("body")}
    message = refused(save(none, tmp_path / "none.pt"), Tied())
    assert "it has no embed.weight" in message
    assert "it has no head.weight" in message


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_a_sharded_checkpoint_by_folder_and_by_index(tmp_path, ending):
    trained = net()
    files = {name: f"model-{i % 2}.{ending}" for i, name in enumerate(trained.state_dict())}
    for file in set(files.values()):
        part = {name: value for name, value in trained.state_dict().items() if files[name] == file}
        (save_file if ending == "safetensors" else save)(part, tmp_path / file)
    index = tmp_path / f"model.{ending}.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    for path in (tmp_path, index):
        model = net()
        load_checkpoint(model, path)
        assert all(torch.equal(value, trained.state_dict()[name]) for name, value in model.state_dict().items())
    (tmp_path / "model-1.safetensors").unlink(missing_ok=True)
    (tmp_path / "model-1.bin").unlink(missing_ok=True)
    assert f"model-1.{ending}" in refused(index)


@pytest.mark.slow
def test_save_pretrained(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"n_layer": 2, "n_embd": 16, "n_head": 2, "vocab_size": 50, "n_positions": 16}
    config = transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    trained = transformers.GPT2LMHeadModel(config)
    trained.save_pretrained(tmp_path / "one")
    trained.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").is_file()
    for folder in ("one", "shards"):
        model = transformers.GPT2LMHeadModel(config)
        load_checkpoint(model, tmp_path / folder)
        assert all(torch.equal(value, trained.state_dict()[name]) for name, value in model.state_dict().items())


# --- entries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("usual", "other"), [("state_dict", "state_dict_ema"), ("model", "model_ema")])
def test_the_entry_that_is_read_is_told_and_can_be_chosen(tmp_path, caplog, usual, other):
    trained, averaged, model = net(), net(), net()
    moments = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": []}
    state = {other: averaged.state_dict(), "optimizer": moments, usual: trained.state_dict(), "epoch": 3}
    path = save(state, tmp_path / "file.pt")
    load_checkpoint(model, path)
    assert torch.equal(model[0].weight, trained[0].weight)
    (record,) = caplog.records
    assert f"{usual} was read" in record.getMessage()
    assert other in record.getMessage()
    assert "optimizer" not in record.getMessage()
    load_checkpoint(model, path, other)
    assert torch.equal(model[0].weight, averaged[0].weight)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("keys", [["net"], ["params", "params_ema"], ["student", "teacher"], ["trainer.net"]])
def test_entries_of_other_names_are_named_and_chosen(tmp_path, keys):
    nets = {key: net() for key in keys}
    state = {key: one.state_dict() for key, one in nets.items()}
    path = save({"trainer": {"net": state["trainer.net"]}} if "trainer.net" in state else state, tmp_path / "file.pt")
    message = refused(path)
    assert all(key in message for key in keys)
    assert "model.entry=" in message
    for key in keys:
        model = net()
        load_checkpoint(model, path, key)
        assert torch.equal(model[0].weight, nets[key][0].weight)


def test_an_entry_that_is_not_there(tmp_path):
    path = save({"state_dict": net().state_dict(), "epoch": 3}, tmp_path / "file.pt")
    for entry in ("epoch", "ema", "state_dict.0"):
        with pytest.raises(SourceError) as caught:
            load_checkpoint(net(), path, entry)
        (problem,) = caught.value.problems
        assert problem.options == "It has state_dict."
    save_file(net().state_dict(), tmp_path / "file.safetensors")
    with pytest.raises(SourceError):
        load_checkpoint(net(), tmp_path / "file.safetensors", "state_dict")


@pytest.mark.parametrize("prefix", ["model.", "module.", "net.inner."])
def test_foreign_names_do_not_hide_a_prefix(tmp_path, caplog, prefix):
    trained, model = net(), net()
    state = {f"{prefix}{name}": value for name, value in trained.state_dict().items()}
    path = save(
        {"state_dict": {"loss.weight": torch.zeros(3), **state, "ema.0.weight": torch.ones(9)}}, tmp_path / "f.pt"
    )
    load_checkpoint(model, path)
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in model.state_dict().items())
    (record,) = caplog.records
    assert "loss.weight, ema.0.weight" in record.getMessage()


def test_foreign_names_in_the_model_itself_are_refused(tmp_path):
    state = {f"model.{name}": value for name, value in net().state_dict().items()}
    message = refused(
        save({**state, "model.2.weight": torch.zeros(2), "loss.weight": torch.zeros(3)}, tmp_path / "f.pt")
    )
    assert "the model has no 2.weight" in message
    assert "loss.weight" not in message


# --- names of other versions -----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`")
@pytest.mark.parametrize("names", ["weight_norm", "spectral_norm"])
@pytest.mark.parametrize("forward", [True, False], ids=["old file", "new file"])
def test_hooks_and_parametrizations(tmp_path, names, forward):
    wraps = [getattr(nn.utils, names), getattr(nn.utils.parametrizations, names)]
    trained, model = (
        nn.Sequential(wrap(nn.Linear(3, 2)), nn.BatchNorm1d(2)).eval() for wrap in wraps[:: 1 if forward else -1]
    )
    trained.train()(torch.randn(8, 3))
    load_checkpoint(model, save(trained.eval().state_dict(), tmp_path / "file.pt"))
    x = torch.randn(4, 3)
    torch.testing.assert_close(model(x), trained(x), rtol=0, atol=0)


def test_gamma_and_beta(tmp_path):
    trained, model = (nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)) for _ in range(2))
    nn.init.normal_(trained[1].weight)
    state = trained.state_dict()
    old = {name.replace("1.weight", "1.gamma").replace("1.bias", "1.beta"): value for name, value in state.items()}
    load_checkpoint(model, save({f"bert.{name}": value for name, value in old.items()}, tmp_path / "file.pt"))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


class Renamed(nn.Linear):
    """A layer that reads its weight under an older name, and transposed."""

    def __init__(self) -> None:
        super().__init__(3, 2)
        self.register_load_state_dict_pre_hook(self.rename)

    @staticmethod
    def rename(module, state, prefix, *_) -> None:
        if f"{prefix}kernel" in state:
            state[f"{prefix}weight"] = state.pop(f"{prefix}kernel").T


def test_the_models_own_load_hooks_run_before_anything_is_refused(tmp_path):
    model = nn.Sequential(Renamed())
    kernel, bias = torch.randn(3, 2), torch.randn(2)
    load_checkpoint(model, save({"0.kernel": kernel, "0.bias": bias}, tmp_path / "file.pt"))
    assert torch.equal(model[0].weight, kernel.T)
    assert "it has no 0.bias" in refused(save({"0.kernel": kernel}, tmp_path / "less.pt"), model)
    message = refused(save({"0.kernel": torch.randn(3, 4), "0.bias": bias}, tmp_path / "wide.pt"), model)
    assert "0.weight is [4, 3] in it, [2, 3] in the model." in message
    assert "a load hook of 0 fails" in refused(
        save({"0.kernel": bias[None, None], "0.bias": bias}, tmp_path / "x.pt"), model
    )


# --- no checkpoint ---------------------------------------------------------------------------------------------------


def test_no_file(tmp_path):
    assert "does not exist" in refused(tmp_path / "nothing.pt")
    assert "is a directory" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is no regular file" in refused(tmp_path / "pipe")


@pytest.mark.parametrize("content", [b"", b"\0", b"no checkpoint at all", b"\x89PNG\r\n\x1a\n", b"\0" * 100])
def test_another_kind_of_file(tmp_path, content):
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    assert "is no checkpoint" in refused(path)


@pytest.mark.parametrize("kept", [1, 9, 60, 0.5, 0.99])
@pytest.mark.parametrize("way", ["safetensors", "torch"])
def test_half_a_file(tmp_path, way, kept):
    path = tmp_path / "file"
    WAYS[way](net().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert refused(path)


@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_one_wrong_byte_of_any_part_that_is_read(tmp_path, place):
    whole = save(net().state_dict(), tmp_path / "file.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "file.pt") as archive:
        read = [info for info in archive.infolist() if info.filename.startswith(("file/data.pkl", "file/data/"))]
    assert len(read) == 1 + len(net().state_dict())
    for info in read:
        name, extra = struct.unpack_from("<HH", whole, info.header_offset + 26)
        begin = info.header_offset + 30 + name + extra
        wrong = bytearray(whole)
        wrong[begin + round(place * (info.file_size - 1))] ^= 1
        (tmp_path / "wrong.pt").write_bytes(wrong)
        message = refused(tmp_path / "wrong.pt")
        assert "is corrupt" in message
        assert info.filename in message


def test_a_file_without_sums(tmp_path):
    trained, model = net(), net()
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(compute_crc32=False)
    try:
        save(trained.state_dict(), tmp_path / "file.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    load_checkpoint(model, tmp_path / "file.pt")
    assert torch.equal(model[0].weight, trained[0].weight)


def test_parts_that_lie_over_each_other(tmp_path):
    path = save({"0.weight": torch.zeros(1000)}, tmp_path / "file.pt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.filelist += 3 * [archive.getinfo("file/data/0")]
        archive._didModify = True
    assert "larger than the whole" in refused(path)


def test_the_format_before_torch_1_6(tmp_path):
    path = save(net().state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    message = refused(path)
    assert "format before 1.6" in message
    (line,) = re.findall(r"torch\.save\(.*\)", message)
    eval(line, {"torch": torch, "old": path, "new": tmp_path / "new.pt"})
    load_checkpoint(net(), tmp_path / "new.pt")


def test_a_zip_file_of_something_else(tmp_path):
    path = tmp_path / "file.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes/readme.txt", "hello")
    assert "none of torch's" in refused(path)


@pytest.mark.parametrize("state", [[torch.zeros(2)], torch.zeros(2), {"epoch": 3}, {1: torch.zeros(2)}, {}], ids=str)
def test_no_state_dict(tmp_path, state):
    assert "holds no state_dict" in refused(save(state, tmp_path / "file.pt"))


@pytest.mark.filterwarnings("ignore:Validating sparse")
def test_sparse_tensors(tmp_path):
    state = {**net().state_dict(), "0.weight": torch.eye(2, 3).to_sparse()}
    assert refused(save(state, tmp_path / "file.pt"))


@pytest.mark.filterwarnings("ignore")
def test_quantized_tensors(tmp_path):
    state = {**net().state_dict(), "0.weight": torch.quantize_per_tensor(torch.eye(2, 3), 0.1, 0, torch.qint8)}
    assert refused(save(state, tmp_path / "file.pt"))


# --- files that hold code --------------------------------------------------------------------------------------------


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["alone", "in a state_dict"])
def test_a_pickle_that_runs_code(tmp_path, place, new):
    marker = tmp_path / "marker"
    payload = Bomb(marker) if place == "alone" else {**net().state_dict(), "bomb": Bomb(marker)}
    path = save(payload, tmp_path / "file.pt", _use_new_zipfile_serialization=new)
    message = refused(path)
    assert ("it names" in message) if new else ("bare pickle" in message)
    assert "safetensors" in message
    assert not marker.exists()


def test_a_pickled_module(tmp_path):
    message = refused(save(net(), tmp_path / "file.pt"))
    assert "torch.nn.modules.container.Sequential" in message


def test_torchscript(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(net().eval()), tmp_path / "file.pt")
    assert "TorchScript" in refused(tmp_path / "file.pt")


def test_an_exported_program(tmp_path):
    path = tmp_path / "file.pt2"  # the layout of torch.export.save
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("file/archive_format", "pt2")
        archive.writestr("file/models/model.json", "{}")
    assert ".pt2" in refused(path)


# --- files that promise more than they hold --------------------------------------------------------------------------


class Claim:
    """A tensor of a trillion elements on a storage of one."""

    def __reduce__(self):
        storage = torch.zeros(1).untyped_storage()
        typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
        return torch._utils._rebuild_tensor_v2, (typed, 0, (10**6, 10**6), (10**6, 1), False, OrderedDict())


def test_a_tensor_larger_than_its_file(tmp_path):
    assert "corrupt" in refused(save({"0.weight": Claim()}, tmp_path / "file.pt"))


def safetensors_file(path: Path, header: bytes, length: int | None = None) -> Path:
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header)
    return path


def test_an_announced_header(tmp_path):
    assert "announces" in refused(safetensors_file(tmp_path / "file", b"{}", 1 << 40))
    assert "corrupt" in refused(safetensors_file(tmp_path / "file", b"{}", 1 << 20))


def test_offsets_behind_the_end(tmp_path):
    entry = {"0.weight": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}
    assert "corrupt" in refused(safetensors_file(tmp_path / "file", json.dumps(entry).encode()))


def test_a_dtype_that_no_model_here_holds(tmp_path):
    entry = {"0.weight": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}
    header = json.dumps(entry).encode()
    assert "F6_E2M3" in refused(safetensors_file(tmp_path / "file", header + b"abc", len(header)))


@pytest.mark.parametrize("way", ["safetensors", "torch"])
def test_too_many_tensors(tmp_path, monkeypatch, way):
    monkeypatch.setattr(reading, "TENSORS", 3)
    WAYS[way](net().state_dict(), tmp_path / "file")
    assert "more than 3 entries" in refused(tmp_path / "file")


def test_a_large_index(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "INDEX_BYTES", 10)
    assert "10 is the limit" in refused(save(net().state_dict(), tmp_path / "file.pt"))


def test_a_compressed_archive(tmp_path):
    source = save(net().state_dict(), tmp_path / "source.pt")
    path = tmp_path / "file.pt"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert "compressed" in refused(path)
