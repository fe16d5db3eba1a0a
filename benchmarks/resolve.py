"""How long resolving takes beside building the model on the meta device, and how it grows.

    python benchmarks/resolve.py

Two models: Llama 405B's shape (126 layers), and a synthetic one of 100,000 tensors. Twenty rules. Ratios in one run.
"""

from __future__ import annotations

import time

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


def llama(layers: int) -> nn.Module:
    with torch.device("meta"):
        return Llama(layers)


def synthetic(tensors: int) -> nn.Module:
    return llama(tensors // 9)


def timed(call, *args):
    best, result = float("inf"), None
    for _ in range(3):
        start = time.perf_counter()
        result = call(*args)
        best = min(best, time.perf_counter() - start)
    return best, result


def row(title: str, build, size: int) -> None:
    building, model = timed(build, size)
    resolving, plan = timed(initframe.resolve, {"rules": RULES}, model)
    half_rules = {"rules": dict(list(RULES.items())[::2])}
    halved, _ = timed(initframe.resolve, half_rules, model)
    count = len(plan.assignments)
    print(
        f"{title:28s} {count:7d} tensors  build {building:6.3f} s  resolve {resolving:6.3f} s  "
        f"resolve/build {resolving / building:5.2f}  20 rules/10 rules {resolving / halved:4.2f}  "
        f"{resolving / count / len(RULES) * 1e6:5.2f} µs per tensor and rule"
    )


if __name__ == "__main__":
    assert len(RULES) == 20
    row("Llama 405B", llama, 126)
    for tensors in (25_000, 50_000, 100_000):
        row("synthetic", synthetic, tensors)
