"""What it costs to verify a checkpoint, and to make one again: ratios of one run.

    python benchmarks/verify.py [--gigabytes 2] [--folder DIR]    # verify / reading the file
    python benchmarks/verify.py billion [--folder DIR]            # 10⁹ elements made again, compared with a model
    python benchmarks/verify.py memory [--gigabytes 12]           # peak memory of a manifest that is written to files

The file is read in three ways: with an empty page cache, into memory of its own (as a loader does), and into one small
buffer that stays in the processor's cache, which nobody who wants the values can do.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import initframe
from initframe.files.safetensors import save_tensors
from initframe.plan.manifest import seal

REPEATS = 5
BUFFER = 1 << 22


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="speed", choices=["speed", "billion", "memory"])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", default=None)
    asked = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        if asked.what == "billion":
            sys.exit(billion(Path(folder)))
        if asked.what == "memory":
            memory(Path(folder), asked.gigabytes)
        else:
            speed(Path(folder), asked.gigabytes)


def memory(folder: Path, gigabytes: float) -> None:
    """Write the tensors of a large manifest, of which no model was ever made, and tell the peak."""
    shape, count = [4096, 14336], int(gigabytes * 1e9 / 2 / 4096 / 14336)
    fill = {"kind": "normal", "mean": 0.0, "std": 0.02}
    entries = [{"name": f"{i}.weight", "shape": shape, "dtype": "bfloat16", "fill": fill} for i in range(count)]
    record = seal({"format": 2, "seed": 0, "generator": "stream", "tensors": entries})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    made = initframe.regenerate(record, path=folder, check=False)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    size = sum(tensor.nbytes for tensor in made.values())
    print(f"{size / 1e9:.1f} GB in {seconds:.0f} s; peak memory grew by {peak / 1024:.0f} MiB")


def speed(folder: Path, gigabytes: float) -> None:
    """Compare verify with reading the file."""
    rows = int(gigabytes * 1e9 / 4 / 4096 / 8)
    model = nn.Sequential(*(nn.Linear(4096, rows, bias=False) for _ in range(8)))
    record = initframe.manifest(initframe.reinit(model, {"rules": {"*": "normal"}}, measure="after"))
    path = folder / "model.safetensors"
    save_tensors(model, path)
    del model
    os.sync()
    size = path.stat().st_size
    for title, read, empty in (
        ("from the disk", lambda: into_memory(path), lambda: forget(path)),
        ("into memory", lambda: into_memory(path), None),
        ("into one buffer", lambda: into_buffer(path), None),
    ):
        pairs = [(timed(read, empty), timed(lambda: verified(record, path), empty)) for _ in range(REPEATS)]
        reading, verifying = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        print(f"{title}: read {size / reading / 1e9:.2f} GB/s, verify {size / verifying / 1e9:.2f} GB/s: {ratio:.2f}")


def timed(call: Callable[[], object], before: Callable[[], object] | None) -> float:
    """Seconds that a call takes."""
    if before is not None:
        before()
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def into_memory(path: Path) -> int:
    """Read a file as a loader does."""
    return len(path.read_bytes())


def into_buffer(path: Path) -> None:
    """Read a file and keep nothing of it."""
    buffer = bytearray(BUFFER)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def forget(path: Path) -> None:
    """Empty the page cache of a file."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def verified(record: dict[str, object], path: Path) -> None:
    """Verify the file."""
    if not initframe.verify(record, path).ok:
        sys.exit("the file is not what the manifest promises")


class Layer(nn.Module):
    """The weights of a transformer's layer, in bfloat16."""

    def __init__(self, width: int = 2048, hidden: int = 8192) -> None:
        super().__init__()
        for name in ("q", "k", "v", "o"):
            setattr(self, name, nn.Linear(width, width, bias=False, dtype=torch.bfloat16, device="meta"))
        for name, shape in {"gate": (width, hidden), "up": (width, hidden), "down": (hidden, width)}.items():
            setattr(self, name, nn.Linear(*shape, bias=False, dtype=torch.bfloat16, device="meta"))


def billion(folder: Path) -> int:
    """Make a model of a billion elements, make it again from its manifest alone, and compare."""
    model = nn.Sequential(*(Layer() for _ in range(15)))
    rules = {
        "normal": {"match": "*", "init": "normal", "std": 0.02},
        "cut": {"match": ["*.q.weight", "*.k.weight"], "init": "trunc_normal", "std": 0.02},
        "uniform": {"match": "*.up.weight", "init": "xavier_uniform"},
        "down": {"match": "*.down.weight", "init": "normal", "std": "0.02 / sqrt(2 * 15)"},
    }
    report = initframe.materialize(model, {"rules": rules}, seed=2**63, measure="after")
    record = initframe.manifest(report)
    began = time.perf_counter()
    made = initframe.regenerate(record, path=folder, max_shard_size="1GB")
    seconds = time.perf_counter() - began
    state = model.state_dict()
    equal = [name for name in state if torch.equal(made[name].view(torch.int16), state[name].view(torch.int16))]
    elements = sum(state[name].numel() for name in equal)
    print(
        f"{elements:,} elements of {len(equal)} of {len(state)} tensors equal, written and checked in {seconds:.0f} s"
    )
    return int(len(equal) != len(state) or elements < 10**9)


if __name__ == "__main__":
    main()
