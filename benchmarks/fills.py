"""How fast fills are, beside torch.nn.init, others and the memory itself: ratios of one run.

    python benchmarks/fills.py [--elements 67108864] [--threads 2] [--seconds 1] [--quick] [--gpu]

Both sides of a ratio take turns for some time and count by their best turn. What is not installed is skipped. The
table goes to benchmarks/results.md, with the machine it was made on; with --gpu, what is measured is a GPU's memory,
and the table goes to benchmarks/results_gpu.md.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

import initframe
from initframe import stream

REST = 0.02
"""Seconds between two turns: torch's threads go on turning for some time when their work is done, and would take
processor time from whoever comes next."""
QUEUED = 20
"""Calls that a GPU is given at a time."""
TURN = 0.1
"""Seconds of a turn, in which short work is repeated: processors take some milliseconds to wake up."""
KEY = stream.key("benchmark", 0)
LAWS = {"uniform": (-0.1, 0.1), "normal": (0.0, 0.02), "truncated_normal": (0.0, 0.02, -0.04, 0.04)}
FIRST_DRAW = """
import time, torch
start = time.perf_counter()
from initframe import stream
stream.draw("uniform", (0.0, 1.0), stream.key("w", 0), 0, 10)
print(time.perf_counter() - start)
"""

Timed = Callable[[], object]


class Row(NamedTuple):
    """One line of the table: seconds of both sides, and the ratio that is asked for."""

    what: str
    ours: float
    peer: str
    theirs: float
    aim: float | None


def best(ours: Timed, theirs: Timed, budget: float) -> tuple[float, float]:
    """The best seconds of two functions that take turns until each has had its budget, one turn at least."""
    seconds: list[list[float]] = [[], []]
    while not seconds[0] or min(map(sum, seconds)) < budget:
        for function, taken in zip((ours, theirs), seconds, strict=True):
            time.sleep(REST)
            begin = start = time.perf_counter()
            while start - begin < TURN:
                function()
                end = time.perf_counter()
                taken.append(end - start)
                start = end
    return min(seconds[0]), min(seconds[1])


def filler(memory: Tensor, law: str) -> Timed:
    """Draw a law into a tensor by the stream."""
    return lambda: stream.execute([stream.Draw(memory.view(1, -1), law, LAWS[law], KEY)])


def elementwise(n: int, budget: float) -> Iterator[Row]:
    """Warm memory, against torch.nn.init and against zeroing it."""
    x, half = torch.zeros(n), torch.zeros(n, dtype=torch.bfloat16)
    uniform, normal, truncated = (filler(x, law) for law in LAWS)
    for run in (uniform, normal, truncated, filler(half, "normal"), lambda: stream.digest(x)):
        run()  # compiled before it is timed
    init = nn.init
    yield row("uniform", uniform, "nn.init.uniform_", lambda: init.uniform_(x, -0.1, 0.1), budget, 8)
    yield row("normal", normal, "nn.init.normal_", lambda: init.normal_(x, 0, 0.02), budget, 7)
    torch_truncated = lambda: init.trunc_normal_(x, 0, 0.02, -0.04, 0.04)  # noqa: E731
    yield row("truncated ±2σ", truncated, "nn.init.trunc_normal_", torch_truncated, budget, 50)
    yield row("uniform", uniform, "zero_ (the memory)", x.zero_, budget, 0.75)
    yield row("normal", normal, "zero_ (the memory)", x.zero_, budget, 0.45)
    yield row("truncated ±2σ", truncated, "zero_ (the memory)", x.zero_, budget, None)
    bfloat16 = filler(half, "normal")
    yield row("normal, bfloat16", bfloat16, "nn.init.normal_", lambda: init.normal_(half, 0, 0.02), budget, 7)
    yield row("digest", lambda: stream.digest(x), "sum()", x.sum, budget, None)


def fresh(n: int, budget: float) -> Iterator[Row]:
    """Memory that was never touched: page faults count."""

    def ours() -> None:
        filler(torch.empty(n), "normal")()

    yield row("normal, fresh memory", ours, "nn.init.normal_", lambda: nn.init.normal_(torch.empty(n)), budget, None)


def peers(n: int, budget: float) -> Iterator[Row]:
    """torch's own addressed random numbers, and mmengine's initialize."""
    x = torch.zeros(n)
    if random := installed("torch.func._random"):
        address = random.key(0)
        for law, peer in (("uniform", random.uniform_), ("normal", random.normal_)):
            theirs = lambda peer=peer: peer(address, x)  # noqa: E731
            yield row(law, filler(x, law), f"torch.func._random.{law}_", theirs, budget, None)
    if mmengine := installed("mmengine.model"):
        model = alexnet()
        settings = {"type": "Xavier", "layer": ["Conv2d", "Linear"], "distribution": "uniform"}
        ours = lambda: initframe.reinit(model, "xavier_uniform")  # noqa: E731
        yield row("AlexNet", ours, "mmengine initialize", lambda: mmengine.initialize(model, settings), budget, None)


def models(budget: float, *, quick: bool) -> Iterator[Row]:
    """A whole model: resolve and apply, against a loop of torch.nn.init."""
    model = alexnet()
    xavier, orthogonal = ({"rules": {"*.weight": law, "*.bias": "zeros"}} for law in ("xavier_uniform", "orthogonal"))
    ours = lambda: initframe.reinit(model, xavier)  # noqa: E731
    theirs = lambda: loop(model, nn.init.xavier_uniform_)  # noqa: E731
    yield row("AlexNet, xavier_uniform", ours, "loop of nn.init", theirs, budget, 6)
    if not quick:
        ours = lambda: initframe.reinit(model, orthogonal)  # noqa: E731
        theirs = lambda: loop(model, nn.init.orthogonal_)  # noqa: E731
        yield row("AlexNet, orthogonal", ours, "loop of nn.init", theirs, budget, 0.5)


def gpu(n: int, budget: float) -> Iterator[Row]:
    """CUDA memory, against fill_ and torch's own, by the backend that serves it; then by torch's operations."""
    x, half = torch.zeros(n, device="cuda"), torch.zeros(n, device="cuda", dtype=torch.bfloat16)
    served = stream.backend_of("cuda")
    fill = lambda: x.fill_(1)  # noqa: E731
    own = {
        "uniform": lambda: x.uniform_(-0.1, 0.1),
        "normal": lambda: x.normal_(0, 0.02),
        "truncated_normal": lambda: nn.init.trunc_normal_(x, 0, 0.02, -0.04, 0.04),
    }
    aims = {"uniform": 0.7, "normal": 0.7, "truncated_normal": None}
    for law, theirs in own.items():
        yield queued_row(f"{law} ({served})", filler(x, law), "fill_", fill, budget, aims[law])
        yield queued_row(f"{law} ({served})", filler(x, law), f"torch's {law}", theirs, budget, 1.0)
    theirs = lambda: half.normal_(0, 0.02)  # noqa: E731
    yield queued_row(f"normal, bfloat16 ({served})", filler(half, "normal"), "torch's normal", theirs, budget, 1.0)
    eagerly = lambda: stream.eager.fill(stream.Draw(x.view(1, -1), "normal", LAWS["normal"], KEY))  # noqa: E731
    yield queued_row("normal (eager)", eagerly, "fill_", fill, budget, None)
    model = alexnet().cuda()
    recipe = {"rules": {"*.weight": "xavier_uniform", "*.bias": "zeros"}}
    theirs = lambda: loop(model, nn.init.xavier_uniform_)  # noqa: E731
    plan = initframe.resolve(recipe, model)
    yield queued_row("AlexNet, apply", lambda: initframe.apply(plan), "loop of nn.init", theirs, budget, None)


def queued_row(what: str, ours: Timed, peer: str, theirs: Timed, budget: float, aim: float | None) -> Row:
    """Time both sides on a GPU, many calls at a time, since it works while the next call is prepared."""

    def queued(function: Timed) -> Timed:
        def run() -> None:
            for _ in range(QUEUED):
                function()
            torch.cuda.synchronize()

        return run

    ours()  # compiled before it is timed
    seconds = best(queued(ours), queued(theirs), budget)
    return Row(what, seconds[0] / QUEUED, peer, seconds[1] / QUEUED, aim)


def first_draw() -> float:
    """Seconds of loading the stream and LLVM and compiling the first kernel, torch already loaded: best of three."""
    run = lambda: subprocess.run([sys.executable, "-c", FIRST_DRAW], capture_output=True, check=True)  # noqa: E731
    return min(float(run().stdout) for _ in range(3))


def row(what: str, ours: Timed, peer: str, theirs: Timed, budget: float, aim: float | None) -> Row:
    """Time both sides."""
    seconds = best(ours, theirs, budget)
    return Row(what, seconds[0], peer, seconds[1], aim)


def alexnet() -> nn.Module:
    """AlexNet, with torch's own values."""
    return importlib.import_module("torchvision.models").alexnet()


