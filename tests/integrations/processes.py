"""Checks that run in processes of a real launcher: started once, told one by one."""

import ast
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import torch.distributed as dist

ROOT = Path(__file__).parents[2]


def run(checks, folder):
    """Run checks in this process; the first that fails ends it, and the launcher ends the others.

    Args:
        checks: functions without arguments.
        folder: where each process writes what came of them.
    """
    told = {}
    for check in checks:
        try:
            check()
            told[check.__name__] = "passed"
        except (Exception, pytest.fail.Exception):
            told[check.__name__] = traceback.format_exc()
            raise
        finally:
            rank = dist.get_rank() if dist.is_initialized() else os.environ["RANK"]
            (folder / f"{rank}.json").write_text(json.dumps(told), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


def names(script):
    """The names in a script's ``CHECKS``; it imports what the test's own process does not need."""
    body = ast.parse(script.read_text(encoding="utf-8")).body
    (checks,) = (n.value for n in body if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "CHECKS")
    return [name.id for name in checks.elts]


def launch(launcher, script, folder):
    """Start two processes, and return what each told of its checks.

    Args:
        launcher: a module and its arguments.
        script: what they run.
        folder: an empty one.
    """
    command = [sys.executable, "-m", *launcher, str(script), str(folder)]
    own = {
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=os.environ | own, cwd=folder, check=False
    )
    files = [folder / f"{rank}.json" for rank in range(2)]
    assert all(file.exists() for file in files), done.stderr[-3000:]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def passed(check, told):
    """Assert that both processes passed a check."""
    results = [rank.get(check, "not run: an earlier check failed") for rank in told]
    assert results == ["passed", "passed"], "\n\n".join(results)
