"""Whatever once broke is tried again, and some seconds of new input."""

import os
import random
import signal
import time
from collections import Counter

import pytest

from tests.fuzz.__main__ import CORPUS, SLICE, attempt, failure, fuzz, stop
from tests.fuzz.targets import TARGETS

KEPT = sorted(path for path in CORPUS.iterdir() if path.name.partition("-")[0] in TARGETS)
SECONDS = 12
QUICK = ("expressions", "patterns", "indexes")


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_what_once_broke(path, tmp_path):
    assert failure(path.name.partition("-")[0], path.read_bytes(), tmp_path) == ""


def same(folder):
    """The same inputs of each target in every run; fewer of those that take milliseconds."""
    signal.signal(signal.SIGVTALRM, stop)
    for name in TARGETS:
        rng = random.Random(f"1 {name}")
        yield from (attempt(name, rng, folder) for _ in range(2_000 if name in QUICK else 200))


@pytest.mark.slow
def test_new_input(tmp_path):
    """In CI the same ones in every run, whatever the machine; elsewhere others each time."""
    seed = 1 if os.environ.get("CI") else time.time_ns()
    tried = Counter()
    for name, content, told in same(tmp_path) if os.environ.get("CI") else fuzz(SECONDS, seed, tmp_path, list(TARGETS)):
        assert not told, f"{name}, seed {seed}: {content[:500]!r}\n{told}"
        tried[name] += 1
    assert tried.keys() == TARGETS.keys()
    assert SLICE * len(TARGETS) < SECONDS


def test_a_failure_is_seen(tmp_path, monkeypatch):
    def fail(content, folder):
        raise KeyError(content)

    monkeypatch.setitem(TARGETS, "yaml", TARGETS["yaml"]._replace(run=fail))
    found = [told for name, _, told in fuzz(0.2, 1, tmp_path, ["yaml"])]
    assert "KeyError" in found[0]
