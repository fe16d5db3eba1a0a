"""initframe-verify: exit code 0 only if everything is as promised."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import initframe
from initframe.cli import verify
from tests.cli.conftest import SMALL


@pytest.fixture
def run(command, tmp_path):
    assert command(*SMALL, "hydra.run.dir=run", "seed=3").code == 0
    return tmp_path / "run"


def check(command, *arguments):
    return command("run=run", *arguments, main=verify.main, name="verify.py")


@pytest.mark.slow
def test_a_run_is_verified_made_again_and_compared(command, run):
    left = check(command)
    assert left.code == 0
    assert "52 tensors and 2 files, all as promised" in left.out
    assert left.files == []
    record = json.loads((run / "manifest.json").read_text())
    assert f"Run: {record['run']}" in (run / "plan.txt").read_text()
    assert "torchvision" in record["versions"]
    left = check(command, "regenerate=again.safetensors")
    assert left.code == 0
    assert left.files == ["again.safetensors"]
    assert check(command, "checkpoint=again.safetensors").code == 0
    state = load_file(run / "model.safetensors")
    state["classifier.1.weight"] *= 1.5
    del state["classifier.1.bias"]
    save_file({**state, "more": torch.ones(1)}, run.parent / "trained.safetensors")
    left = check(command, "checkpoint=trained.safetensors")
    assert left.code == 1
    for told in ("classifier.1.weight", "changed", "0.5", "missing", "extra"):
        assert told in left.out
    assert "3 of" in left.err


@pytest.mark.slow
def test_what_is_wrong_is_an_exit_code(command, run):
    path = run / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert check(command).code == 1
    (run / "manifest.json").unlink()
    left = check(command)
    assert left.code == 1
    assert "did not finish" in left.err
    left = command(*SMALL, "hydra.run.dir=run", "seed=4")
    assert "an earlier run that did not finish" in left.err
    assert command(*SMALL, "hydra.run.dir=run", "seed=4", "overwrite=true").code == 0
    assert check(command).code == 0


@pytest.mark.slow
def test_sources_of_code_and_values_are_in_the_manifest(command, user_folder, tmp_path):
    user_folder(
        "my_models.py",
        "import initframe\nfrom initframe import models\nfrom torch import nn\n\n"
        "@models.model('linear')\ndef linear():\n    return nn.Linear(2, 2)\n",
    )
    save_file({"weight": torch.eye(2), "bias": torch.zeros(2)}, tmp_path / "start.safetensors")
    arguments = ("plugins=[my_models]", "model=plugin", "model.name=linear", "+model.checkpoint=start.safetensors")
    left = command(*arguments, "init=zeros_bias", "hydra.run.dir=run")
    assert left.code == 0, left.err
    sources = json.loads((tmp_path / "run/manifest.json").read_text())["sources"]
    assert sources["plugins"]["my_models"]["my_models.py"]["size"] == (tmp_path / "my_models.py").stat().st_size
    assert len(sources["checkpoint"]["files"]["start.safetensors"]["sha256"]) == 64
    assert initframe.verify(tmp_path / "run").ok
