"""What a constructor should not do is told with a fact and a fix, or read with a reason, and nothing is left behind."""

import functools
import queue
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.overrides import _get_current_function_mode_stack

import initframe
from initframe import Constant, materialize, trace
from tests.refusals import refused


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Hooks and modes come off, whatever a build does."""
    hooks = [len(getattr(torch_module, name)) for name in HOOKS]
    yield
    assert torch.overrides._get_current_function_mode_stack() == []
    assert [len(getattr(torch_module, name)) for name in HOOKS] == hooks
    assert not nn.Linear(2, 2).weight.is_meta


HOOKS = [f"_global_{what}_registration_hooks" for what in ("buffer", "module", "parameter")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_whoever_stops_a_build_gets_what_he_asked_for(error):
    def build():
        nn.Linear(2, 2)
        raise error

    with pytest.raises(error):
        trace(build)


def test_generators_are_as_before_a_build_that_seeds_them():
    before = torch.get_rng_state(), random.getstate()

    def build():
        torch.manual_seed(0)
        random.seed(0)
        return nn.Linear(random.randint(2, 5), 2)

    trace(build)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


def deep():
    return deep()


def test_recursion():
    [problem] = refused(trace, deep)
    assert "RecursionError" in problem.fact


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
@pytest.mark.parametrize("build", [lambda: nn.Linear(2, 2).cuda(), lambda: nn.Linear(2, 2, device="cuda")])
def test_a_device_that_is_not_there(build):
    [problem] = refused(trace, build)
    assert "raises" in problem.fact
    assert problem.fix


def test_weights_that_are_asked_for():
    def build(pretrained=False):
        return nn.Linear(2, 2)

    for given in ({"pretrained": True}, {"weights": "DEFAULT"}):
        [problem] = refused(trace, functools.partial(build, **given))
        assert next(iter(given)) in problem.fact
        assert "pretrained=False" in problem.fix
    assert not trace(functools.partial(build, pretrained=False)).skipped
    [problem] = refused(trace, lambda pretrained=True: nn.Linear(2, 2))  # before it begins a download
    assert "pretrained=True" in problem.fact


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.filterwarnings("ignore:.*no-op:UserWarning")
def test_weights_that_are_loaded(assign):
    def build():
        model = nn.Linear(2, 2)
        model.load_state_dict({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, assign=assign)
        return model

    [problem] = refused(trace, build)
    assert "test_bad_builds.py" in problem.fact


def test_a_file_that_is_copied(tmp_path):
    torch.save(torch.randn(2, 2), tmp_path / "w.pt")

    def build():
        model = nn.Linear(2, 2)
        model.weight.data.copy_(torch.load(tmp_path / "w.pt"))
        return model

    plan = trace(build)
    assert "file" in plan.skipped["weight"]
    assert "bias" not in plan.skipped


def trained():
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    return model


def test_a_build_that_trains_has_no_distribution():
    plan = trace(trained)
    assert set(plan.skipped) == {"weight", "bias"}
    assert "run with memory" in plan.warnings[0]


def in_a_thread(run):
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def test_threads_that_a_build_starts_are_seen():
    def build():
        made = []
        in_a_thread(lambda: made.append(nn.Linear(2, 2)))
        model = nn.Sequential(*made, nn.Linear(2, 2), nn.Linear(2, 2))
        in_a_thread(lambda: nn.init.constant_(model[1].weight, 3))
        in_a_thread(lambda: nn.init.orthogonal_(model[2].weight))
        return model

    plan = trace(build)
    assert [plan[f"{i}.weight"].fill.kind for i in range(3)] == ["uniform", "constant", "orthogonal"]
    assert plan["1.weight"].origin.file.endswith("test_bad_builds.py")


def test_a_thread_that_lives_on_is_let_go():
    jobs, done = queue.Queue(), queue.Queue()

    def work():
        while (job := jobs.get()) is not None:
            done.put(job())

    def look():
        return _get_current_function_mode_stack(), sys.getprofile()

    thread = threading.Thread(target=work)

    def build():
        thread.start()
        jobs.put(lambda: len(_get_current_function_mode_stack()))
        assert done.get() == 1
        return nn.Linear(2, 2)

    trace(build)
    try:
        for ask in (lambda: None, look):  # the thread's first call after the constructor lets it go
            jobs.put(ask)
            seen = done.get()
        assert seen == ([], None)
        assert threading.getprofile() is None
    finally:
        jobs.put(None)
        thread.join()


def test_what_an_older_thread_makes_is_not_guessed():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()  # the thread runs
        plan = trace(lambda: nn.Sequential(pool.submit(nn.Linear, 2, 2).result(), nn.Linear(2, 2)))
    assert {a.slot.name for a in plan.assignments} == {"1.weight", "1.bias"}
    assert "thread" in plan.skipped["0.weight"]


class Computed(nn.Module):
    def __init__(self, values):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(values.shape))
        self.bias = nn.Parameter(torch.zeros(3))
        with torch.no_grad():
            self.weight.copy_(torch.as_tensor(values, dtype=torch.float32))


OUTSIDE = {
    "numpy": lambda: np.random.standard_normal((3, 4)),  # noqa: NPY002
    "numpy's own generator": lambda: np.random.default_rng().random((3, 4)),
    "python": lambda: np.array([[random.gauss(0, 1) for _ in range(4)] for _ in range(3)]),
    "a single number": lambda: np.full((3, 4), np.random.random()),  # noqa: NPY002
    "an older thread": lambda: POOL.submit(torch.randn, 3, 4).result().numpy(),
}
POOL = ThreadPoolExecutor(1)


@pytest.mark.parametrize("source", OUTSIDE)
def test_numbers_that_others_draw_are_no_table(source):
    POOL.submit(int).result()
    states = random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    plan = trace(lambda: Computed(OUTSIDE[source]()))
    assert "others each time" in plan.skipped["weight"]
    assert plan["bias"].fill == Constant(0.0)
    assert refused(materialize, plan.model)[0].subject.endswith("on weight [3, 4]")
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == states  # noqa: NPY002


def test_a_table_that_was_written_in_parts_is_copied():
    """As Marian's sinusoids are: halves of a new tensor, from numpy, copied to the parameter."""

    def build():
        model, table = nn.Embedding(3, 4), torch.empty(3, 4)
        table[:, :2], table[:, 2:] = torch.FloatTensor(np.sin(np.ones((3, 2)))), torch.arange(6.0).reshape(3, 2)
        with torch.no_grad():
            model.weight.copy_(table)
        return model

    plan = trace(build)
    assert not plan.skipped
    materialize(plan.model)
    assert torch.equal(plan.model.weight, build().weight)


