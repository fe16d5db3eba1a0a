"""Files are whole or not there; a model comes back from one as it was."""

import os
import stat

import pytest
import torch
from nets import Tower, changed, convnet
from safetensors.torch import load_file
from torch import nn

from initframe.checkpoint import replacing, save_tensors
from initframe.errors import SourceError


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# --- replacing -------------------------------------------------------------------------------------------------------


def test_files_appear_together(tmp_path):
    places = (tmp_path / "deep" / "a.txt", tmp_path / "b.txt")
    with replacing(*places) as drafts:
        for draft, place in zip(drafts, places, strict=True):
            assert draft.parent == place.parent
            draft.write_text(f"new {place.name}", encoding="utf-8")
        assert not any(place.exists() for place in places)
    assert [place.read_text(encoding="utf-8") for place in places] == ["new a.txt", "new b.txt"]
    assert files(tmp_path) == ["a.txt", "b.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_whatever_goes_wrong_leaves_the_places_as_they_were(tmp_path, error):
    old = tmp_path / "old.txt"
    old.write_text("old", encoding="utf-8")

    def fail():
        with replacing(old, tmp_path / "new.txt") as drafts:
            drafts[0].write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(error):
        fail()
    assert files(tmp_path) == ["old.txt"]
    assert old.read_text(encoding="utf-8") == "old"


def test_results_are_as_readable_as_any_file(tmp_path):
    before = os.umask(0o022)
    try:
        with replacing(tmp_path / "a.txt") as (draft,):
            draft.write_text("a", encoding="utf-8")
        assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_a_folder_that_cannot_be_is_said(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    for place, fact in ((tmp_path / "file" / "a.txt", ""), (tmp_path / "folder", "it is a folder")):
        with pytest.raises(SourceError, match=rf"cannot write {place}: {fact}.*Choose another"), replacing(place):
            pass
    assert files(tmp_path) == ["file"]


# --- tensors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [Tower, convnet, lambda: nn.LSTM(3, 4)])
def test_a_model_comes_back_as_it_was(tmp_path, build):
    model, other = build(), build()
    save_tensors(model, tmp_path / "m.safetensors")
    other.load_state_dict(load_file(tmp_path / "m.safetensors"))
    assert changed(other, model.state_dict()) == set()


ODD = {
    "transposed": torch.arange(12.0).view(3, 4).t(),
    "channels_last": torch.arange(120.0).view(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "scalar": torch.tensor(3.0),
    "empty": torch.zeros(0, 3),
    "empty too": torch.zeros(3, 0),
    "expanded": torch.ones(1).expand(4),
    "bfloat16": torch.ones(3, dtype=torch.bfloat16),
    "integers": torch.arange(3),
    "bools": torch.tensor([True, False]),
    "parameter": nn.Parameter(torch.ones(2)),
}


def test_tensors_of_any_layout_and_dtype(tmp_path):
    flat = torch.arange(10.0)
    state = {**ODD, "head": flat[:4], "tail": flat[4:], "all": flat, "again": flat}
    save_tensors(state, tmp_path / "m.safetensors")
    assert changed(load_file(tmp_path / "m.safetensors"), state) == set()


def test_what_is_no_tensor_is_left_out(tmp_path):
    save_tensors({"w": torch.ones(2), "extra": {"version": 1}, "n": 3}, tmp_path / "m.safetensors")
    assert list(load_file(tmp_path / "m.safetensors")) == ["w"]


@pytest.mark.parametrize(
    "state",
    [{"w": torch.zeros(2, device="meta")}, {"w": torch.zeros(2, 2).to_sparse()}, {"w": nn.LazyLinear(3).weight}],
    ids=["meta", "sparse", "lazy"],
)
def test_what_has_no_memory_is_said(tmp_path, state):
    with pytest.raises(SourceError, match=r"cannot save m\.safetensors: "):
        save_tensors(state, tmp_path / "m.safetensors")


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(SourceError, match="cannot save nowhere"):
        save_tensors({"w": torch.ones(2)}, tmp_path / "no" / "nowhere.safetensors")
