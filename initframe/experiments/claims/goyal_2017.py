"""Goyal et al. 2017, section 5.1: residual blocks whose last norm starts at zero."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.models.resnet import BasicBlock

from initframe.experiments.claim import Check, Claim, Panel, Results, Run, Settings, Value
from initframe.experiments.digits import load_small_digits
from initframe.experiments.fit import learned
from initframe.signal.propagate import propagate


def build(at: Settings) -> nn.Module:
    """Torchvision's blocks, at one width, on digits."""
    width = at["channels"]
    stem = (nn.Conv2d(1, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    blocks = (BasicBlock(width, width) for _ in range(at["depth"]))
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def measure(run: Run) -> Mapping[str, Value]:
    """Measure activations and gradients of the blocks' outputs, then train at a large learning rate."""
    digits, _ = load_small_digits()
    labels = digits.labels[:256]
    signal = propagate(run.model, digits.images[:256], loss=lambda out: cross_entropy(out, labels))
    blocks = [row for row in signal.rows if row.op == "BasicBlock"]
    optimizer = torch.optim.SGD(run.model.parameters(), lr=run.at["lr"], momentum=0.9)
    found = learned(run, optimizer, digits)
    early = found["curve"][: run.at["early"]]  # type: ignore[index]
    return {
        **found,
        "sizes": [row.rms or 0.0 for row in blocks],
        "growth": (blocks[-1].rms or 0.0) / (blocks[0].rms or 1.0),
        "backward": (blocks[0].grad_rms or 0.0) / (blocks[-2].grad_rms or 1.0),
        "early": sum(early) / len(early),
    }


def checks(found: Results, at: Settings) -> Iterator[Check]:
    """With γ = 0 every block is its shortcut: nothing grows. The early loss is lower."""
    zero, one = "γ = 0", "γ = 1"
    yield Check(
        f"{zero}: size of the last block's output / the first's",
        "1: blocks are the identity",
        found.of("growth", start=zero),
        0.999,
        1.001,
    )
    yield Check(f"{one}: size of the last block's output / the first's", "grows", found.of("growth", start=one), 1.5)
    yield Check(
        f"{zero}: gradient of the first block's output / the last's",
        "1",
        found.of("backward", start=zero),
        0.999,
        1.001,
    )
    for lr in at["sweep"]["lr"]:
        losses = (found.of("early", start=start, lr=lr) for start in (zero, one))
        gap = tuple(b - a for a, b in zip(*losses, strict=True))
        is_large = lr == at["sweep"]["lr"][-1]
        paper = "> 0: easier early optimization" if is_large else "— (a large rate is meant)"
        words = f"learning rate {lr:g}, mean loss of the first {at['early']} steps: {one} minus {zero}"
        yield Check(words, paper, gap, 0.0 if is_large else -math.inf)


CLAIM = Claim(
    build,
    measure,
    checks,
    (
        Panel("curve", "training loss", "step", lines=("lr",), logarithmic=True),
        Panel("sizes", "size of the output", "block", where=lambda at: at["lr"] > 0.5),
    ),
)
