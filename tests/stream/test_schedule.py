import threading

import pytest
import torch

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
