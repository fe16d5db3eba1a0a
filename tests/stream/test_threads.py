import _thread
import gc
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from threading import get_ident

import pytest
import torch

from initframe.stream import threads as module
from initframe.stream.threads import BATCH, Task, spread


@pytest.fixture(autouse=True)
def threads_go_home():
    before = _thread._count()
    yield
    patience = time.monotonic() + 10
    while _thread._count() > before and time.monotonic() < patience:
        time.sleep(0.001)
    assert _thread._count() <= before


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_every_task_runs_once(threads):
    ran = []
    sizes = [BATCH // 3] * 10 + [1] * 1000 + [3 * BATCH] * 5
    tasks = (Task(lambda k=k: ran.append(k) or 1, size) for k, size in enumerate(sizes))
    assert sum(spread(tasks)) == len(sizes)
    assert sorted(ran) == list(range(len(sizes)))


def test_tasks_are_read_by_the_calling_thread_as_they_are_needed(threads):
    read = []

    def tasks():
        for _ in range(1000):
            read.append(threading.current_thread())
            yield Task(lambda: 1, BATCH)

    sums = spread(tasks())
    next(sums)
    assert len(read) < 50
    assert sum(sums) == 999
    assert set(read) == {threading.current_thread()}


def test_small_work_stays_in_the_calling_thread(threads):
    assert list(spread(Task(threading.get_ident, 1) for _ in range(1))) == [threading.get_ident()]


def test_errors_reach_the_caller(threads):
    with pytest.raises(ZeroDivisionError):
        sum(spread(Task(lambda k=k: 1 // k, BATCH) for k in (3, 2, 1, 0)))


def test_where_there_are_no_more_threads_the_calling_one_does_it_all(threads, monkeypatch):
    def refused(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module, "start_new_thread", refused)
    ran = []
    assert sum(spread(Task(lambda k=k: ran.append((k, get_ident())) or 1, BATCH) for k in range(50))) == 50
    assert sorted(ran) == [(k, get_ident()) for k in range(50)]


@pytest.fixture
def gate(monkeypatch):
    """A gate for other threads than the calling one; it opens when they are told to end."""
    opened = threading.Event()

    class Crew(module.Crew):
        def dismiss(self):
            self.dismissed = True
            opened.set()
            super().dismiss()

    monkeypatch.setattr(module, "Crew", Crew)
    return opened


def gated(gate, ran, number):
    """Tasks that wait at a gate in any thread but this one."""
    here = get_ident()

    def run(memory):
        if get_ident() != here:
            gate.wait()
        ran.append(get_ident())
        return 1

    for _ in range(number):
        memory = Memory()
        yield Task(lambda memory=memory: run(memory), BATCH)


class Memory:
    """What tasks hold."""


@pytest.mark.parametrize("stop", ["reader", "task", "tasks"])
def test_what_no_thread_has_begun_is_left_undone(threads, gate, stop):
    ran = []

    def fail():
        raise ZeroDivisionError

    def tasks():
        yield from gated(gate, ran, 100)
        if stop == "task":
            yield Task(fail, BATCH)
        fail()

    sums = spread(tasks())
    if stop == "reader":
        next(sums)
        sums.close()
    else:
        with pytest.raises(ZeroDivisionError):
            sum(sums)
    others = [thread for thread in ran if thread != get_ident()]
    assert len(others) <= threads - 1
    assert later(ran) == []


def later(ran):
    """What is done after now, by threads that should have ended."""
    done = len(ran)
    time.sleep(0.005)
    return ran[done:]


def test_no_task_runs_after_an_interrupt_when_a_thread_has_just_begun(threads, monkeypatch):
    """Nobody but the thread itself knows then that it is there."""
    ran, begun = [], threading.Event()

    def interrupted(*thread):
        start(*thread)
        begun.wait()
        raise KeyboardInterrupt

    def run():
        begun.set()
        time.sleep(0.002)
        ran.append(1)
        return 1

    start = module.start_new_thread
    monkeypatch.setattr(module, "start_new_thread", interrupted)
    if threads > 1:
        with pytest.raises(KeyboardInterrupt):
            sum(spread(Task(run, BATCH) for _ in range(50)))
    assert later(ran) == []


@pytest.fixture
def alarms():
    """Make alarms interrupts. What a callback of the garbage collector raises is lost, so it rests."""
    if not hasattr(signal, "setitimer"):
        pytest.skip("this system has no interval timers")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    gc.disable()
    yield
    gc.enable()
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarms")
def test_no_task_runs_after_an_interrupt_whenever_it_comes(threads):
    ran, delays = [], random.Random(0)

    def interrupted():
        signal.setitimer(signal.ITIMER_REAL, delays.uniform(1e-5, 1e-3))
        sum(spread(Task(lambda: time.sleep(1e-4) or ran.append(1) or 1, BATCH) for _ in range(10_000)))

    for _ in range(100):
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert later(ran) == []


@pytest.mark.slow
@pytest.mark.usefixtures("alarms")
def test_an_interrupt_while_the_reader_stops_has_to_wait(threads):
    ran, delays = [], random.Random(0)

    def interrupted(sums):
        signal.setitimer(signal.ITIMER_REAL, delays.uniform(5e-6, 6e-5))
        sums.close()
        time.sleep(1)

    for _ in range(200):
        sums = spread(Task(lambda: time.sleep(1e-3) or ran.append(1) or 1, BATCH) for _ in range(8))
        next(sums)
        with pytest.raises(KeyboardInterrupt):
            interrupted(sums)
        if sums.gi_frame is None:
            assert later(ran) == []
        else:  # it came before the reader stopped
            sums.close()


def test_a_thread_that_waits_for_more_holds_no_memory():
    crew, memory = module.Crew(1), Memory()
    alive = weakref.ref(memory)
    crew.hand_over([Task(lambda memory=memory: 1, 1)])
    del memory
    assert crew.results.get() == 1
    patience = time.monotonic() + 10
    while alive() and time.monotonic() < patience:
        time.sleep(0.001)
    assert alive() is None
    crew.dismiss()


def test_memory_is_held_no_longer_than_its_task(threads, gate):
    alive = weakref.WeakSet()

    def tasks():
        for task in gated(gate, [], 1000):
            alive.add(task.run.__defaults__[0])
            most.append(len(alive))
            yield task
        gate.set()

    most = []
    assert sum(spread(tasks())) == 1000
    # Those that wait, one in every thread, the last that this one ran, and the next.
    assert max(most) <= module.AHEAD * threads + threads + 2


BESIDE = """
import os, torch
from initframe.stream.threads import Task, single_threaded, spread

def threads():
    return len(os.listdir("/proc/self/task"))

torch.set_num_threads(2)
matrix = torch.randn(700, 700, dtype=torch.float64)
with single_threaded():
    matrix @ matrix
    before, seen = threads(), []

    def multiply():
        matrix @ matrix
        seen.append(threads())
        return 1

    list(spread((Task(multiply, 1 << 20) for _ in range(8)), 2))
print(before, max(seen))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are counted in /proc")
@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="only MKL begins threads by itself")
def test_threads_of_a_crew_begin_none_of_their_own():
    done = subprocess.run([sys.executable, "-c", BESIDE], capture_output=True, text=True, check=True)
    before, most = map(int, done.stdout.split())
    assert most == before + 1
