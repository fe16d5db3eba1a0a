import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from initframe.stream import backend_of, backends, digest, draw, key


@pytest.fixture
def without_llvmlite(monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    monkeypatch.delitem(sys.modules, "initframe.stream.cpu", raising=False)
    monkeypatch.delattr("initframe.stream.cpu", raising=False)
    backends._cpu.cache_clear()
    yield
    backends._cpu.cache_clear()


def test_cpus_are_served_by_compiled_kernels():
    assert backend_of("cpu") == "llvm"
    assert backend_of("cuda") == "eager"


def test_without_llvmlite_the_same_bits_and_one_notice(request, caplog):
    args = "truncated_normal", (0.0, 1.0, -2.0, 2.0), key("w", 3), 5, 1000
    expected = draw(*args)
    total = digest(expected)
    request.getfixturevalue("without_llvmlite")
    with caplog.at_level(logging.WARNING):
        assert backend_of("cpu") == "eager"
        assert torch.equal(draw(*args), expected)
        assert digest(expected) == total
    assert len(caplog.records) == 1
    assert "Install llvmlite" in caplog.text


def test_threads_that_draw_first_together_are_told_once(without_llvmlite, caplog):
    together = threading.Barrier(8)

    def drawn(_):
        together.wait()
        return draw("uniform", (0.0, 1.0), key("w", 0), 0, 10)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(drawn, range(8)))
    assert len(caplog.records) == 1


def test_importing_does_not_load_llvmlite():
    code = "import sys, initframe.stream; sys.exit('llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
