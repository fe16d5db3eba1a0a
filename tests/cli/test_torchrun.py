"""The reinit job in the processes of torchrun: the same files as in one."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from initframe.cli import torchrun
from tests.cli.conftest import SMALL, is_hydras

pytestmark = pytest.mark.slow

TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "initframe.cli.torchrun")


def test_two_processes_write_what_one_does(command, tmp_path):
    line = [sys.executable, *TORCHRUN, *SMALL, "hydra.run.dir=sharded"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("SqueezeNet × xavier_relu, seed 0: 52 tensors") == 1
    assert done.stdout.endswith("Files in sharded: model.safetensors, manifest.json, plan.txt\n")
    assert command(*SMALL, "hydra.run.dir=whole").code == 0
    found, expected = (
        {path.name: path for path in Path(folder).iterdir() if not is_hydras(path)} for folder in ("sharded", "whole")
    )
    assert found.keys() == expected.keys()
    assert json.loads(found["manifest.json"].read_text()) == json.loads(expected["manifest.json"].read_text())
    tensors, same = load_file(found["model.safetensors"]), load_file(expected["model.safetensors"])
    assert tensors.keys() == same.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in same.items())


BREAKING = """
import os
from unittest import mock
from initframe.files import safetensors

if os.environ["RANK"] == "0":
    mock.patch.object(safetensors, "_bytes", side_effect=OSError(5, "Input/output error")).start()
"""


def test_what_goes_wrong_in_one_process_ends_all(tmp_path):
    """The others wait for it in a collective."""
    (tmp_path / "breaking.py").write_text(BREAKING)
    line = [sys.executable, *TORCHRUN, *SMALL, "hydra.run.dir=broken", "plugins=[breaking]"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    assert f"error: {tmp_path / 'broken'}: Input/output error. Choose another place" in done.stderr
    assert all(is_hydras(path) for path in (tmp_path / "broken").rglob("*"))


def test_without_torchrun_it_says_how(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SystemExit, match="torchrun --nproc-per-node"):
        torchrun.main()


def test_the_former_name_warns(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delitem(sys.modules, "initframe.cli.distributed", raising=False)
    with pytest.warns(FutureWarning, match=r"is now initframe\.cli\.torchrun"), pytest.raises(SystemExit):
        runpy.run_module("initframe.cli.distributed", run_name="__main__")
