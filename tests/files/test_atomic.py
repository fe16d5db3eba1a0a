"""Files that are whole or not there, and a model in one of them."""

from __future__ import annotations

import errno
import os
import stat

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from initframe.errors import SourceError
from initframe.files.atomic import replacing
from initframe.files.safetensors import save_tensors


def test_several_files_appear_together(tmp_path):
    places = [tmp_path / "new" / name for name in "ab"]
    with replacing(*places) as drafts:
        for draft in drafts:
            draft.write_text("new")
            assert draft.parent == tmp_path / "new"
        assert not any(place.exists() for place in places)
    assert [place.read_text() for place in places] == ["new", "new"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a", "b"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_changes_if_anything_goes_wrong(tmp_path, error):
    (tmp_path / "a").write_text("old")
    with pytest.raises(error), replacing(tmp_path / "a", tmp_path / "b") as (draft, _):  # noqa: PT012
        draft.write_text("half")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_results_are_as_private_as_the_user_wants(tmp_path):
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "a") as (draft,):
            assert stat.S_IMODE(draft.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "a").symlink_to(tmp_path / "precious")
    with replacing(tmp_path / "a") as (draft,):
        draft.write_text("new")
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "a").is_symlink()


@pytest.mark.parametrize("place", ["file/a", "folder"])
def test_places_that_cannot_be_written(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(OSError, match=str(tmp_path / place.split("/")[0])),
        replacing(tmp_path / "good", tmp_path / place),
    ):
        pass
    assert not (tmp_path / "good").exists()


@pytest.mark.parametrize("named", [True, False])
def test_a_full_disk_is_told_of_the_place_and_not_of_the_draft(tmp_path, named):
    with pytest.raises(OSError, match="No space left") as caught, replacing(tmp_path / "a") as (draft,):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([str(draft)] if named else []))
    assert caught.value.filename == str(tmp_path / "a" if named else tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_every_name_of_a_model_is_saved(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 2, bias=False))
    model[1].weight = model[0].weight  # tied
    model[3].weight = nn.Parameter(torch.randn(3, 2).T)  # strided
    model.register_buffer("part", torch.arange(10.0)[2:5])
    model.register_buffer("empty", torch.empty(0))
    save_tensors(model, tmp_path / "model")
    written = load_file(tmp_path / "model")
    state = model.state_dict()
    assert written.keys() == state.keys()
    assert all(torch.equal(written[name], state[name]) for name in state)
    model.load_state_dict(written)


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(SourceError, match="cannot save a: it is on the meta device"):
        save_tensors({"a": torch.empty(2, device="meta")}, tmp_path / "model")
