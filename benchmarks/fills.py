"""How fast fills are, next to torch.nn.init, other libraries, and the limits of the machine: ratios of one run.

    python benchmarks/fills.py [--elements 67108864] [--threads 2] [--seconds 1] [--quick] [--limits] [--busy]
    python benchmarks/fills.py --gpu [--dry]

All sides of a ratio take turns. A side counts by the best of each turn, a ratio by the median over the turns. What is
not installed is skipped. The tables go to benchmarks/results.md, with the machine and the command. --busy is for a
machine that others use, too: one thread, timed by the processor time that it got; the tables go to
benchmarks/results_busy.md. --gpu measures a GPU's memory instead (benchmarks/fills_gpu.py), a few minutes in all.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from measuring import (
    ARGS,
    KEY,
    Bench,
    Row,
    Timed,
    built,
    filler,
    loop,
    machine,
    row,
    rules,
    said,
    shown,
    table,
    turns,
)
from torch import nn

import initframe
from initframe import stream

IN_CACHE = 1 << 12
"""Elements of memory that stays in the first cache."""
FIRST_DRAW = """
import time, torch
start = time.perf_counter()
from initframe import stream
stream.draw("uniform", (0.0, 1.0), stream.key("w", 0), 0, 10)
print(time.perf_counter() - start)
"""


class Share(NamedTuple):
    """One line of the limits: seconds of a fill, of zeroing the memory, of the arithmetic alone; two shares."""

    what: str
    ours: float
    memory: float
    arithmetic: float
    share: float
    best: float


def in_cache(distribution: str, dtype: torch.dtype, bench: Bench) -> Timed:
    """Run the kernel of a fill as often as the fill does, on memory that stays in the cache: its arithmetic alone."""
    cpu = importlib.import_module("initframe.stream.cpu")
    pool = ThreadPoolExecutor(bench.threads)

    def tasks() -> list[Any]:
        row = torch.empty(IN_CACHE, dtype=dtype)
        height = (cpu.LARGE - 1) // row.element_size() // IN_CACHE  # more would be written past the caches
        out = row.expand(height, IN_CACHE)  # rows that are all the same memory
        drawn = stream.Draw(out, distribution, ARGS[distribution], KEY, 0, IN_CACHE)
        prepared = list(cpu.prepare(drawn).tasks(KEY, out))
        return prepared * (bench.elements // bench.threads // out.numel())

    own = [tasks() for _ in range(bench.threads)]

    def work(tasks: list[Any]) -> None:
        for task in tasks:
            task.run()

    if bench.threads == 1:
        return lambda: work(own[0])
    return lambda: list(pool.map(work, own))


def limits(bench: Bench) -> Iterator[Share]:
    """Warm memory: every fill as a share of the lesser of what memory and arithmetic allow."""
    for dtype in (torch.float32, torch.bfloat16):
        memory = torch.zeros(bench.elements, dtype=dtype)
        for distribution in ARGS:
            sides = filler(memory, distribution), memory.zero_, in_cache(distribution, dtype, bench)
            taken = turns(bench, *sides)
            share = statistics.median(max(zero, alone) / fill for fill, zero, alone in zip(*taken, strict=True))
            what = f"{distribution}, {str(dtype).removeprefix('torch.')}"
            fastest, *limiting = map(min, taken)
            yield Share(what, *map(statistics.median, taken), share, max(limiting) / fastest)


def elementwise(bench: Bench) -> Iterator[Row]:
    """Warm memory, against torch.nn.init."""
    x, half, init = torch.zeros(bench.elements), torch.zeros(bench.elements, dtype=torch.bfloat16), nn.init
    yield row(bench, "uniform", filler(x, "uniform"), "nn.init.uniform_", lambda: init.uniform_(x, -0.1, 0.1), 8)
    yield row(bench, "normal", filler(x, "normal"), "nn.init.normal_", lambda: init.normal_(x, 0, 0.02), 7)
    truncated = filler(x, "truncated_normal")
    theirs = lambda: init.trunc_normal_(x, 0, 0.02, -0.04, 0.04)  # noqa: E731
    yield row(bench, "truncated ±2σ", truncated, "nn.init.trunc_normal_", theirs, 50)
    narrow = filler(half, "normal")
    yield row(bench, "normal, bfloat16", narrow, "nn.init.normal_", lambda: init.normal_(half, 0, 0.02), 7)
    stream.digest(x)
    yield row(bench, "digest", lambda: stream.digest(x), "sum()", x.sum)


def fresh(bench: Bench) -> Iterator[Row]:
    """Memory that was never touched: page faults count."""
    n = bench.elements
    ours = lambda: stream.draw("normal", (0.0, 1.0), KEY, 0, n)  # noqa: E731
    yield row(bench, "normal, fresh memory", ours, "nn.init.normal_", lambda: nn.init.normal_(torch.empty(n)))


def peers(bench: Bench) -> Iterator[Row]:
    """Other addressed or compiled random numbers, and mmengine's initialize."""
    x, array = torch.zeros(bench.elements), np.zeros(bench.elements, dtype=np.float32)
    uniform, normal = filler(x, "uniform"), filler(x, "normal")
    philox = np.random.Generator(np.random.Philox(0))
    theirs = lambda: philox.random(dtype=np.float32, out=array)  # noqa: E731
    yield row(bench, "uniform", uniform, "numpy Philox random, 1 thread", theirs)
    theirs = lambda: philox.standard_normal(dtype=np.float32, out=array)  # noqa: E731
    yield row(bench, "normal", normal, "numpy Philox standard_normal, 1 thread", theirs)
    if mkl := installed("mkl_random"):
        state, n = mkl.MKLRandomState(0, brng="PHILOX4X32X10"), bench.elements
        theirs = lambda: state.uniform(-0.1, 0.1, size=n)  # noqa: E731
        yield row(bench, "uniform", uniform, "mkl_random Philox uniform, float64, 1 thread", theirs)
        theirs = lambda: state.standard_normal(size=n)  # noqa: E731
        yield row(bench, "normal", normal, "mkl_random Philox standard_normal, float64, 1 thread", theirs)
    if random := installed("torch.func._random"):
        address = random.key(0)
        for ours, name in ((uniform, "uniform_"), (normal, "normal_")):
            theirs = lambda name=name: getattr(random, name)(address, x)  # noqa: E731
            yield row(bench, name.removesuffix("_"), ours, f"torch.func._random.{name}", theirs)
    if mmengine := installed("mmengine.model"):
        model = built("alexnet")
        settings = {"type": "Xavier", "layer": ["Conv2d", "Linear"], "distribution": "uniform"}
        ours = lambda: initframe.reinit(model, "xavier_uniform")  # noqa: E731
        yield row(bench, "AlexNet", ours, "mmengine initialize", lambda: mmengine.initialize(model, settings))


