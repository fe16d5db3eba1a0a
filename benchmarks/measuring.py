"""What benchmarks of fills share: ratios of two sides that take turns, the models, the tables.

A side counts by the best of each turn, a ratio by the median over the turns.
"""

from __future__ import annotations

import importlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from initframe import stream

REST = 0.02
"""Seconds between two turns: torch's threads go on spinning for some time after their work, and would take
processor time from whoever comes next."""
TURN = 0.1
"""Seconds of a turn, in which short work is repeated: processors take some milliseconds to wake up."""
KEY = stream.key("benchmark", 0)
ARGS = {"uniform": (-0.1, 0.1), "normal": (0.0, 0.02), "truncated_normal": (0.0, 0.02, -0.04, 0.04)}

Timed = Callable[[], object]


class Bench(NamedTuple):
    """How to measure."""

    elements: int
    threads: int
    seconds: float
    clock: Callable[[], float]
    turn: float = TURN


class Row(NamedTuple):
    """One line of the table: seconds of both sides, the ratio, and the aim."""

    what: str
    ours: float
    peer: str
    theirs: float
    ratio: float
    aim: float | None


def turns(bench: Bench, *functions: Timed) -> list[list[float]]:
    """Let functions take turns until each has had its time, three turns at least; the best seconds of each turn."""
    best: list[list[float]] = [[] for _ in functions]
    spent = 0.0
    while len(best[0]) < 3 or spent < bench.seconds:
        for function, taken in zip(functions, best, strict=True):
            time.sleep(REST)
            begin, done = bench.clock(), []
            while not done or bench.clock() - begin < bench.turn:
                start = bench.clock()
                function()
                done.append(bench.clock() - start)
            taken.append(min(done))
        spent += sum(taken[-1] for taken in best) / len(best) + bench.turn
    return best


def row(bench: Bench, what: str, ours: Timed, peer: str, theirs: Timed, aim: float | None = None) -> Row:
    """Time both sides."""
    mine, others = turns(bench, ours, theirs)
    ratio = statistics.median(b / a for a, b in zip(mine, others, strict=True))
    return Row(what, statistics.median(mine), peer, statistics.median(others), ratio, aim)


def filler(memory: Tensor, distribution: str) -> Timed:
    """Draw into a tensor by the stream; looked up before it is timed, and compiled."""
    prepared = stream.Prepared([stream.Draw(memory.view(1, -1), distribution, ARGS[distribution], KEY)])
    prepared.execute()
    return prepared.execute


def rules(init: str) -> dict[str, Any]:
    """A recipe: matrices by an initializer, biases zero, norms as they are."""
    return {"unmatched": "keep", "rules": {"*.weight": {"where": "ndim > 1", "init": init}, "*.bias": "zeros"}}


def built(name: str) -> nn.Module:
    """A model of torchvision's, with torch's own values."""
    return getattr(importlib.import_module("torchvision.models"), name)()


def loop(model: nn.Module, init: Callable[[Tensor], object]) -> None:
    """What a script does by hand."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            init(module.weight)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)


def machine() -> str:
    """The processor, as its system names it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    load = f", load before the run: {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{names[0] if names else platform.processor()}, {len(names) or '?'} cores, {platform.system()}{load}"


def table(rows: Sequence[Row]) -> str:
    """The comparisons as Markdown."""
    lines = ["| what | ms | compared with | ms | times as fast | aim |", "|---|---|---|---|---|---|"]
    for what, ours, peer, theirs, ratio, aim in rows:
        asked = f"≥ {aim:g}" if aim else ""
        lines.append(f"| {what} | {ours * 1e3:.3g} | {peer} | {theirs * 1e3:.3g} | {ratio:.2f} | {asked} |")
    return "\n".join(lines)


def shown(rows: Iterator[Any], say: Callable[[Any], str]) -> list[Any]:
    """Read lines, and print each when it is there."""
    read = []
    for one in rows:
        print(say(one), flush=True)
        read.append(one)
    return read


def said(row: Row) -> str:
    """A comparison as a line."""
    return f"{row.what:44}{row.peer:54}{row.ratio:8.2f}"
