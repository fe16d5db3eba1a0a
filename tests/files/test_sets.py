"""Sets of files: the record goes first and returns last, a killed writer leaves no mixture, two writers do not meet."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from refusals import refused

from initframe.errors import SourceError
from initframe.files import atomic
from initframe.files.atomic import locked, replacing
from initframe.files.shards import open_checkpoint
from tests import kills

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks and forks")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_record_goes_first_and_returns_last(tmp_path, monkeypatch):
    old = [tmp_path / name for name in ("a", "b", "record", "stale", "older_record")]
    for path in old:
        path.write_text("old")
    order = []
    unlink, replace = type(tmp_path).unlink, type(tmp_path).replace
    monkeypatch.setattr(
        type(tmp_path), "unlink", lambda path, **kw: (order.append(f"-{path.name}"), unlink(path, **kw))[1]
    )
    monkeypatch.setattr(type(tmp_path), "replace", lambda path, to: (order.append(f"+{to.name}"), replace(path, to))[1])
    with replacing(*old[:3], stale=[old[4], old[3], old[2]]) as drafts:
        for draft in drafts:
            draft.write_text("new")
    assert [one for one in order if "part" not in one] == ["-record", "-older_record", "-stale", "+a", "+b", "+record"]
    assert names(tmp_path) == ["a", "b", "record"]


def test_everything_is_on_the_disk_before_the_record_goes(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(str(Path(f"/proc/self/fd/{handle}").readlink())), fsync(handle))
    )
    with replacing(tmp_path / "a", tmp_path / "record") as drafts:
        drafts[0].write_text("a")
    assert [*map(str, drafts)] == synced[:2]
    assert synced[2:] == [str(tmp_path)] * 2  # the names of the others, then that of the record


def test_two_sets_in_one_folder_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "PATIENCE", 0.0)
    with (
        replacing(tmp_path / "a", tmp_path / "record") as (draft, _),
        pytest.raises(BlockingIOError) as caught,
        locked(tmp_path, patience=0.0),
    ):
        pass
    assert caught.value.filename == str(tmp_path)
    assert not draft.exists()
    with locked(tmp_path), replacing(tmp_path / "b") as (draft,):  # one file is replaced in one step
        draft.write_text("b")
    assert (tmp_path / "b").read_text() == "b"


def test_parts_of_the_dead_are_swept_and_those_of_the_living_are_not(tmp_path):
    dead = [".a.abcd1234.part", ".model-00001-of-00009.safetensors.abcd1234.part"]
    others = [".b.abcd1234.part", ".a.abc.part", "a.abcd1234.part", ".model.safetensors.part"]
    for name in dead + others:
        (tmp_path / name).touch()
    with replacing(tmp_path / "a") as (mine,):
        with replacing(tmp_path / "a") as (other,):
            assert mine.exists()
            other.write_text("other")
        assert mine.exists()
        mine.write_text("mine")
    with replacing(tmp_path / "model-00001-of-00002.safetensors", tmp_path / "record"):
        pass
    assert set(names(tmp_path)) == {*others, "a", "model-00001-of-00002.safetensors", "record"}


def test_a_set_that_fails_leaves_the_earlier_one(tmp_path):
    for name in ("a", "record", "stale"):
        (tmp_path / name).write_text("old")
    paths, stale = (tmp_path / "a", tmp_path / "record"), [tmp_path / "stale"]
    with pytest.raises(ValueError, match="half-way"), replacing(*paths, stale=stale) as drafts:  # noqa: PT012
        drafts[0].write_text("new")
        raise ValueError("half-way")
    assert {(tmp_path / name).read_text() for name in names(tmp_path)} == {"old"}


def test_shards_without_their_index_are_not_read(tmp_path):
    kills.checkpoint(tmp_path, 1)
    assert open_checkpoint(tmp_path).entries
    (tmp_path / "model.safetensors.index.json").unlink()
    assert "no index" in refused(open_checkpoint, tmp_path, kind=SourceError)[0].fact


def test_a_shard_of_another_set_is_not_read(tmp_path):
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        kills.checkpoint(tmp_path / str(seed), seed)
    shard = sorted((tmp_path / "1").glob("*.safetensors"))[0].name
    (tmp_path / "1" / shard).write_bytes((tmp_path / "2" / shard).read_bytes())
    [problem] = refused(open_checkpoint, tmp_path / "1", kind=SourceError)
    assert shard in problem.fact


@pytest.mark.slow
def test_a_killed_writer_leaves_no_mixture():
    """A process of its own, as a fork of one with threads may wait for them."""
    line = [sys.executable, "-m", "tests.kills", "--count", "0", "--each", "2", "--seed", str(random.randrange(10**6))]
    done = subprocess.run(
        line, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "14 kills (14 aimed, 0 at random moments): 0 torn or mixed sets" in done.stdout


@pytest.mark.slow
def test_a_lock_ends_with_its_process(tmp_path):
    code = f"""
import pathlib, time
from initframe.files.atomic import locked
with locked(pathlib.Path({str(tmp_path)!r})):
    print("locked", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(BlockingIOError), locked(tmp_path, patience=0.0):
            pass
        process.kill()
        process.wait()
        with locked(tmp_path, patience=0.0):
            pass