def loop(model: nn.Module, law: Callable[[Tensor], object]) -> None:
    """What a script does by hand."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            law(module.weight)
            nn.init.zeros_(module.bias)


def installed(name: str):
    """A module, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def machine() -> str:
    """The processor, as its system names it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    load = f", other load before the run: {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{names[0] if names else platform.processor()}, {len(names) or '?'} cores, {platform.system()}{load}"


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| what | ms | beside | ms | times as fast | aim |", "|---|---|---|---|---|---|"]
    for what, ours, peer, theirs, aim in rows:
        asked = f"≥ {aim:g}" if aim else ""
        lines.append(f"| {what} | {ours * 1e3:.3g} | {peer} | {theirs * 1e3:.3g} | {theirs / ours:.2f} | {asked} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--elements", type=int, default=1 << 26)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--seconds", type=float, default=1.0, help="time for each side of a ratio")
    options.add_argument("--quick", action="store_true", help="leave out what takes minutes")
    options.add_argument("--gpu", action="store_true", help="measure a GPU's memory")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    where, n, budget = machine(), given.elements, given.seconds
    cpu = (elementwise(n, budget), fresh(n, budget), models(budget, quick=given.quick), peers(n, budget))
    rows = []
    for measured in chain.from_iterable([gpu(n, budget)] if given.gpu else cpu):
        print(f"{measured.what:28}{measured.peer:32}{measured.theirs / measured.ours:8.2f}", flush=True)
        rows.append(measured)
    command, backend = "python benchmarks/fills.py", stream.backend_of("cpu")
    if given.gpu:
        command, where = f"{command} --gpu", f"{torch.cuda.get_device_name()}; {where}"
        backend = stream.backend_of("cuda")
    text = f"""# Fills: figures of one run of `{command}`

{where}; torch {torch.__version__}; {given.threads} threads; {n:,} float32 elements, memory warm unless said;
backend: {backend}.

{table(rows)}
"""
    if not given.gpu:
        text += f"""
First draw of a process (loading the stream and LLVM, compiling one kernel): {first_draw() * 1e3:.0f} ms (aim: < 500).
"""
    name = "results_gpu.md" if given.gpu else "results.md"
    Path(__file__).with_name(name).write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
