import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from initframe.stream import backend_of, backends, cpu, digest, draw, key

EXECUTES_NOTHING_NEW = """
import ctypes, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
    sys.exit("this kernel has no such switch")
from initframe.stream import backend_of, draw, key
draw("normal", (0.0, 1.0), key("w", 0), 0, 10)
print(backend_of("cpu"))
"""
FORKED_WHILE_COMPILING = """
import os, signal, threading
from initframe.stream import backend_of, cpu, draw, key

def drawn(distribution):
    draw(distribution, (0.0, 1.0), key("w", 0), 0, 10)

def told(module, processor):
    begun.set()
    threading.Event().wait(0.3)  # another thread may go on, and fork
    return compile_(module, processor)

backend_of("cpu")
begun, compile_, cpu._compile = threading.Event(), cpu._compile, told
other = threading.Thread(target=drawn, args=("normal",))
other.start()
begun.wait()
child = os.fork()
if not child:
    signal.alarm(30)
    drawn("uniform")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
other.join()
drawn("uniform")
"""


@pytest.fixture
def without_llvmlite(monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    monkeypatch.delitem(sys.modules, "initframe.stream.cpu", raising=False)
    monkeypatch.delattr("initframe.stream.cpu", raising=False)
    forget()
    yield
    forget()


def forget():
    """Have the CPU's backend loaded anew."""
    for known in (backends._cpu, backends._load_cpu):
        known.cache_clear()


def test_cpus_are_served_by_compiled_kernels():
    assert backend_of("cpu") == "llvm"


def test_probes_draw_from_both_branches_of_the_quantile():
    distribution, args = backends.TRUNCATED
    x = draw(distribution, args, key("probe", 0), 0, 16)
    assert 0 < int((x < 3.2).sum()) < 16  # the branches meet between 3.2 and 3.3
    assert (x > 3.3).any()


def test_other_memory_is_served_by_torchs_operations():
    assert backend_of("meta") == "eager"
    assert backend_of("cuda") == ("triton" if torch.cuda.is_available() else "eager")


def test_a_gpu_whose_kernels_cannot_be_compiled_is_served_by_torchs_operations_and_one_notice(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "initframe.stream.cuda", raising=False)
    monkeypatch.delattr("initframe.stream.cuda", raising=False)
    assert backends._load_cuda.__wrapped__(torch.device("cpu")) is None  # the probe's memory may be anywhere
    assert len(caplog.records) == 1
    assert "Triton cannot be used for cpu" in caplog.text


def test_a_gpu_whose_kernels_give_other_bits_is_served_by_torchs_operations(monkeypatch, caplog):
    pytest.importorskip("triton")
    from initframe.stream import cuda

    monkeypatch.setattr(cuda, "fill", lambda draw: draw.out.zero_())
    assert backends._load_cuda.__wrapped__(torch.device("cpu")) is None
    assert "other bits" in caplog.text


@pytest.mark.parametrize("problem", [OSError, AttributeError, RuntimeError])
def test_a_cpu_whose_kernels_cannot_be_compiled_is_served_by_torchs_operations_and_one_notice(
    monkeypatch, caplog, problem
):
    def compile_(*_):
        raise problem("the reason")

    monkeypatch.setattr(cpu, "fill_kernel", compile_)
    assert backends._load_cpu.__wrapped__() is None
    assert len(caplog.records) == 1
    assert f"llvmlite cannot be used ({problem.__name__}: the reason)" in caplog.text


def test_a_cpu_whose_kernels_give_other_bits_is_served_by_torchs_operations(monkeypatch, caplog):
    monkeypatch.setattr(cpu, "fill", lambda draw: draw.out.zero_())
    assert backends._load_cpu.__wrapped__() is None
    assert "other bits" in caplog.text


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the switch is Linux's")
def test_a_process_that_may_not_execute_new_memory_is_served_by_torchs_operations():
    done = run(EXECUTES_NOTHING_NEW)
    if "no such switch" in done.stderr:
        pytest.skip("this kernel has no such switch")
    assert (done.returncode, done.stdout) == (0, "eager\n")
    assert done.stderr.count("llvmlite cannot be used") == 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_forked_while_a_kernel_is_compiled_can_compile():
    done = run(FORKED_WHILE_COMPILING)
    assert done.returncode == 0, done.stderr


def run(code):
    """Run code in a fresh process."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


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


@pytest.mark.slow
def test_importing_does_not_load_llvmlite():
    code = "import sys, initframe.stream; sys.exit('llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
