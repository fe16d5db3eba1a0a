"""How long resolving takes beside building the model on the meta device, how it grows, and what a plan weighs.

    python benchmarks/resolve.py [TENSORS ...]      by default 25000 100000; 1000000 takes five minutes and 10 GB

Llama 405B's shape (126 layers), and as many layers of it as have so many tensors; 20 and 50 rules. Ratios in one run;
processor time, the least of three runs, of models above 200,000 tensors of one.
"""

from __future__ import annotations

import sys
import time
import tracemalloc

import torch
from torch import nn

import initframe

PROJECTIONS = ("wq", "wk", "wv", "wo", "w1", "w2", "w3")


class Block(nn.Module):
    """One layer of a Llama: grouped-query attention and a gated MLP, without a forward pass."""

    def __init__(self, dim: int, kv: int, hidden: int) -> None:
        super().__init__()
        for name, out, into in zip(
            PROJECTIONS, (dim, kv, kv, dim, hidden, dim, hidden), (dim,) * 5 + (hidden, dim), strict=True
        ):
            self.add_module(name, nn.Linear(into, out, bias=False))
        self.attention_norm = nn.RMSNorm(dim)
        self.ffn_norm = nn.RMSNorm(dim)


class Llama(nn.Module):
    """The tensors of a Llama, by default those of 405B."""

    def __init__(self, layers: int = 126, dim: int = 16384, kv: int = 1024, hidden: int = 53248) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(128256, dim)
        self.layers = nn.ModuleList(Block(dim, kv, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(dim)
        self.output = nn.Linear(dim, 128256, bias=False)


RULES = {
    "everything": {"match": "*", "init": "trunc_normal", "std": 0.02},
    "embedding": {"match": "tok_embeddings.weight", "init": "normal"},
    "output": {"match": "output.weight", "init": "trunc_normal", "std": "d1 ** -0.5", "a": "-3 * std", "b": "3 * std"},
    **{
        name: {"match": f"*.{{layer}}.{name}.weight", "init": "trunc_normal", "std": "0.02 / sqrt(2 * (layer + 1))"}
        for name in PROJECTIONS
    },
    **{
        f"{name}_first": {"match": f"layers.0.{name}.weight", "where": "ndim == 2", "init": "normal", "std": 0.02}
        for name in PROJECTIONS
    },
    "norms": {"match": "*norm.weight", "init": "ones"},
    "all_norms": {"match": "*", "module": "*Norm*", "init": "ones"},
    "matrices": {"match": "layers.*.w2.weight", "where": "fan_in > 1 and fan_out > 1", "init": "kaiming_normal"},
}


MORE = {
    f"{name}_{first}": {"match": f"layers.{first}.{name}.weight", "init": "normal", "std": 0.01}
    for first in range(1, 6)
    for name in PROJECTIONS
}
FIFTY = {**RULES, **dict(list(MORE.items())[:30])}


def llama(layers: int) -> nn.Module:
    with torch.device("meta"):
        return Llama(layers)


def timed(rounds, call, *args):
    best, result = float("inf"), None
    for _ in range(rounds):
        result = None  # not two at once
        start = time.process_time()
        result = call(*args)
        best = min(best, time.process_time() - start)
    return best, result


def weight(model: nn.Module) -> float:
    """Bytes that a plan holds beside its model."""
    tracemalloc.start()
    plan = initframe.resolve({"rules": RULES}, model)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / len(plan.assignments)


def row(layers: int) -> None:
    rounds = 1 if layers > 25_000 else 3
    building, model = timed(rounds, llama, layers)
    resolving, plan = timed(rounds, initframe.resolve, {"rules": RULES}, model)
    count, plan = len(plan.assignments), None
    fifty, _ = timed(rounds, initframe.resolve, {"rules": FIFTY}, model)
    print(
        f"| {count:,} | {building:.2f} | {resolving:.2f} | {resolving / building:.2f} | {resolving / count * 1e6:.0f} "
        f"| {fifty / resolving:.2f} | {f'{weight(model) / 1024:.1f}' if rounds > 1 else ''} |",
        flush=True,
    )


if __name__ == "__main__":
    assert (len(RULES), len(FIFTY)) == (20, 50)
    print("| tensors | build, s | resolve, s | resolve/build | µs a tensor | 50 rules/20 rules | plan, KiB a tensor |")
    print("|---|---|---|---|---|---|---|")
    for layers in (126, *(int(tensors) // 9 for tensors in sys.argv[1:] or (25_000, 100_000))):
        row(layers)
