"""Whatever once broke is tried again, and some seconds of new input."""

import os
import time
from collections import Counter

import pytest

from tests.fuzz.__main__ import CORPUS, SLICE, failure, fuzz
from tests.fuzz.targets import TARGETS

KEPT = sorted(path for path in CORPUS.iterdir() if path.name.partition("-")[0] in TARGETS)
SECONDS = 12


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_what_once_broke(path, tmp_path):
    assert failure(path.name.partition("-")[0], path.read_bytes(), tmp_path) == ""


@pytest.mark.slow
def test_new_input(tmp_path):
    seed = 1 if os.environ.get("CI") else time.time_ns()
    tried = Counter()
    for name, content, told in fuzz(SECONDS, seed, tmp_path, list(TARGETS)):
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
