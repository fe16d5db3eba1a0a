import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from initframe.stream import Draw, backend_of, draw, execute, key

KEY = key("w", 0)
NORMAL = "normal", (0.0, 1.0)


@settings(max_examples=40, deadline=None)
@given(start=st.integers(0, 1 << 40), count=st.integers(0, 300), cut=st.integers(0, 300))
def test_a_stream_is_the_sum_of_its_pieces(start, count, cut):
    cut = min(cut, count)
    pieces = draw(*NORMAL, KEY, start, cut), draw(*NORMAL, KEY, start + cut, count - cut)
    assert torch.equal(torch.cat(pieces), draw(*NORMAL, KEY, start, count))


def test_large_memory_equals_its_parts():
    count = (1 << 21) + 5
    whole = draw(*NORMAL, KEY, 1, count)
    at = [0, 70_001, 1 << 18, (1 << 20) + 3, count - 9]
    assert all(torch.equal(whole[i : i + 9], draw(*NORMAL, KEY, 1 + i, 9)) for i in at)
    rows = torch.empty(257, 8191)
    execute([Draw(rows, *NORMAL, KEY, 1, 8191)])
    assert torch.equal(rows.flatten()[:count], whole[: rows.numel()])


def test_done_elements_are_told_as_they_come():
    told = []
    outs = [torch.empty(1, n) for n in (1, 500_000, 0, 30)]
    execute((Draw(out, *NORMAL, KEY) for out in outs), told.append)
    assert sum(told) == 500_031
    assert min(told) > 0


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
]


@pytest.mark.parametrize(("out", "law", "place", "fact"), WRONG)
def test_memory_of_another_form_is_refused(out, law, place, fact):
    with pytest.raises(ValueError, match=fact):
        Draw(out, *law, KEY, **place)


def test_a_law_that_cannot_be_drawn_is_refused_before_anything_is_written():
    out = torch.zeros(1, 4)
    with pytest.raises(ValueError, match="std is negative"):
        execute([Draw(out, "normal", (0.0, -1.0), KEY)])
    assert not out.any()