def test_seeded_numbers_are_a_table():
    plan = trace(lambda: Computed(np.random.default_rng(0).random((3, 4))))
    assert plan["weight"].fill.kind == "table"


def test_a_build_that_differs_each_time():
    widths = iter(range(2, 9))

    def build():
        model = nn.Linear(4, next(widths))
        model.weight[0, 0].item()  # so that it is run again, with memory
        return model

    [problem] = refused(trace, build)
    assert "[2, 4]" in problem.fact
    assert "[3, 4]" in problem.fact


def test_traces_and_deferred_models_inside_of_a_build():
    def build():
        trace(lambda: nn.Linear(7, 7))
        with initframe.deferred():
            inner = nn.LayerNorm(3)
        return nn.Sequential(inner, nn.Linear(3, 3))

    plan = trace(build)
    assert not plan.skipped
    assert plan["0.weight"].fill == Constant(1.0)


def test_parameters_that_come_after_construction():
    with initframe.deferred():
        model = nn.Sequential(nn.Linear(2, 2))
    model.extra = nn.Parameter(torch.empty(3, device="meta"))
    [problem] = refused(materialize, model)
    assert "extra [3]" in problem.subject
    assert model[0].weight.is_meta


class Aliased(nn.Module):
    """A parameter with a buffer's memory."""

    def __init__(self, *, buffer_first):
        super().__init__()
        values = torch.arange(6.0)
        for name in ("b", "w") if buffer_first else ("w", "b"):
            if name == "b":
                self.register_buffer("b", values)
            else:
                self.w = nn.Parameter(values)


@pytest.mark.parametrize("buffer_first", [True, False])
@pytest.mark.parametrize("curious", [True, False])
def test_a_parameter_shares_its_buffer(buffer_first, curious):
    def build():
        if curious:
            nn.Sequential(nn.Linear(2, 2))[0].weight[0, 0].item()  # so that it is run with memory
        return Aliased(buffer_first=buffer_first)

    plan = trace(build)
    assert not plan.skipped
    assert plan["w"].slot.aliases == ("b",)
    materialize(plan.model)
    assert plan.model.w.tolist() == list(range(6))
    assert plan.model.b.data_ptr() == plan.model.w.data_ptr()


def test_recorded_with_memory_tables_are_read_as_well():
    class Tables(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.arange(6.0).view(2, 3))
            self.first = self.w[0, 0].item()

    plan = trace(Tables)
    assert plan["w"].fill.values().tolist() == [[0, 1, 2], [3, 4, 5]]
