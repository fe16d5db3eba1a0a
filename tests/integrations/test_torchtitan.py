"""torchtitan's real Llama 3 through its own trainer, on two real processes; each check is a test."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("torchtitan_processes.py")
pytest.importorskip(
    "torchtitan", reason="torchtitan is no part of the integrations extra: it holds other libraries back"
)
pytestmark = pytest.mark.slow


def checks():
    body = ast.parse(SCRIPT.read_text(encoding="utf-8")).body
    (names,) = (n.value for n in body if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "CHECKS")
    return [name.id for name in names.elts]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("titan")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, str(SCRIPT), str(folder)], capture_output=True, text=True, timeout=300, env=environment, cwd=folder
    )
    files = [folder / f"{rank}.json" for rank in range(2)]
    assert all(file.exists() for file in files), done.stderr[-3000:]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


@pytest.mark.parametrize("check", checks())
def test_two_processes(check, told):
    assert [rank.get(check, "not run: an earlier check failed") for rank in told] == ["passed", "passed"]
