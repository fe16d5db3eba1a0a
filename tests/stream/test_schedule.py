import threading
import weakref

import pytest
import torch

from initframe.stream import schedule
from initframe.stream.schedule import BATCH, Task, spread


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


@pytest.fixture
def gate(monkeypatch):
    """A gate for other threads than the calling one; it opens when they are told to end."""
    opened = threading.Event()

    class Pool(schedule.ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            opened.set()
            super().shutdown(wait=wait)

    monkeypatch.setattr(schedule, "ThreadPoolExecutor", Pool)
    return opened


def gated(gate, ran, number):
    """Tasks that wait at a gate in any thread but this one."""
    here = threading.current_thread()

    def run(memory):
        if threading.current_thread() is not here:
            gate.wait()
        ran.append(threading.current_thread())
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
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("initframe")]
    others = [thread for thread in ran if thread is not threading.current_thread()]
    assert len(others) <= threads - 1


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
    assert max(most) <= schedule.AHEAD * threads + 4
