"""``python -m tests.long_runs``: thousands of calls, and what they leave behind in memory, handles and threads."""

from __future__ import annotations

import argparse
import gc
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import nn

import initframe


class Held(NamedTuple):
    """What a process holds: MiB of memory, open files, threads."""

    memory: float
    files: int
    threads: int


def held() -> Held:
    """Read what this process holds now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    size = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return Held(size, len([*Path("/proc/self/fd").iterdir()]), threading.active_count())


def growth(call: Callable[[int], object], times: int) -> tuple[Held, Held]:
    """Call many times; what was held after the first tenth, when all caches are full, and at the end."""
    for i in range(times // 10):
        call(i)
    first = held()
    for i in range(times // 10, times):
        call(i)
    return first, held()


def reinit() -> Callable[[int], object]:
    """Make a call that fills a small model again, with another seed each time."""
    model = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Linear(16, 4))
    return lambda i: initframe.reinit(model, "xavier_relu", seed=i)


def resolve(layers: int = 500) -> Callable[[int], object]:
    """Make a call that resolves a recipe of its own each time, against a model of many layers."""
    model = nn.ModuleList(nn.Linear(4, 4) for _ in range(layers))

    def call(i: int) -> object:
        rules = {"weights": {"match": "*.weight", "init": "normal", "std": f"{i + 1} / fan_in"}, "*.bias": "zeros"}
        return initframe.resolve({"rules": rules}, model)

    return call


def main() -> int:
    """Print what grew; 1 if anything did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reinits", type=int, default=10_000)
    parser.add_argument("--resolves", type=int, default=1_000)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    grown = 0
    for name, call, times in (("reinits", reinit(), given.reinits), ("resolves", resolve(), given.resolves)):
        first, last = growth(call, times)
        more = last.memory - first.memory
        print(f"{times:,} {name}: {first.memory:.0f} → {last.memory:.0f} MiB ({more:+.1f}), ", end="")
        print(f"files {first.files} → {last.files}, threads {first.threads} → {last.threads}", flush=True)
        grown += more > 16 or last.files > first.files or last.threads > first.threads
    return int(grown > 0)


if __name__ == "__main__":
    raise SystemExit(main())
