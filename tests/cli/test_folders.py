"""What a run does to its folder when the disk is full."""

import errno

import pytest

from initframe.cli import folders


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "output_directory", lambda: tmp_path)
    return tmp_path


def test_without_room_the_earlier_run_goes_first(here):
    names = ("manifest.json", "model.safetensors", "plan.txt")
    for name in (*names, "mine.txt"):
        (here / name).touch()
    found = []

    def write():
        found.append(sorted(path.name for path in here.iterdir()))
        if len(found[-1]) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    folders.with_room(write)
    assert found == [sorted([*names, "mine.txt"]), ["mine.txt"]]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_what_more_room_does_not_help_is_raised(here, number):
    if number == errno.EIO:
        (here / "manifest.json").touch()

    def write():
        raise OSError(number, "as it is")

    with pytest.raises(OSError, match="as it is"):
        folders.with_room(write)
    assert (here / "manifest.json").exists() == (number == errno.EIO)
