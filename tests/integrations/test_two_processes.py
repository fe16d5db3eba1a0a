"""accelerate and Lightning on two real processes, started once by ``accelerate launch``; each check is a test."""

from pathlib import Path

import pytest

from tests.integrations import processes

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("two_processes.py")
LAUNCHER = ["accelerate.commands.launch", "--use_fsdp", "--fsdp_version", "2", "--num_processes", "2"]
LAUNCHER += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return processes.launch(LAUNCHER, SCRIPT, tmp_path_factory.mktemp("accelerate"))


@pytest.mark.parametrize("check", processes.names(SCRIPT))
def test_two_processes(check, told):
    processes.passed(check, told)
