import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from initframe.errors import StreamError
from initframe.stream import Draw, Prepared, backend_of, cpu, draw, draw_small, execute, execution, key

KEY = key("w", 0)
NORMAL = "normal", (0.0, 1.0)


@settings(max_examples=40, deadline=None)
@given(start=st.integers(0, 1 << 40), count=st.integers(0, 300), cut=st.integers(0, 300))
def test_a_stream_is_the_sum_of_its_pieces(start, count, cut):
    cut = min(cut, count)
    pieces = draw(*NORMAL, KEY, start, cut), draw(*NORMAL, KEY, start + cut, count - cut)
    assert torch.equal(torch.cat(pieces), draw(*NORMAL, KEY, start, count))


@pytest.mark.parametrize("start", [0, 1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_large_memory_equals_its_parts(start, dtype):
    count = (1 << 21) + 5
    whole = draw(*NORMAL, KEY, start, count, dtype=dtype)
    for i in (0, 70_001, 1 << 18, (1 << 20) - 3, (1 << 20) + 3, count - 9):
        assert torch.equal(whole[i : i + 9], draw(*NORMAL, KEY, start + i, 9, dtype=dtype))
    rows = torch.empty(255, 8191, dtype=dtype)
    execute([Draw(rows, *NORMAL, KEY, start, 8191)])
    assert torch.equal(rows.flatten(), whole[: rows.numel()])


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_and_order_do_not_matter(threads):
    sizes = [1, 3_000_000, 17, 0, 70_000, 2_000_001]
    expected = [draw(*NORMAL, key(str(n), 0), 0, n) for n in sizes]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        outs = [torch.empty(1, n) for n in sizes]
        execute([Draw(out, *NORMAL, key(str(out.numel()), 0)) for out in reversed(outs)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(out[0], x) for out, x in zip(outs, expected, strict=True))


@pytest.mark.parametrize("device", ["compiled", "eager"])
def test_what_is_prepared_draws_any_seed(device, monkeypatch):
    if device == "eager":
        monkeypatch.setattr(execution, "compiled", lambda _: None)
    names = ["a", "b", "c"]
    outs = [torch.empty(1, 5), torch.empty(2, 0), torch.empty(3, 70_000)[:, 1:]]
    prepared = Prepared(Draw(out, *NORMAL, key(name, 0), 3, 70_000) for name, out in zip(names, outs, strict=True))
    for seed in (0, 1, 0):
        told = []
        prepared.execute([key(name, seed) for name in names] if seed else None, told.append)
        assert sum(told) == sum(out.numel() for out in outs)
        for name, out in zip(names, outs, strict=True):
            for r, row in enumerate(out):
                expected = draw(*NORMAL, key(name, seed), 3 + r * 70_000, out.shape[1])
                assert torch.equal(row, expected)


def test_several_callers_may_draw_at_once():
    uniforms = [("uniform", (0.0, float(n))) for n in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda uniform: draw(*uniform, KEY, 0, 100_000), uniforms))
    assert all(torch.equal(x, draw(*uniform, KEY, 0, 100_000)) for x, uniform in zip(drawn, uniforms, strict=True))


def test_done_elements_are_told_as_they_come():
    told = []
    outs = [torch.empty(1, n) for n in (1, 500_000, 0, 30)]
    execute((Draw(out, *NORMAL, KEY) for out in outs), told.append)
    assert sum(told) == 500_031
    assert min(told) > 0


@pytest.mark.parametrize(
    "tasks_of",
    [lambda out: cpu.prepare(Draw(out, *NORMAL, KEY)).tasks(KEY, out), lambda out: cpu.digest_tasks(out, 0, 0)],
)
def test_memory_lives_as_long_as_its_tasks(tasks_of):
    out = torch.empty(1, 8)
    memory, tasks = weakref.ref(out), list(tasks_of(out))
    del out
    assert memory() is not None
    del tasks
    assert memory() is None


def test_memory_with_a_history_of_gradients_is_filled_in_place():
    weight = torch.nn.Parameter(torch.zeros(3, 4))
    saved = (weight * weight).sum()
    execute([Draw(weight, *NORMAL, KEY, 0, 4)])
    assert torch.equal(weight.detach().flatten(), draw(*NORMAL, KEY, 0, 12))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        saved.backward()


def test_fresh_tensors_ignore_the_default_device():
    with torch.device("meta"):
        x = draw("uniform", (0.0, 1.0), KEY, 3, 5, device="cpu")
    assert torch.equal(x, draw("uniform", (0.0, 1.0), KEY, 3, 5))


def test_nothing_is_written_to_memory_that_is_not_there():
    assert draw(*NORMAL, KEY, 0, 10, device="meta").is_meta
    assert backend_of("meta") == "eager"


WRONG = [
    (torch.empty(4), NORMAL, {}, "2-D"),
    (torch.empty(4, 4).t(), NORMAL, {}, "dense rows"),
    (torch.empty(1, 4, dtype=torch.int32), NORMAL, {}, "cannot be drawn as torch.int32"),
    (torch.empty(1, 4), ("bits", ()), {}, "Options: torch.int32"),
    (torch.empty(1, 4), NORMAL, {"start": -1}, "must not be negative"),
    (torch.empty(1, 4), NORMAL, {"stride": -1}, "must not be negative"),
    (torch.empty(1, 4), NORMAL, {"start": (1 << 64) - 3}, r"2\*\*64 - 1"),
    (torch.empty(3, 4), NORMAL, {"start": 1, "stride": (1 << 63) - 2}, r"2\*\*64 - 1"),
]


@pytest.mark.parametrize(("out", "distribution", "place", "fact"), WRONG)
def test_memory_of_another_form_is_refused(out, distribution, place, fact):
    with pytest.raises(ValueError, match=fact):
        Draw(out, *distribution, KEY, **place)


def test_a_distribution_that_cannot_be_drawn_is_refused_before_anything_is_written():
    out = torch.zeros(1, 4)
    with pytest.raises(ValueError, match="std is negative"):
        execute([Draw(out, "normal", (0.0, -1.0), KEY)])
    assert not out.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("distribution", "args"), [("uniform", (-1.0, 2.0)), ("normal", (0.5, 2.0))])
@pytest.mark.parametrize("shape", [(), (1,), (7, 9), (3, 5, 7), (1 << 13,)])
def test_small_tensors_hold_the_bits_that_planned_draws_give(shape, distribution, args, dtype):
    outs, addresses = torch.empty(2, *shape, dtype=dtype), (key("small", 3), key("other", 3))
    before = outs._version
    draw_small([(out, distribution, args, address) for out, address in zip(outs, addresses, strict=True)])
    assert outs._version > before
    for out, address in zip(outs, addresses, strict=True):
        planned = torch.empty(1, out.numel(), dtype=dtype)
        execute([Draw(planned, distribution, args, address)])
        assert torch.equal(out.flatten(), planned[0])


def test_small_tensors_hold_the_same_bits_where_nothing_is_compiled(monkeypatch):
    address = key("small", 3)
    compiled, eager = torch.empty(2, 3, 5)
    draw_small([(compiled, "uniform", (0.0, 1.0), address)])
    monkeypatch.setattr(execution, "compiled", lambda _: None)
    draw_small([(eager, "uniform", (0.0, 1.0), address)])
    assert torch.equal(compiled, eager)


def test_small_tensors_that_cannot_be_drawn_are_refused():
    with pytest.raises(StreamError, match="std is negative"):
        draw_small([(torch.zeros(4), "normal", (0.0, -1.0), key("w", 0))])
