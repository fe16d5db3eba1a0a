"""Checkpoints of several files: all of them, or a word on what is missing."""

import json

import pytest
import torch
from refusals import refused
from safetensors.torch import save_file

from initframe.errors import SourceError
from initframe.files.archive import open_archive
from initframe.files.shards import list_files, open_checkpoint

TENSORS = {"a": torch.arange(3.0), "b": torch.arange(4.0), "c": torch.arange(5.0)}


def sharded(folder, ending="safetensors"):
    """Write two shards and their index, as save_pretrained does."""
    save = save_file if ending == "safetensors" else torch.save
    save({"a": TENSORS["a"]}, folder / f"model-1-of-2.{ending}")
    save({name: TENSORS[name] for name in "bc"}, folder / f"model-2-of-2.{ending}")
    names = {"a": f"model-1-of-2.{ending}", "b": f"model-2-of-2.{ending}", "c": f"model-2-of-2.{ending}"}
    index = folder / f"model.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return index


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_an_index_and_its_folder_give_all_tensors(tmp_path, ending):
    index = sharded(tmp_path, ending)
    save_file({"a": torch.ones(7)}, tmp_path / "consolidated.safetensors") if ending == "safetensors" else None
    for path in (index, tmp_path):
        contents = open_checkpoint(path)
        assert contents.entries.keys() == TENSORS.keys()
        assert all(torch.equal(contents.value(name), value) for name, value in TENSORS.items())
        assert all(torch.equal(contents.values()[name], value) for name, value in TENSORS.items())
        assert torch.equal(open_archive(str(path)).read("c"), TENSORS["c"])


def test_a_single_pickle_of_a_folder(tmp_path):
    torch.save(TENSORS, tmp_path / "pytorch_model.bin")
    (tmp_path / "training_args.bin").write_bytes(b"code")
    assert open_checkpoint(tmp_path).entries.keys() == TENSORS.keys()


def test_a_shard_that_is_missing(tmp_path):
    index = sharded(tmp_path)
    (tmp_path / "model-2-of-2.safetensors").unlink()
    (problem,) = refused(lambda: open_checkpoint(index))
    assert problem.subject == str(index)
    assert "model-2-of-2.safetensors" in problem.fact


def test_a_shard_that_lacks_what_the_index_names(tmp_path):
    sharded(tmp_path)
    save_file({"b": TENSORS["b"]}, tmp_path / "model-2-of-2.safetensors")
    for opened in (lambda: open_checkpoint(tmp_path), lambda: open_archive(str(tmp_path))):
        (problem,) = refused(opened)
        assert " c," in problem.fact


def test_several_indexes(tmp_path):
    index = sharded(tmp_path)
    index.with_name("model.fp16.safetensors.index.json").write_bytes(index.read_bytes())
    (problem,) = refused(lambda: list_files(tmp_path))
    assert index.name in problem.options
    assert list_files(index).promised == ("a", "b", "c")


@pytest.mark.parametrize(
    "content",
    [
        *[b"", b"{", b"[]", b"{}", b"[" * 100_000, b'{"weight_map": {}}', b'{"weight_map": {"a": 1}}'],
        *[b'{"weight_map": {"a": "../x"}}', b'{"weight_map": {"a": "/etc/passwd"}}'],
    ],
)
def test_what_is_no_index(tmp_path, content):
    path = tmp_path / "model.safetensors.index.json"
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        open_checkpoint(path)
    assert caught.value.problems[0].subject == str(path)


def test_a_folder_without_tensors(tmp_path):
    (problem,) = refused(lambda: open_checkpoint(tmp_path))
    assert "safetensors" in problem.fix
