"""torchtitan's real Llama 3 through its own trainer, on two real processes; each check is a test."""

from pathlib import Path

import pytest

from tests.integrations import processes

pytest.importorskip("torchtitan", reason="torchtitan holds other libraries back, so no extra installs it")
pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("torchtitan_processes.py")
LAUNCHER = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return processes.launch(LAUNCHER, SCRIPT, tmp_path_factory.mktemp("torchtitan"))


@pytest.mark.parametrize("check", processes.names(SCRIPT))
def test_two_processes(check, told):
    processes.passed(check, told)
