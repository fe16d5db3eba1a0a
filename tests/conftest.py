"""What all tests share: golden files, a table of initializers of one's own, logging, profiles of hypothesis."""

import gc
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from initframe.initializers import table as initializer_table

GOLDEN = Path(__file__).parent / "golden"
WHOLLY_SLOW = re.compile(r"^pytestmark = .*\bpytest\.mark\.slow\b", re.MULTILINE)

# Nothing is timed: the machine may be busy.
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", UNTIMED, derandomize=True)
settings.register_profile("desk", UNTIMED)
settings.register_profile("explore", UNTIMED, max_examples=2000)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


def pytest_addoption(parser):
    parser.addoption("--overwrite", action="store_true", help="write golden files anew instead of comparing")


def pytest_ignore_collect(collection_path, config):
    """Import helpers only where a test needs them, and files that are slow as a whole only if slow tests run."""
    if collection_path.suffix != ".py" or collection_path.name == "conftest.py":
        return None
    if not collection_path.name.startswith("test_"):
        return True  # --doctest-modules would import it
    if config.option.markexpr == "not slow" and WHOLLY_SLOW.search(collection_path.read_text(encoding="utf-8")):
        return True
    return None


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect without the garbage collector, and let it look later at what the tests make, not at the libraries."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture
def golden(request):
    """Compare a text with ``golden/NAME``; with --overwrite, write it there."""

    def compare(name, text):
        path = GOLDEN / name
        if request.config.getoption("--overwrite"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
        assert text + "\n" == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture
def table(monkeypatch):
    """The initializers, to which a test may add without the next test seeing it."""
    names = dict(initializer_table._TABLE)
    monkeypatch.setattr(initializer_table, "_TABLE", names)
    return names


@pytest.fixture(scope="module")
def process_group():
    """One gloo process, for DistributedDataParallel."""
    import torch.distributed as dist

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def logging_restored() -> Iterator[Callable[[], None]]:
    """Take off the handlers that Hydra leaves on the root logger: they write to a test's own streams and files.

    Hydra's next job would take them off without closing them, so a test that runs several calls this in between.
    """
    root = logging.getLogger()
    before, level = root.handlers[:], root.level

    def restore() -> None:
        for handler in root.handlers:
            if handler not in before:
                handler.close()
        root.handlers[:], root.level = before, level

    yield restore
    restore()
