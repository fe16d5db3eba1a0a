"""accelerate and Lightning on two real processes, started once by ``accelerate launch``; each check is a test."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("two_processes.py")


def checks():
    """The names in ``CHECKS``: the script imports what this process does not need."""
    (names,) = (n.value for n in ast.parse(SCRIPT.read_text(encoding="utf-8")).body if _is_checks(n))
    return [name.id for name in names.elts]


def _is_checks(node):
    return isinstance(node, ast.Assign) and node.targets[0].id == "CHECKS"


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each of the two processes told of its checks."""
    folder = tmp_path_factory.mktemp("processes")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--use_fsdp", "--fsdp_version", "2"]
    launch += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launch += ["--main_process_port", "0", "--num_cpu_threads_per_process", "1", str(SCRIPT), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(launch, capture_output=True, text=True, timeout=300, env=environment, cwd=folder)
    files = [folder / f"{rank}.json" for rank in range(2)]
    assert all(file.exists() for file in files), done.stderr[-3000:]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


@pytest.mark.parametrize("check", checks())
def test_two_processes(check, told):
    assert [rank.get(check, "not run: an earlier check failed") for rank in told] == ["passed", "passed"]
