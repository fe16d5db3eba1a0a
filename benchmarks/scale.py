"""What deferred construction, checkpoints without a model and shards cost: ratios of one run.

    python benchmarks/scale.py [--layers 32] [--folder DIR] [--quick]

Every side runs in a process of its own, so that its peak memory is its own. The checkpoint has the shapes of a Llama of
7 billion parameters in bfloat16 (13.5 GB, fewer --layers for less), is written until it is on the disk, and deleted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

import initframe

CUT = {"std": 0.02, "a": -0.04, "b": 0.04}
VIT = {
    "rules": {
        "weights": {"match": "*", "where": "ndim > 1", "init": "trunc_normal", **CUT},
        "vectors": {"match": "*", "where": "ndim < 2", "init": "zeros"},
    }
}
LLAMA = {"rules": {"*": {"init": "normal", "std": 0.02}}}
BLOCK = 1 << 26
"""Bytes of zeros that are written at a time."""


# --- sides, each in a process of its own -----------------------------------------------------------------------------


def vit_deferred(_):
    from torchvision.models import vit_h_14

    warm_up()

    def work():
        with initframe.deferred():
            model = vit_h_14()
        initframe.materialize(model, VIT, seed=0)
        return model

    return measured(work)


def vit_loop(_):
    from torchvision.models import vit_h_14

    def work():
        model = vit_h_14()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, **CUT)
            else:
                nn.init.zeros_(parameter)
        return model

    return measured(work)


def checkpoint(args):
    warm_up(torch.bfloat16)
    plan = initframe.resolve(LLAMA, llama(args.layers))
    start = time.perf_counter()
    files = initframe.write_checkpoint(plan, args.folder, seed=0, dtype=torch.bfloat16)
    os.sync()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak": peak(), "bytes": sum(file.stat().st_size for file in files)}


def zeros(args):
    block = bytes(BLOCK)
    start = time.perf_counter()
    with (args.folder / "zeros").open("wb", buffering=0) as file:
        for _ in range(args.bytes // BLOCK):
            file.write(block)
        file.write(block[: args.bytes % BLOCK])
    os.sync()
    return {"seconds": time.perf_counter() - start}


def shares(_):
    """Seconds to fill one process's shards of a model's blocks, for worlds of several sizes."""
    from torch.distributed.tensor import Shard

    from initframe.applying.placements import sharded

    torch.set_num_threads(1)
    warm_up()
    shapes = {name: tuple(tensor.shape) for name, tensor in llama(2).state_dict().items()}
    regions = {
        size: {name: sharded(shape, (size,), (0,), (Shard(0),)) for name, shape in shapes.items()} for size in (1, 2, 4)
    }
    memory = {size: {name: torch.ones(r.local_shape) for name, r in own.items()} for size, own in regions.items()}
    seconds = dict.fromkeys(regions, float("inf"))
    for size in [*regions] * 8:
        start = time.perf_counter()
        for name, region in regions[size].items():
            initframe.fill_(memory[size][name], initframe.Normal(0, 0.02), name=name, region=region)
        seconds[size] = min(seconds[size], time.perf_counter() - start)
    return {"seconds": seconds}


def llama(layers, width=4096, hidden=11008, vocabulary=32000):
    """The tensors of a Llama of 7 billion parameters, without its arithmetic."""
    with initframe.deferred():
        blocks = [
            nn.ModuleDict(
                {
                    **{name: nn.Linear(width, width, bias=False) for name in ("wq", "wk", "wv", "wo")},
                    **{name: nn.Linear(width, hidden, bias=False) for name in ("w1", "w3")},
                    "w2": nn.Linear(hidden, width, bias=False),
                }
            )
            for _ in range(layers)
        ]
        ends = nn.Embedding(vocabulary, width), nn.Linear(width, vocabulary, bias=False)
        return nn.ModuleDict({"embeddings": ends[0], "layers": nn.ModuleList(blocks), "output": ends[1]})


def warm_up(dtype=torch.float32):
    """Have the kernels compiled: that is benchmarks/fills.py's figure."""
    for law in (initframe.Normal(), initframe.TruncatedNormal()):
        initframe.fill_(torch.empty(9, dtype=dtype), law, name="w")


