"""He et al. 2015, figures 2 and 3: how deep a plain ReLU network can be under xavier and under kaiming."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from initframe.experiments.claim import Check, Claim, Panel, Results, Run, Settings, Value
from initframe.experiments.digits import load_small_digits
from initframe.experiments.fit import learned
from initframe.experiments.networks import convnet


def build(at: Settings) -> nn.Module:
    """A plain convolutional network without normalization."""
    return convnet(at["channels"], at["depth"], nn.ReLU)


def measure(run: Run) -> Mapping[str, Value]:
    """Train by gradient descent with momentum, as in the paper."""
    optimizer = torch.optim.SGD(run.model.parameters(), lr=run.at["lr"], momentum=0.9)
    return learned(run.model, optimizer, load_small_digits()[0], run.at["steps"], run.seed)


def checks(found: Results, at: Settings) -> Iterator[Check]:
    """A network that learned nothing has the loss ln 10 = 2.30."""
    *_, shallow, deep = at["sweep"]["depth"]
    words = "loss after the last step"
    for start in ("kaiming", "xavier"):
        yield Check(
            f"{shallow} layers, {start}: {words}", "converges", found.of("last", start=start, depth=shallow), high=1.0
        )
    yield Check(
        f"{deep} layers, kaiming: {words}", "converges", found.of("last", start="kaiming", depth=deep), high=1.0
    )
    stalled = found.of("last", start="xavier", depth=deep)
    yield Check(f"{deep} layers, xavier: {words}", "stalls (2.30 is chance)", stalled, low=2.2)


CLAIM = Claim(build, measure, checks, (Panel("curve", "training loss", "step", lines=("depth",)),))
