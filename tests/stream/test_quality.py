"""benchmarks/stream_quality.py, with few elements."""

import importlib.util
import re
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("quality", Path(__file__).parents[2] / "benchmarks" / "stream_quality.py")


@pytest.mark.parametrize("log2", [0, 2, 10, 12])
def test_a_lag_is_examined_where_there_are_elements_so_far_apart(capsys, log2):
    quality = importlib.util.module_from_spec(SPEC)
    SPEC.loader.exec_module(quality)
    for distribution in quality.DISTRIBUTIONS:
        quality.examine(distribution, 1 << log2)
        line = re.search("lag correlations, SE:(.*)", capsys.readouterr().out)[1]
        assert [int(lag) for lag in re.findall(r"(\d+): ", line)] == [lag for lag in quality.LAGS if lag < 1 << log2]
