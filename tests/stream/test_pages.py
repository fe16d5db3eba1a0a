import mmap
import sys
from pathlib import Path

import pytest
import torch

from initframe.stream import Draw, execute, key, pages


@pytest.fixture
def asked(monkeypatch):
    """The advice that is given."""
    calls = []
    monkeypatch.setattr(pages, "_madvise", lambda: lambda *args: calls.append(args))
    return calls


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="huge pages are asked for on Linux")


@linux
@pytest.mark.parametrize("view", [lambda x: x, lambda x: x.t(), lambda x: x[7:, 3:], lambda x: x[::2, ::2]])
def test_advice_covers_whole_pages_of_the_tensor_and_no_others(asked, view):
    x = view(torch.empty(3000, 3000))
    pages.prefer_huge_pages(x)
    [(begin, length, _)] = asked
    last = x[-1, -1].data_ptr() + 4
    assert begin % mmap.PAGESIZE == 0
    assert x.data_ptr() <= begin < x.data_ptr() + mmap.PAGESIZE
    assert begin + length == last


@linux
def test_what_is_drawn_asks_for_its_memory(asked):
    out = torch.empty(1, 1 << 21)
    execute([Draw(out, "uniform", (0.0, 1.0), key("w", 0))])
    [(begin, length, _)] = asked
    assert begin + length == out.data_ptr() + out.nbytes


@pytest.mark.parametrize("x", [torch.empty(100), torch.empty(0), torch.empty(1 << 24, device="meta")])
def test_small_and_absent_memory_is_left_alone(asked, x):
    pages.prefer_huge_pages(x)
    assert asked == []


@linux
def test_the_system_takes_the_advice():
    x = torch.empty(1 << 22)
    begin = -(-x.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    has_them = Path("/sys/kernel/mm/transparent_hugepage").exists()
    assert pages._madvise()(begin, 1 << 20, mmap.MADV_HUGEPAGE) == (0 if has_them else -1)
