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


def test_other_memory_is_served_by_torchs_operations():
    assert backend_of("meta") == "eager"
    assert backend_of("cuda") == ("triton" if torch.cuda.is_available() else "eager")


def test_a_gpu_whose_kernels_cannot_be_compiled_is_served_by_torchs_operations_and_one_notice(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "initframe.stream.cuda", raising=False)
    monkeypatch.delattr("initframe.stream.cuda", raising=False)
    assert backends._cuda.__wrapped__(torch.device("cpu")) is None  # the probe's memory may be anywhere
    assert len(caplog.records) == 1
    assert "Triton cannot be used for cpu" in caplog.text


def test_a_gpu_whose_kernels_give_other_bits_is_served_by_torchs_operations(monkeypatch, caplog):
    pytest.importorskip("triton")
    from initframe.stream import cuda

    monkeypatch.setattr(cuda, "fill", lambda draw: draw.out.zero_())
    assert backends._cuda.__wrapped__(torch.device("cpu")) is None
    assert "gives other bits" in caplog.text


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
