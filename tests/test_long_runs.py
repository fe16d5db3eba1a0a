"""A sample of the long runs: python -m tests.long_runs has the whole."""

import pytest

from tests.long_runs import growth, reinit, resolve


@pytest.mark.slow
@pytest.mark.parametrize(("make", "times"), [(reinit, 600), (lambda: resolve(50), 120)], ids=["reinits", "resolves"])
def test_many_calls_leave_nothing_behind(make, times):
    first, last = growth(make(), times)
    assert last.files <= first.files
    assert last.threads <= first.threads
    assert last.memory - first.memory < 16