def models(bench: Bench) -> Iterator[Row]:
    """A whole model, against a loop of torch.nn.init."""
    model = built("alexnet")
    ours = lambda: initframe.reinit(model, rules("xavier_uniform"))  # noqa: E731
    theirs = lambda: loop(model, nn.init.xavier_uniform_)  # noqa: E731
    yield row(bench, "AlexNet, xavier_uniform", ours, "loop of nn.init", theirs, 6)
    deep = built("resnet50")
    plan = initframe.resolve(rules("kaiming_normal"), deep)
    ours = lambda: initframe.apply(plan)  # noqa: E731
    theirs = lambda: loop(deep, nn.init.kaiming_normal_)  # noqa: E731
    yield row(bench, "ResNet-50, kaiming_normal, apply", ours, "loop of nn.init", theirs, 6)


def orthogonal(bench: Bench) -> Iterator[Row]:
    """Orthogonal matrices, ours in float64, against torch's in float32: large ones, many, one."""
    theirs = lambda: loop(model, nn.init.orthogonal_)  # noqa: E731
    blocks = nn.Sequential(*(nn.Sequential(nn.Linear(384, 1152), nn.Linear(384, 384)) for _ in range(12)))
    for what, model in (
        ("12 blocks of width 384", blocks),
        ("ResNet-50", built("resnet50")),
        ("AlexNet", built("alexnet")),
    ):
        plan = initframe.resolve(rules("orthogonal"), model)
        ours = lambda plan=plan: initframe.apply(plan)  # noqa: E731
        yield row(bench, f"{what}, orthogonal", ours, "loop of nn.init", theirs, 1)


def installed(name: str) -> Any | None:
    """A module, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def first_draw() -> float:
    """Seconds of loading the stream and LLVM and compiling the first kernel, torch already loaded: best of three."""
    run = lambda: subprocess.run([sys.executable, "-c", FIRST_DRAW], capture_output=True, check=True)  # noqa: E731
    return min(float(run().stdout) for _ in range(3))


def limit_table(shares: Sequence[Share]) -> str:
    """The limits as Markdown."""
    lines = [
        "| fill | ms | memory: zero_, ms | arithmetic: in the cache, ms | share of the lesser limit | by best turns |",
        "|---|---|---|---|---|---|",
    ]
    for what, *seconds, share, best in shares:
        lines.append(
            f"| {what} | {' | '.join(f'{second * 1e3:.3g}' for second in seconds)} | {share:.2f} | {best:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--elements", type=int, default=1 << 26)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--seconds", type=float, default=1.0, help="time for each side of a ratio")
    options.add_argument("--quick", action="store_true", help="leave out what takes minutes")
    options.add_argument("--limits", action="store_true", help="the limits alone; the table goes to results_limits.md")
    options.add_argument("--busy", action="store_true", help="one thread, by its processor time")
    options.add_argument("--gpu", action="store_true", help="a GPU's memory; the table goes to results_gpu.md")
    options.add_argument(
        "--dry", action="store_true", help="with --gpu: try every step without a GPU, and write nothing"
    )
    given = options.parse_args()
    if given.gpu:
        importlib.import_module("fills_gpu").run(given.elements, given.seconds, dry=given.dry)
        return
    threads, clock = (1, time.thread_time) if given.busy else (given.threads, time.perf_counter)
    bench, where = Bench(given.elements, threads, given.seconds, clock), machine()
    torch.set_num_threads(threads)
    command = " ".join(["python benchmarks/fills.py", *sys.argv[1:]])
    shares = shown(limits(bench), lambda share: f"{share.what:44}{'share of the limit':54}{share.share:8.2f}")
    measured = [elementwise, fresh, models, peers] if given.quick else [elementwise, fresh, models, peers, orthogonal]
    rows = [row for rows in ([] if given.limits else measured) for row in shown(rows(bench), said)]
    text = f"""# Fills: figures of one run of `{command}`

{where}; torch {torch.__version__};
{threads} thread{"s" * (threads > 1)}; {bench.elements:,} elements, memory warm unless said;
{"processor time of the thread" if given.busy else "wall time"}, medians over turns; by {stream.backend_of("cpu")}.

{limit_table(shares)}

{table(rows) if rows else ""}

First draw of a process (loading the stream and LLVM, compiling one kernel): {first_draw() * 1e3:.0f} ms (aim: < 500).
"""
    name = "results_limits.md" if given.limits else "results_busy.md" if given.busy else "results.md"
    Path(__file__).with_name(name).write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
