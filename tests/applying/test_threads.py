"""Threads: models that share nothing do not disturb each other, and a model is written by one thread at a time."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Thread

import pytest
import torch
from nets import bits, changed, rules, same_bits
from refusals import refused
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

import initframe
from initframe.construction.deferred import deferred


def in_threads(work, count=8, workers=4):
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, range(count)))


def test_orthogonal_parametrizations_have_their_numbers_in_any_thread_and_leave_torchs_generator():
    def build():
        return nn.Sequential(*(orthogonal(nn.Linear(4, 7)) for _ in range(4)))

    models = [build() for _ in range(8)]
    alone = build()
    recipe = rules({"*.weight": "orthogonal", "*.bias": "zeros"})
    initframe.reinit(alone, recipe, seed=1)
    state = torch.get_rng_state()
    in_threads(lambda i: initframe.reinit(models[i], recipe, seed=1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(changed(model, bits(alone)) == set() for model in models)


def test_torchs_generator_serves_one_thread_at_a_time():
    recipe = rules({"*.weight": "normal", "*.bias": "zeros"})
    models = [nn.Sequential(*(nn.Linear(30, 30) for _ in range(5))) for _ in range(8)]
    in_threads(lambda i: initframe.reinit(models[i], recipe, seed=i, generator="torch"))
    for seed, model in enumerate(models):
        alone = nn.Sequential(*(nn.Linear(30, 30) for _ in range(5)))
        initframe.reinit(alone, recipe, seed=seed, generator="torch")
        assert changed(model, bits(alone)) == set()


def test_a_model_is_written_by_one_thread_at_a_time():
    model, entered, done = nn.Linear(3, 3), Event(), Event()
    recipe = rules({"*": "ones"})

    def wait(_):
        entered.set()
        assert done.wait(60)

    first = Thread(target=initframe.reinit, args=(model, recipe), kwargs={"on_progress": wait})
    first.start()
    assert entered.wait(60)
    try:
        (problem,) = refused(initframe.reinit, model, recipe)
        assert "thread" in problem.fact
        refused(initframe.reinit, model.state_dict(), recipe)
        initframe.reinit(nn.Linear(3, 3), recipe)
        initframe.reinit(model, rules({"*": "keep"}))
    finally:
        done.set()
        first.join()
    initframe.reinit(model, recipe)


def test_a_failed_write_leaves_the_model_free():
    model = nn.Linear(3, 3)

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        initframe.reinit(model, rules({"*": "ones"}), on_progress=stop)
    initframe.reinit(model, rules({"*": "ones"}))


def test_deferred_is_the_threads_own():
    barrier = Barrier(2)

    def build(lazily):
        if not lazily:
            barrier.wait(60)
            layers = [nn.Linear(3, 3) for _ in range(20)]
            barrier.wait(60)
            return layers
        with deferred():
            barrier.wait(60)
            layers = [nn.Linear(3, 3) for _ in range(20)]
            barrier.wait(60)
        return layers

    lazy, real = in_threads(lambda i: build(i == 0), count=2, workers=2)
    assert all(layer.weight.is_meta for layer in lazy)
    assert not any(layer.weight.is_meta for layer in real)


def test_an_inverse_that_draws_has_the_numbers_of_a_fresh_generator():
    class Noisy(nn.Module):
        def forward(self, x):
            return x

        def right_inverse(self, x):
            return x + torch.randn(x.shape) + torch.empty_like(x).uniform_() + torch.randn_like(x)

    layer = nn.Linear(2, 3)
    torch.nn.utils.parametrize.register_parametrization(layer, "weight", Noisy(), unsafe=True)
    initframe.reinit(layer, rules({"weight": "zeros"}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.zeros(3, 2)
        expected = x + torch.randn(x.shape) + torch.empty_like(x).uniform_() + torch.randn_like(x)
    assert same_bits(layer.weight, expected)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("generator", ["stream", "torch"])
def test_a_forked_child_does_not_wait_for_threads_that_it_does_not_have(generator):
    """A worker is forked while a thread fills the same model: the child has the model, and not that thread."""
    model = nn.Linear(3, 2)
    recipe = rules({"*": {"init": "normal"}})
    filling, forked = Event(), Event()

    def wait(_):
        filling.set()
        forked.wait()

    writer = Thread(
        target=initframe.reinit, args=(model, recipe, 1), kwargs={"generator": generator, "on_progress": wait}
    )
    writer.start()
    filling.wait()
    reader, end = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(20)  # what waits for ever ends here
        try:
            initframe.reinit(model, recipe, 2, generator=generator)
            os.write(end, b"filled")
        finally:
            os._exit(0)
    os.close(end)
    forked.set()
    writer.join()
    assert os.read(reader, 10) == b"filled"
    os.waitpid(child, 0)
    os.close(reader)