def measured(work):
    touch_memory()
    before, start = peak(), time.perf_counter()
    model = work()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak": peak() - before, "bytes": sum(p.nbytes for p in model.parameters())}


def touch_memory(size=3 << 30):
    """Have the machine's memory at hand: a virtual one fetches it from its host at first, at any speed."""
    memory = torch.empty(size // 4)
    initframe.stream.prefer_huge_pages(memory)
    memory.fill_(1)
    del memory
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak that this was


def peak():
    """The most memory that this process has held, in bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


# --- the run ---------------------------------------------------------------------------------------------------------

SIDES = {side.__name__: side for side in (vit_deferred, vit_loop, checkpoint, zeros, shares)}


def run(side, args, **more):
    line = [sys.executable, __file__, "--side", side, "--folder", str(args.folder), "--layers", str(args.layers)]
    line += ["--quick"] * args.quick + [text for key, value in more.items() for text in (f"--{key}", str(value))]
    return json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def main():
    args = parsed()
    if args.side:
        print(json.dumps(SIDES[args.side](args)))
        return
    args.folder = Path(tempfile.mkdtemp(prefix="scale-", dir=args.folder))
    try:
        report(args)
    finally:
        shutil.rmtree(args.folder)


def report(args):
    print(f"{platform.machine()}, {os.cpu_count()} cores; torch {torch.__version__}; load {os.getloadavg()[0]:.1f}\n")
    print("| what | figure | aim |\n|---|---|---|")
    for row in rows(args):
        print("| " + " | ".join(row) + " |", flush=True)


def rows(args):
    """What was measured, the figure, and the aim."""
    if not args.quick:
        ours, theirs = quickest("vit_deferred", args), quickest("vit_loop", args)
        title = f"vit_h_14, {ours['bytes'] / 4e6:.0f} M: constructor and torch.nn.init / deferred and materialized, s"
        yield title, quotient(theirs["seconds"], ours["seconds"]), "≥ 15"
        yield "its peak memory / its weights", f"{ours['peak'] / ours['bytes']:.3f}", "≤ 1.1"
        yield "the same, constructor and torch.nn.init", f"{theirs['peak'] / theirs['bytes']:.3f}", ""
    plain, ours = checkpoints(args)
    title = f"{ours['bytes'] / 1e9:.1f} GB checkpoint in bfloat16 until it is on the disk: zeros / ours, s"
    yield title, quotient(plain["seconds"], ours["seconds"]), "≥ 0.6"
    yield "peak memory of its process, MiB, torch included", f"{ours['peak'] / 2**20:.0f}", "< 1024"
    alone, *several = run("shares", args)["seconds"].items()
    for size, seconds in several:
        yield (
            f"work of one of {size} processes / (the whole / {size})",
            f"{int(size) * seconds / alone[1]:.3f}",
            "± 0.1",
        )


def checkpoints(args, turns=2):
    """The quicker of two runs of each side, in turns: a virtual disk gives blocks that it gave before far sooner."""
    size = 2 * sum(p.numel() for p in llama(args.layers).parameters())
    sides = {"zeros": [], "checkpoint": []}
    for side in [*sides] * turns:
        os.sync()
        sides[side].append(run(side, args, bytes=size))
        for file in args.folder.iterdir():
            file.unlink()
    return [min(found, key=lambda run: run["seconds"]) for found in sides.values()]


def quickest(side, args, turns=3):
    return min((run(side, args) for _ in range(turns)), key=lambda found: found["seconds"])


def quotient(one, other):
    return f"{one:.1f} / {other:.2f} = {one / other:.2f}"


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--quick", action="store_true", help="a small checkpoint, and no vit_h_14")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--bytes", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.layers = 2
    return args


if __name__ == "__main__":
    main()
