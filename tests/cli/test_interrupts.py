"""A run that is stopped in the middle leaves no half-written file: real processes, real signals."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import is_hydras

SCRIPT = Path(__file__).parents[2] / "scripts/reinit.py"

SLOW = """
import pathlib, time
import initframe
from initframe import models
from torch import nn

@initframe.initializer("slow")
def slow(slot):
    def wait(u):
        pathlib.Path("ready").touch()
        time.sleep(60)
        return u
    return initframe.Elementwise(wait, mean=0.5, std=0.3)

models.model("tiny")(lambda: nn.Linear(2, 2))
"""


def started(folder: Path, replaced: bool) -> subprocess.Popen[str]:
    """A process that stands in the middle of filling a tensor."""
    folder.mkdir()
    (folder / "slow_law.py").write_text(SLOW)
    if replaced:
        (folder / "run").mkdir()
        (folder / "run/model.safetensors").write_text("of an earlier run")
    arguments = [
        "overwrite=true",
        "plugins=[slow_law]",
        "model=plugin",
        "model.name=tiny",
        "hydra.run.dir=run",
        "init=zeros_bias",
    ]
    line = [sys.executable, str(SCRIPT), *arguments, "init.rules.biases.init=slow"]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, cwd=folder, preexec_fn=_hears_interrupts, **pipes)  # noqa: PLW1509


def _hears_interrupts() -> None:
    """What runs in the background of a script inherits that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """Both signals at once: they wait for imports most of the time."""
    home = tmp_path_factory.mktemp("interrupts")
    running = {sent: started(home / sent.name, sent is signal.SIGTERM) for sent in (signal.SIGINT, signal.SIGTERM)}
    for sent, process in running.items():
        while not (home / sent.name / "ready").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
    yield home, running
    for process in running.values():
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_in_the_middle(processes, sent, word):
    home, running = processes
    folder = home / sent.name
    assert len(list((folder / "run").glob(".*.part"))) == 3
    running[sent].send_signal(sent)
    out, err = running[sent].communicate(timeout=30)
    assert running[sent].returncode == 128 + sent
    assert out == ""
    assert err.splitlines()[-1] == f"error: {word}."
    assert "Traceback" not in err
    left = [p.name for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts and not is_hydras(p)]
    if sent is signal.SIGTERM:
        assert sorted(left) == ["model.safetensors", "ready", "slow_law.py"]
        assert (folder / "run/model.safetensors").read_text() == "of an earlier run"
    else:
        assert sorted(left) == ["ready", "slow_law.py"]
